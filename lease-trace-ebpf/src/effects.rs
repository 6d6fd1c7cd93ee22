//! What others notice: notifications, wake-ups, stacks, contexts.

pub mod context;
pub mod notes;
pub mod notify;
pub mod stack;
