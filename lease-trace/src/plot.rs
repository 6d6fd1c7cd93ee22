//! Pictures of a record: what `monitor -o json --all-events` wrote, as a timeline of leases and
//! pins. Text goes in, text comes out; nothing here asks the kernel.

pub mod axis;
pub mod follow;
pub mod html;
#[cfg(test)]
mod plot_tests;
pub mod read;
pub mod svg;
pub mod timeline;
pub mod xml;
