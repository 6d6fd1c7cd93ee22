//! The live screen: what stands on it, and what keys do to that. All of it is plain data and
//! drawing; where the figures come from, and when, is the business of `commands::top`.
//!
//! - `row`: one stake, as far as the list and its order need it; `detail`: everything about one
//! - `order`: which stakes are listed, and in which order
//! - `history`: what was seen to change, and the curves
//! - `state`: the screen as it is; `keys`: what each key does to it
//! - `draw`: the screen as text
//! - `guard`: takes the terminal, and gives it back whatever happens; `sixteen`: its colours

mod draw;
pub mod guard;
mod history;
pub mod keys;
mod order;
pub mod row;
mod sixteen;
pub mod state;
mod theme;

#[cfg(test)]
mod top_tests;

pub use draw::draw;
pub use state::{Detail, Facts, From, Screen};
pub use theme::Theme;
