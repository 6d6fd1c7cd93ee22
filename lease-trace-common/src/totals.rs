//! Totals over all records.

use crate::line::Line;

/// One map of one value. Each is read by hooks that run often, and written by others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inode records there are: 0 lets the release hooks return at once.
    pub tracked: Line,
    /// Inode records with pins: 0 tells the hooks that deny that no release can be a breach.
    pub pinned: Line,
    /// Long-term pin calls under way on all CPUs: 0 spares a lookup at each release.
    pub pinning: Line,
}

impl Totals {
    /// The map, named after its section.
    pub const MAP: &str = ".bss.TOTALS";
}

const _: () = assert!(size_of::<Totals>() == 3 * size_of::<Line>());

crate::pod!(Totals);
