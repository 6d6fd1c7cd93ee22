//! Releases that a hook can refuse, looked at before they happen.

pub mod close;
mod tally;
pub mod unlock;
pub mod unmap;
