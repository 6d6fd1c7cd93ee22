//! Releases that a hook can refuse, looked at before they happen.

pub mod close;
pub mod unlock;
pub mod unmap;
