//! The globals of an object: a map of one value for each section, which aya fills only for objects that it loads
//! itself.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::bpf::call;

/// `union bpf_attr` for `BPF_MAP_UPDATE_ELEM` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Update {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The same for `BPF_MAP_FREEZE`.
#[repr(C)]
struct Freeze {
    map_fd: u32,
}

/// Writes the section's bytes into its map.
///
/// # Safety
/// `section` is as long as the map's value.
pub unsafe fn fill(map: BorrowedFd, section: &[u8]) -> io::Result<()> {
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    let key = 0_u32;
    let attr = Update {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const key as u64,
        value: section.as_ptr() as u64,
        ..Update::default()
    };
    // SAFETY: `Update` is this command's attribute. It points to a key of four bytes, as arrays have it, and to
    // the section, whose length the caller vouches for; both outlive the call.
    unsafe { call(BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// Nobody writes to the map from user space any more: the verifier knows what is in it.
pub fn freeze(map: BorrowedFd) -> io::Result<()> {
    const BPF_MAP_FREEZE: libc::c_int = 22;
    let attr = Freeze {
        map_fd: map.as_raw_fd() as u32,
    };
    // SAFETY: `Freeze` is this command's attribute, and points nowhere.
    unsafe { call(BPF_MAP_FREEZE, &attr) }.map(drop)
}
