//! What every call to a manager passes before a handler sees it.

pub mod forward;
pub mod member;
pub mod peers;
