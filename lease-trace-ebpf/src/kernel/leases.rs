//! The leases of an inode, as the kernel lists them.

use core::ffi::c_void;

use crate::bpf::loops;

use super::{
    file::{list_next, list_prev},
    memory::{File, FileLease, InodePtr},
};

/// Leases of one inode looked through for the one on a given file.
const MAX_LEASES: u32 = 1 << 16;

/// How many leases are listed of this inode: 2 stands for any more.
#[inline(always)]
pub fn number(inode: InodePtr) -> u64 {
    let Some(head) = inode.lease_list() else {
        return 0;
    };
    match (list_next(head), list_prev(head)) {
        (Some(first), Some(last)) if first != head => 1 + u64::from(first != last),
        _ => 0,
    }
}

/// The newest lease on this open file description.
#[inline(always)]
pub fn find(file: File) -> Option<FileLease> {
    match leases_find(file.0) {
        0 => None,
        lease => Some(FileLease(lease as u64)),
    }
}

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leases_find(file: u64) -> i64 {
    find_here(File(file)).map_or(0, |lease| lease.0 as i64)
}

/// The same for a caller with whom calls go as deep as they may.
#[inline(always)]
pub fn find_here(file: File) -> Option<FileLease> {
    let head = file.inode().and_then(InodePtr::lease_list)?;
    let entry = list_prev(head).filter(|entry| *entry != head)?;
    let mut search = Search { file, head, entry };
    loops::repeat(MAX_LEASES, is_on_file, &mut search);
    let lease = FileLease::of_list(search.entry);
    let is_found = search.entry != search.head && lease.file() == Some(search.file);
    is_found.then_some(lease)
}

/// Small, because some who look for a lease have little stack.
struct Search {
    file: File,
    head: u64,
    /// The one to be looked at: in the end the one that was found, else the head or any.
    entry: u64,
}

unsafe extern "C" fn is_on_file(_index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `find` gave it.
    let search = unsafe { &mut *search.cast::<Search>() };
    if search.entry == search.head || FileLease::of_list(search.entry).file() == Some(search.file) {
        return 1;
    }
    match list_prev(search.entry) {
        Some(previous) => search.entry = previous,
        None => return 1,
    }
    0
}
