//! One task: what to do next ([`fsm`]), whether to start it again here ([`restart`]), and doing it ([`runner`]), a few
//! at a time ([`places`]).

pub(crate) mod fsm;
pub(crate) mod places;
pub(crate) mod restart;
pub(crate) mod runner;
