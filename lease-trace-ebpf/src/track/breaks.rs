//! Who wants a lease broken. Noted when a break begins, since the lease ends later: in the holder's
//! own unlock, or in the system call of whoever comes along after the time is up.

use core::ffi::c_void;

use lease_trace_common::{
    lease::{FL_DOWNGRADE_PENDING, FL_UNLOCK_PENDING},
    stake::Task,
};

use crate::{
    bpf::loops,
    kernel::{self, FileLease, InodePtr, current},
    state::maps::BREAKERS,
};

/// Leases of one inode looked through: as many as `LEASES` has room for, by default. If only one behind them is
/// being broken, a later breaker is taken for the first.
const MAX_LEASES: u32 = 1 << 16;

/// `__break_lease` was entered: somebody opens, truncates or renames a file with leases. If it does
/// not conflict with them, nothing comes of this; who really breaks one overwrites it. While a
/// break is under way, its first breaker stays.
#[inline(always)]
pub fn note(inode: InodePtr) {
    if is_under_way(inode) {
        return;
    }
    if let Some(pages) = inode.pages() {
        // Others may push it out: then it is not known who it was.
        _ = BREAKERS.insert(&pages.0, &current::describe(), 0);
    }
}

/// Who wanted a lease on the file broken whose pages this inode has.
#[inline(always)]
pub fn breaker(address: u64) -> Option<*const Task> {
    BREAKERS.get_ptr(&address)
}

struct Search {
    head: u64,
    entry: u64,
    found: u64,
}

#[inline(always)]
fn is_under_way(inode: InodePtr) -> bool {
    let Some(head) = inode.lease_list() else {
        return false;
    };
    let Some(entry) = kernel::list_prev(head) else {
        return false;
    };
    let mut search = Search {
        head,
        entry,
        found: loops::zero(),
    };
    loops::repeat(MAX_LEASES, is_breaking, &mut search);
    search.found != 0
}

unsafe extern "C" fn is_breaking(_index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `is_under_way` gave it.
    let search = unsafe { &mut *search.cast::<Search>() };
    if search.entry == search.head {
        return 1;
    }
    let flags = FileLease::of_list(search.entry).flags();
    if flags & (FL_UNLOCK_PENDING | FL_DOWNGRADE_PENDING) != 0 {
        search.found = 1;
        return 1;
    }
    match kernel::leases::before(search.entry) {
        Some(previous) => search.entry = previous,
        None => return 1,
    }
    0
}
