//! Lines and descriptors between actors: pipes and a socket pair.

use std::ffi::c_int;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use super::{check, fcntl, refusal};
use crate::reply::Failure;

/// What the actor needs for itself lives from here on, so that slots have the low numbers and a
/// `close_range` between two slots cannot meet it.
const OWN: c_int = 500;

fn raise(fd: &OwnedFd) -> Result<OwnedFd, Failure> {
    let raised = fcntl(
        fd.as_raw_fd(),
        libc::F_DUPFD_CLOEXEC,
        OWN,
        "F_DUPFD_CLOEXEC",
    )?;
    // SAFETY: the kernel just made this descriptor and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raised) })
}

fn own([first, second]: [RawFd; 2]) -> Result<(OwnedFd, OwnedFd), Failure> {
    // SAFETY: the callers pass a pair that the kernel just made and nothing else knows.
    let (first, second) = unsafe { (OwnedFd::from_raw_fd(first), OwnedFd::from_raw_fd(second)) };
    Ok((raise(&first)?, raise(&second)?))
}

/// A pipe: the end to read, the end to write.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two integers.
    let returned = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    check(returned, "pipe")?;
    own(ends)
}

/// A connected pair of sockets, for passing descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two integers.
    let returned = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    check(returned, "socketpair")?;
    own(ends)
}

/// One line without its end, or nothing when no more can come.
///
/// Read byte by byte: a buffer would be lost in an exec, and doubled in a fork.
pub fn read_line(fd: RawFd) -> Option<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = 0_u8;
        // SAFETY: the kernel writes at most one byte.
        match unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } {
            1 if byte == b'\n' => break,
            1 => line.push(byte),
            -1 if interrupted() => {}
            _ if line.is_empty() => return None,
            _ => break,
        }
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

fn interrupted() -> bool {
    std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
}

pub fn write_line(fd: RawFd, line: &str) -> Result<(), Failure> {
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        // SAFETY: the kernel reads `rest.len()` bytes of a live slice.
        let written = unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) };
        rest = &rest[check(written, "write")?.cast_unsigned()..];
    }
    Ok(())
}

/// Room for one descriptor in a control message, aligned as `cmsghdr` wants it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fd: c_int,
}

const CONTROL: usize = mem::offset_of!(Control, fd) + size_of::<c_int>();

fn message(payload: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr`: no name, no data, no control message.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = payload;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut *control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
}

fn empty_control(fd: c_int) -> Control {
    // SAFETY: all-zero is a valid `cmsghdr`.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    header.cmsg_len = CONTROL as _;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    Control { header, fd }
}

/// Sends a descriptor: until it is received, the message holds the open file description.
pub fn send_fd(socket: RawFd, fd: RawFd) -> Result<(), Failure> {
    let mut byte = b'+';
    let mut payload = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = empty_control(fd);
    let message = message(&mut payload, &mut control);
    // SAFETY: the message points to the byte and the control block above, which outlive the call.
    check(
        unsafe { libc::sendmsg(socket, &raw const message, 0) },
        "sendmsg",
    )
    .map(drop)
}

pub fn receive_fd(socket: RawFd) -> Result<RawFd, Failure> {
    let mut byte = 0_u8;
    let mut payload = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = empty_control(-1);
    let mut message = message(&mut payload, &mut control);
    // SAFETY: the kernel writes at most one byte and one control block of the sizes given.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if check(received, "recvmsg")? == 0 || control.fd < 0 {
        return Err(refusal("recvmsg: no descriptor came"));
    }
    Ok(control.fd)
}
