//! Totals over all records. What is read at each release is not where others write.

/// One map of one value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inode records there are: 0 lets the release hooks return at once.
    pub tracked: u64,
    /// Inode records with pins: 0 tells the hooks that deny that no release can be a breach.
    pub pinned: u64,
    /// Long-term pin calls under way on all CPUs: 0 spares a look-up at each release.
    pub pinning: u64,
}

impl Totals {
    /// The map, named after its section.
    pub const MAP: &str = ".bss.TOTALS";
}

crate::pod!(Totals);
