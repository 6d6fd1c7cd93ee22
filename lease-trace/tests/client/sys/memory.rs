//! System calls on mappings.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;

use super::{check, refusal};
use crate::reply::Failure;

pub fn mmap(
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: RawFd,
) -> Result<*mut c_void, Failure> {
    // SAFETY: without MAP_FIXED the kernel picks an address range that nothing else uses.
    let address = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED {
        Err(refusal("mmap"))
    } else {
        Ok(address)
    }
}

/// In place of whatever is mapped there.
pub fn mmap_fixed(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    sharing: c_int,
    fd: RawFd,
) -> Result<(), Failure> {
    let flags = sharing | libc::MAP_FIXED;
    // SAFETY: the range is a part of a mapping in a slot, which no Rust reference points into.
    let mapped = unsafe { libc::mmap(address, length, protection, flags, fd, 0) };
    if mapped == libc::MAP_FAILED {
        Err(refusal("mmap"))
    } else {
        Ok(())
    }
}

pub fn mremap(
    address: *mut c_void,
    old_length: usize,
    new_length: usize,
) -> Result<*mut c_void, Failure> {
    // SAFETY: the range is a mapping in a slot, which no Rust reference points into.
    let moved = unsafe { libc::mremap(address, old_length, new_length, libc::MREMAP_MAYMOVE) };
    if moved == libc::MAP_FAILED {
        Err(refusal("mremap"))
    } else {
        Ok(moved)
    }
}

/// Moves a mapping to where another one is.
pub fn mremap_fixed(
    address: *mut c_void,
    length: usize,
    place: *mut c_void,
) -> Result<*mut c_void, Failure> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are mappings in slots, which no Rust reference points into.
    let moved = unsafe { libc::mremap(address, length, length, flags, place) };
    if moved == libc::MAP_FAILED {
        Err(refusal("mremap"))
    } else {
        Ok(moved)
    }
}

pub fn munmap(address: *mut c_void, length: usize) -> Result<(), Failure> {
    // SAFETY: the range is a mapping in a slot, which no Rust reference points into.
    check(unsafe { libc::munmap(address, length) }, "munmap").map(drop)
}

/// Copies a mapping of this process through process_vm_readv(2).
pub fn vm_read(address: *mut c_void, length: usize) -> Result<usize, Failure> {
    let mut copy = vec![0_u8; length];
    let to = libc::iovec {
        iov_base: copy.as_mut_ptr().cast(),
        iov_len: length,
    };
    let from = libc::iovec {
        iov_base: address,
        iov_len: length,
    };
    // SAFETY: the kernel writes at most `length` bytes into a vector of that size, and reads a
    // mapping in a slot.
    let read =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    check(read, "process_vm_readv").map(isize::cast_unsigned)
}
