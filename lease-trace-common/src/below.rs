//! Where a file was, as far as rules ask: what is kept of that in the records of leases and stakes.

use crate::policy::{Header, RULES};

/// Below the `path` of which rules a file was, when its lease was set or it was first pinned: a bit for each rule, and
/// the generation of their policy in the upper half, which is 0 as long as nobody has looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Below(pub u64);

impl Below {
    #[inline(always)]
    pub const fn new(header: Header, rules: u32) -> Self {
        Self((header.generation() as u64) << 32 | rules as u64)
    }

    /// Whether it is about the rules of this policy.
    #[inline(always)]
    pub const fn is_of(self, header: Header) -> bool {
        header.generation() != 0 && (self.0 >> 32) as u32 == header.generation()
    }

    /// What is known by both, or by the one of the newer policy.
    #[must_use]
    #[inline(always)]
    pub const fn joined(self, other: Self) -> Self {
        let (own, others) = ((self.0 >> 32) as u32, (other.0 >> 32) as u32);
        if own == others {
            Self(self.0 | other.0)
        } else if own > others {
            self
        } else {
            other
        }
    }

    /// The rules, if it is about those of this policy.
    #[inline(always)]
    pub const fn rules(self, header: Header) -> u32 {
        if self.is_of(header) { self.0 as u32 } else { 0 }
    }
}

const _: () = assert!(RULES <= 32);
