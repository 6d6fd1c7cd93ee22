//! System calls on files and descriptors.

use std::collections::BTreeSet;
use std::ffi::{CString, c_int, c_long, c_uint, c_void};
use std::fs;
use std::os::fd::RawFd;

use super::check;
use crate::lease::Delegation;
use crate::reply::{Failure, usage};
use crate::uring_abi::Params;
use crate::xdp::UmemReg;
use crate::{udmabuf, uffd};

pub fn open(path: &str, flags: c_int) -> Result<RawFd, Failure> {
    let Ok(c_path) = CString::new(path) else {
        return usage("a path has no NUL in it");
    };
    // SAFETY: the path is NUL-terminated and outlives the call; the mode is read with O_CREAT only.
    check(
        unsafe { libc::open(c_path.as_ptr(), flags, 0o644) },
        format!("open {path}"),
    )
}

pub fn unlink(path: &str) -> Result<(), Failure> {
    let Ok(c_path) = CString::new(path) else {
        return usage("a path has no NUL in it");
    };
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(
        unsafe { libc::unlink(c_path.as_ptr()) },
        format!("unlink {path}"),
    )
    .map(drop)
}

pub fn memfd(name: &str, flags: c_uint) -> Result<RawFd, Failure> {
    let Ok(name) = CString::new(name) else {
        return usage("a name has no NUL in it");
    };
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) },
        "memfd_create",
    )
}

pub fn xdp_socket() -> Result<RawFd, Failure> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers, touches no memory.
    check(unsafe { libc::socket(libc::AF_XDP, kind, 0) }, "socket")
}

pub fn register_umem(socket: RawFd, umem: &UmemReg) -> Result<(), Failure> {
    // SAFETY: the kernel reads one structure of the size given, which the reference outlives.
    let returned = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_XDP,
            libc::XDP_UMEM_REG,
            (&raw const *umem).cast(),
            size_of::<UmemReg>() as libc::socklen_t,
        )
    };
    check(returned, "XDP_UMEM_REG").map(drop)
}

pub fn udmabuf_create(maker: RawFd, request: &udmabuf::Create) -> Result<RawFd, Failure> {
    /// `_IOW('u', 0x42, struct udmabuf_create)`.
    const UDMABUF_CREATE: libc::Ioctl = 0x4018_7542;
    // SAFETY: the kernel reads one `struct udmabuf_create`, which the reference outlives.
    let made = unsafe { libc::ioctl(maker, UDMABUF_CREATE, &raw const *request) };
    check(made, "UDMABUF_CREATE")
}

pub fn userfaultfd() -> Result<RawFd, Failure> {
    // SAFETY: takes a number, touches no memory.
    let made = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    check(made as RawFd, "userfaultfd")
}

pub fn uffd_register(
    uffd: RawFd,
    api: &mut uffd::Api,
    register: &mut uffd::Register,
) -> Result<(), Failure> {
    /// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
    const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
    /// `_IOWR(0xaa, 0, struct uffdio_register)`.
    const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
    // SAFETY: the kernel reads and writes one `struct uffdio_api`, which the reference outlives.
    let agreed = unsafe { libc::ioctl(uffd, UFFDIO_API, &raw mut *api) };
    check(agreed, "UFFDIO_API")?;
    // SAFETY: the same of one `struct uffdio_register`.
    let registered = unsafe { libc::ioctl(uffd, UFFDIO_REGISTER, &raw mut *register) };
    check(registered, "UFFDIO_REGISTER").map(drop)
}

/// Descriptors of RDMA devices (/dev/infiniband/uverbs0) that are open now.
pub fn open_devices() -> BTreeSet<RawFd> {
    let entries = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let devices = entries.filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|path| path.starts_with("/dev/infiniband"))
    });
    devices
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub fn is_open(fd: RawFd) -> bool {
    fcntl(fd, libc::F_GETFD, 0, "F_GETFD").is_ok()
}

pub fn close(fd: RawFd) -> Result<(), Failure> {
    // SAFETY: only numbers that this process got from the kernel are in slots, and no `OwnedFd`
    // holds one of them.
    check(unsafe { libc::close(fd) }, "close").map(drop)
}

pub fn close_range(first: RawFd, last: RawFd) -> Result<(), Failure> {
    let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
    // SAFETY: the range lies between two slots' numbers; what Rust owns is kept far above them
    // (`channel::raise`). The system call is used raw because libc's wrapper is not in every libc.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0 as c_uint) };
    check(returned, "close_range").map(drop)
}

