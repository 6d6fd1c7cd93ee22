//! Calls entered and not yet left.

/// One of them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// First address to pin; for `generic_setlease` and `memfd_pin_folios` the file, for
    /// `io_ring_exit_work` its argument.
    pub start: u64,
    /// `struct page **`.
    pub pages: u64,
    /// Address space pinned, 0 for the current one; for `io_ring_exit_work` that of the ring.
    pub mm: u64,
    /// How many folios had left the page cache while pinned when a call that pins began.
    pub detachings: u64,
    /// FOLL flags; for `generic_setlease` the mode asked for.
    pub flags: u32,
    /// 1 if this call is counted in [`crate::totals::Totals::pinning`].
    pub pinning: u32,
    /// 1: it pins in the file `start`, whatever is mapped (`memfd_pin_folios`).
    pub of_file: u32,
    /// The thread that made it: what is read of a record says whether it still is that thread's.
    pub tid: u32,
    /// Address of the `task_struct` of the thread that made it; it may be gone.
    pub task: u64,
}

impl Call {
    /// A call with a file or an address, an array of pages and flags.
    #[inline(always)]
    pub const fn new(start: u64, pages: u64, flags: u32) -> Self {
        Self {
            start,
            pages,
            mm: 0,
            detachings: 0,
            flags,
            pinning: 0,
            of_file: 0,
            tid: 0,
            task: 0,
        }
    }

    /// `memfd_pin_folios`.
    #[inline(always)]
    pub const fn of_file(file: u64, flags: u32) -> Self {
        Self {
            of_file: 1,
            ..Self::new(file, 0, flags)
        }
    }

    /// Whether it is that.
    #[inline(always)]
    pub const fn is_of_file(&self) -> bool {
        self.of_file != 0
    }
}

crate::pod!(Call);
