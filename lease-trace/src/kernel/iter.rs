//! BPF iterators: programs that the kernel runs while somebody reads. aya makes none with parameters.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use super::bpf::{create_link, descriptor};

const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_TRACE_ITER: u32 = 28;

/// What `union bpf_attr` has for a link of an iterator (include/uapi/linux/bpf.h).
#[repr(C)]
struct OfIter {
    iter_info: u64,
    iter_info_len: u32,
    padding: u32,
}

/// The same for `BPF_ITER_CREATE`.
#[repr(C)]
#[derive(Default)]
struct CreateIter {
    link_fd: u32,
    flags: u32,
}

/// `union bpf_iter_link_info`, its `task`: a thread, a process or a pidfd.
#[repr(C)]
#[derive(Default)]
struct TaskInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
}

/// The same, its `map`.
#[repr(C)]
struct MapInfo {
    map_fd: u32,
}

/// Lets an iterator over tasks walk over all of them, or over the threads of one process (6.1); what
/// is read from the descriptor is what the program writes. For a process that is gone, nothing.
pub fn over_tasks(program: BorrowedFd, tgid: Option<u32>) -> io::Result<OwnedFd> {
    let info = tgid.map(|pid| TaskInfo {
        pid,
        ..TaskInfo::default()
    });
    begin(link(program, info.as_ref())?.as_fd())
}

/// Begins a walk of an iterator that is attached; what is read from the descriptor is what the program writes.
pub fn begin(link: BorrowedFd) -> io::Result<OwnedFd> {
    let attr = CreateIter {
        link_fd: link.as_raw_fd() as u32,
        ..CreateIter::default()
    };
    // SAFETY: `CreateIter` is this command's attribute; it points nowhere.
    unsafe { descriptor(BPF_ITER_CREATE, &attr) }
}

/// An iterator over the elements of a map, to be pinned: each open(2) of the pin begins anew.
pub fn over_map(program: BorrowedFd, map: BorrowedFd) -> io::Result<OwnedFd> {
    let info = MapInfo {
        map_fd: map.as_raw_fd() as u32,
    };
    link(program, Some(&info))
}

/// `T` is a member of `union bpf_iter_link_info`, which is made of integers.
fn link<T>(program: BorrowedFd, info: Option<&T>) -> io::Result<OwnedFd> {
    let of_iter = OfIter {
        iter_info: info.map_or(0, |info| std::ptr::from_ref(info) as u64),
        iter_info_len: info.map_or(0, size_of_val) as u32,
        padding: 0,
    };
    // SAFETY: `OfIter` is what such a link has; it points to `info`, with its size, which the kernel only
    // reads.
    unsafe { create_link(program, None, BPF_TRACE_ITER, of_iter) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_as_long_as_the_kernel_has_them() {
        assert_eq!(size_of::<OfIter>(), 16);
        assert_eq!(size_of::<CreateIter>(), 8);
        assert_eq!(size_of::<TaskInfo>(), 12);
        assert_eq!(size_of::<MapInfo>(), 4);
    }
}
