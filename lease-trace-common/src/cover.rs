//! Leases that cover a process which did not set them.

/// Key of a cover: a lease and a thread group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoverKey {
    /// Address of the `file_lease`.
    pub lease: u64,
    pub tgid: u32,
    zero: u32,
}

impl CoverKey {
    #[inline(always)]
    pub const fn new(lease: u64, tgid: u32) -> Self {
        Self {
            lease,
            tgid,
            zero: 0,
        }
    }
}

const _: () = assert!(size_of::<CoverKey>() == 16);

crate::pod!(CoverKey);