pub fn dup(old: RawFd) -> Result<RawFd, Failure> {
    // SAFETY: takes a number, touches no memory.
    check(unsafe { libc::dup(old) }, "dup")
}

pub fn dup2(old: RawFd, new: RawFd) -> Result<(), Failure> {
    // SAFETY: closes `new`, which is a slot's number or a standard stream: nothing Rust owns.
    check(unsafe { libc::dup2(old, new) }, "dup2").map(drop)
}

pub fn dup3(old: RawFd, new: RawFd) -> Result<(), Failure> {
    // SAFETY: as for `dup2`.
    check(unsafe { libc::dup3(old, new, libc::O_CLOEXEC) }, "dup3").map(drop)
}

pub fn set_cloexec(fd: RawFd, on: bool) -> Result<(), Failure> {
    fcntl(
        fd,
        libc::F_SETFD,
        if on { libc::FD_CLOEXEC } else { 0 },
        "F_SETFD",
    )
    .map(drop)
}

/// fcntl(2) with an integer, or with an argument that the operation ignores.
pub fn fcntl(fd: RawFd, what: c_int, argument: c_int, name: &str) -> Result<c_int, Failure> {
    // SAFETY: the callers' operations take an integer or nothing, so no memory is involved.
    check(unsafe { libc::fcntl(fd, what, argument) }, name)
}

/// FIONREAD: bytes that are there to be read.
pub fn unread(fd: RawFd) -> Result<c_int, Failure> {
    let mut bytes = 0;
    // SAFETY: the kernel writes an int.
    let returned = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) };
    check(returned, "FIONREAD")?;
    Ok(bytes)
}

/// fcntl(2) by another of its numbers.
pub fn fcntl_by(
    number: c_long,
    fd: RawFd,
    what: c_int,
    argument: c_int,
    name: &str,
) -> Result<(), Failure> {
    // SAFETY: as for `fcntl`; the callers' numbers are fcntl's.
    let returned = unsafe { libc::syscall(number, fd, what, argument) };
    check(returned as c_int, format!("{name} by number {number:#x}")).map(drop)
}

pub fn fcntl_delegation(
    fd: RawFd,
    what: c_int,
    delegation: &mut Delegation,
    name: &str,
) -> Result<(), Failure> {
    // SAFETY: the kernel reads and writes one `struct delegation`, which the reference outlives.
    check(unsafe { libc::fcntl(fd, what, &raw mut *delegation) }, name).map(drop)
}

pub fn truncate(fd: RawFd, length: usize) -> Result<(), Failure> {
    // SAFETY: takes numbers, touches no memory of ours but file mappings, which are never borrowed.
    check(
        unsafe { libc::ftruncate(fd, length as libc::off_t) },
        "ftruncate",
    )
    .map(drop)
}

pub fn punch_hole(fd: RawFd, offset: usize, length: usize) -> Result<(), Failure> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, length) = (offset as libc::off_t, length as libc::off_t);
    // SAFETY: as for `truncate`.
    check(
        unsafe { libc::fallocate(fd, mode, offset, length) },
        "fallocate",
    )
    .map(drop)
}

pub fn pwrite(fd: RawFd, bytes: &[u8], offset: usize) -> Result<usize, Failure> {
    let offset = offset as libc::off_t;
    // SAFETY: the kernel reads `bytes.len()` bytes of a live slice.
    let written = unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), bytes.len(), offset) };
    check(written, "write").map(isize::cast_unsigned)
}

/// Reads from the file's start into a mapping.
pub fn pread(fd: RawFd, address: *mut c_void, length: usize) -> Result<usize, Failure> {
    // SAFETY: the range is a whole mapping in a slot, which no Rust reference points into.
    check(unsafe { libc::pread(fd, address, length, 0) }, "read").map(isize::cast_unsigned)
}

pub fn io_uring_setup(entries: c_uint) -> Result<RawFd, Failure> {
    let mut params = Params::zeroed();
    // SAFETY: the kernel fills one `struct io_uring_params`, whose size `uring_abi` asserts.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) };
    check(fd, "io_uring_setup").map(|fd| fd as RawFd)
}

pub fn io_uring_register(
    ring: RawFd,
    what: c_uint,
    argument: *const c_void,
    count: c_uint,
) -> Result<c_long, Failure> {
    // SAFETY: the callers in `ring`, `table` and `storm` pass what each operation reads or writes, alive until
    // this returns: iovecs as many as `count` says, one descriptor, one request, one ring update, or nothing.
    let returned =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, what, argument, count) };
    check(returned, "io_uring_register")
}
