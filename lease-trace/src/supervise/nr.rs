//! Numbers of the calls that are asked about, in both of the kernel's tables
//! (arch/x86/entry/syscalls), and those arguments that matter.

/// Which entry a call came through (include/uapi/linux/audit.h).
pub mod abi {
    pub const X86_64: u32 = 0xc000_003e;
    pub const I386: u32 = 0x4000_0003;
    /// Set in the numbers of x32 (arch/x86/include/uapi/asm/unistd.h).
    pub const X32_BIT: u32 = 0x4000_0000;
}

pub const F_SETLEASE: u32 = libc::F_SETLEASE as u32;
/// `F_SETDELEG` (include/uapi/linux/fcntl.h, 6.19).
pub const F_SETDELEG: u32 = 1040;
pub const F_UNLCK: u32 = libc::F_UNLCK as u32;
pub const MAP_FIXED: u32 = libc::MAP_FIXED as u32;
pub const MAP_FIXED_NOREPLACE: u32 = libc::MAP_FIXED_NOREPLACE as u32;
pub const MREMAP_FIXED: u32 = libc::MREMAP_FIXED as u32;

/// The same calls in one table of the kernel's.
pub struct Numbers {
    /// Asked about whatever their arguments are.
    pub always: &'static [u32],
    pub fcntl: &'static [u32],
    pub mmap: u32,
    pub mremap: u32,
}

pub const CLOSE: u32 = libc::SYS_close as u32;
pub const DUP2: u32 = libc::SYS_dup2 as u32;
pub const DUP3: u32 = libc::SYS_dup3 as u32;
pub const CLOSE_RANGE: u32 = libc::SYS_close_range as u32;
pub const MUNMAP: u32 = libc::SYS_munmap as u32;
pub const EXECVE: u32 = libc::SYS_execve as u32;
pub const EXECVEAT: u32 = libc::SYS_execveat as u32;
pub const X32_EXECVE: u32 = 520;
pub const X32_EXECVEAT: u32 = 545;

pub const NATIVE: Numbers = Numbers {
    always: &[
        CLOSE,
        MUNMAP,
        DUP2,
        DUP3,
        CLOSE_RANGE,
        EXECVE,
        EXECVEAT,
        X32_EXECVE,
        X32_EXECVEAT,
    ],
    fcntl: &[libc::SYS_fcntl as u32],
    mmap: libc::SYS_mmap as u32,
    mremap: libc::SYS_mremap as u32,
};

pub mod compat {
    pub const CLOSE: u32 = 6;
    pub const EXECVE: u32 = 11;
    pub const FCNTL: u32 = 55;
    pub const DUP2: u32 = 63;
    /// Its arguments are behind a pointer.
    pub const OLD_MMAP: u32 = 90;
    pub const MUNMAP: u32 = 91;
    pub const MREMAP: u32 = 163;
    pub const MMAP2: u32 = 192;
    pub const FCNTL64: u32 = 221;
    pub const DUP3: u32 = 330;
    pub const EXECVEAT: u32 = 358;
    pub const CLOSE_RANGE: u32 = 436;
}

pub const COMPAT: Numbers = Numbers {
    always: &[
        compat::CLOSE,
        compat::MUNMAP,
        compat::DUP2,
        compat::DUP3,
        compat::CLOSE_RANGE,
        compat::EXECVE,
        compat::EXECVEAT,
        compat::OLD_MMAP,
    ],
    fcntl: &[compat::FCNTL, compat::FCNTL64],
    mmap: compat::MMAP2,
    mremap: compat::MREMAP,
};
