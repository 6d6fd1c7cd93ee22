//! The open file through which pins live: a ring, an RDMA device, an AF_XDP socket. It is the one
//! that the system call which took them works on.

use crate::x32;

/// Bytes kept of a name, the terminating NUL included.
pub const NAME_LEN: usize = 24;

/// The file through which the first pins of a stake were taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Descriptor in the process that took the pins, or [`NO_FD`].
    pub fd: i32,
    /// `i_mode` of the file; 0 if no file is known.
    pub mode: u32,
    /// Name of the file, as its dentry has it (`[io_uring]`, `uverbs0`; empty for a socket),
    /// NUL-terminated.
    pub name: [u8; NAME_LEN],
}

/// [`Context::fd`] where the file is in no table of descriptors, or is not known.
pub const NO_FD: i32 = -1;

impl Default for Context {
    fn default() -> Self {
        Self::NONE
    }
}

impl Context {
    /// No file is known.
    pub const NONE: Self = Self {
        fd: NO_FD,
        mode: 0,
        name: [0; NAME_LEN],
    };

    pub const fn is_socket(&self) -> bool {
        const S_IFMT: u32 = 0o170_000;
        const S_IFSOCK: u32 = 0o140_000;
        self.mode & S_IFMT == S_IFSOCK
    }
}

/// Where the file that a system call works on is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind a descriptor.
    Descriptor(u32),
    /// Among the rings that the thread has registered (`io_uring_task.registered_rings`).
    RegisteredRing(u32),
    /// Nowhere: the call works on no file, or it is not known which.
    Nowhere,
}

/// A system call under way, as its registers tell it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemCall {
    pub number: i64,
    /// It came through the 32-bit entry.
    pub compat: bool,
    pub first: u64,
    pub second: u64,
    pub fourth: u64,
}

/// What a system call's first argument is.
enum First {
    Descriptor,
    Register,
    Enter,
    Other,
}

/// x86-64 numbers (arch/x86/entry/syscalls/syscall_64.tbl).
#[inline(always)]
const fn first_64(number: i64) -> First {
    match x32::as_64(number) {
        // read, write, ioctl, pread64, pwrite64, readv, writev, sendto to recvmsg, setsockopt,
        // vmsplice, preadv, pwritev, preadv2, pwritev2
        0 | 1 | 16..=20 | 44..=47 | 54 | 278 | 295 | 296 | 327 | 328 => First::Descriptor,
        426 => First::Enter,
        427 => First::Register,
        _ => First::Other,
    }
}

/// i386 numbers (arch/x86/entry/syscalls/syscall_32.tbl).
#[inline(always)]
const fn first_32(number: i64) -> First {
    match number {
        // read, write, ioctl, readv, writev, pread64, pwrite64, vmsplice, preadv, pwritev,
        // setsockopt to recvmsg, preadv2, pwritev2
        3 | 4 | 54 | 145 | 146 | 180 | 181 | 316 | 333 | 334 | 366 | 369..=372 | 378 | 379 => {
            First::Descriptor
        }
        426 => First::Enter,
        427 => First::Register,
        _ => First::Other,
    }
}

/// Where the file is that this system call works on.
#[inline(always)]
pub const fn place(call: &SystemCall) -> Place {
    /// `IORING_REGISTER_USE_REGISTERED_RING` in the operation of io_uring_register(2).
    const REGISTER_REGISTERED_RING: u64 = 1 << 31;
    /// `IORING_ENTER_REGISTERED_RING` in the flags of io_uring_enter(2).
    const ENTER_REGISTERED_RING: u64 = 1 << 4;
    let first = if call.compat {
        first_32(call.number)
    } else {
        first_64(call.number)
    };
    let registered = match first {
        First::Descriptor => false,
        First::Register => call.second & REGISTER_REGISTERED_RING != 0,
        First::Enter => call.fourth & ENTER_REGISTERED_RING != 0,
        First::Other => return Place::Nowhere,
    };
    if registered {
        Place::RegisteredRing(call.first as u32)
    } else {
        Place::Descriptor(call.first as u32)
    }
}

const _: () = assert!(size_of::<Context>() == 32);

crate::pod!(Context);
