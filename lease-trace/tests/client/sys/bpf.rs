//! bpf(2) as somebody calls it who wants what others have made.

use std::ffi::{CString, c_int, c_long};
use std::os::fd::RawFd;

use super::check;
use crate::reply::{Failure, usage};

/// Commands of linux/bpf.h that turn an id into a descriptor.
pub const PROG_BY_ID: c_int = 13;
pub const MAP_BY_ID: c_int = 14;
pub const BTF_BY_ID: c_int = 19;
pub const LINK_BY_ID: c_int = 30;
const OBJ_GET: c_int = 7;

/// `union bpf_attr`, as far as these commands read it.
#[repr(C)]
struct Attributes {
    first: u64,
    rest: [u64; 2],
}

/// BPF_OBJ_GET: what a file in bpffs stands for.
pub fn get(path: &str) -> Result<RawFd, Failure> {
    let Ok(path) = CString::new(path) else {
        return usage("a path has no NUL in it");
    };
    call(OBJ_GET, path.as_ptr() as u64, "BPF_OBJ_GET")
}

/// BPF_*_GET_FD_BY_ID
pub fn by_id(command: c_int, id: u32) -> Result<RawFd, Failure> {
    call(command, u64::from(id), "BPF_*_GET_FD_BY_ID")
}

fn call(command: c_int, first: u64, name: &str) -> Result<RawFd, Failure> {
    let attributes = Attributes {
        first,
        rest: [0; 2],
    };
    // SAFETY: the kernel reads one record of the size given, and the path that its first word may
    // point to; both outlive the call.
    let fd: c_long = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(fd, name).map(|fd| fd as RawFd)
}
