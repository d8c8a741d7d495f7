//! Images from node to node: [`fetch`] brings what a task needs, [`serve`] gives to whoever shows a ticket.

pub(crate) mod fetch;
pub mod serve;

#[cfg(test)]
mod tests;
