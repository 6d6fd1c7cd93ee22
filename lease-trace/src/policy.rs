//! The policy: what the operator wrote, checked, explained, and compiled for the kernel side.
//!
//! `file` reads the form, `compile` the meaning, `check` holds it against this kernel.

pub mod check;
pub mod comm;
mod compile;
pub mod consumers;
pub mod diagnostic;
mod effect;
mod explain;
mod file;
mod ids;
pub mod replay;
pub mod resolve;
mod shadow;

pub use check::{Check, Error, Host, read};
pub use compile::{Compiled, Meaning};
pub use effect::Effect;
pub use file::DEFAULT_PATH;

#[cfg(test)]
mod policy_tests;
