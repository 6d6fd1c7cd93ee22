//! How a lease ended, told from what is true at the moment it ends.
//!
//! No hook on a hot path is needed for this: `lease_modify` is entered with the file's reference
//! count at zero when and only when the last reference went (fs/file_table.c, `__fput`), and the
//! system call the current task is in says what dropped it, also when the release was deferred to
//! the return to user mode (task work keeps `orig_ax`).

use crate::{lease::FL_UNLOCK_PENDING, x32};

/// How a lease ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Cause {
    /// `fcntl(F_SETLEASE, F_UNLCK)` or its delegation twin.
    Unlock = 1,
    /// close(2) of the last reference.
    Close = 2,
    /// dup2(2) or dup3(2) over the last reference.
    Dup2 = 3,
    /// close_range(2).
    #[cfg_attr(feature = "user", serde(rename = "close_range"))]
    CloseRange = 4,
    /// munmap(2), mremap(2) or a mapping over the last reference.
    Munmap = 5,
    /// execve(2): a close-on-exec descriptor or the old address space.
    Exec = 6,
    /// The process ended by itself.
    Exit = 7,
    /// The process was ended by a signal.
    Killed = 8,
    /// io_uring closed the descriptor or dropped a fixed file.
    #[cfg_attr(feature = "user", serde(rename = "io_uring"))]
    IoUring = 9,
    /// The holder did not answer a break in time.
    BreakTimeout = 10,
    /// The kernel's own lease (nfsd) was returned.
    Kernel = 11,
    /// Something else dropped the last reference.
    Other = 12,
    /// A thread ended that had a table of descriptors of its own; its process goes on.
    ThreadExit = 13,
    /// The owner of the pins dropped his own last reference, and others keep the lease: it has not ended.
    Orphaned = 14,
}

impl Cause {
    pub const ALL: [Self; 14] = [
        Self::Unlock,
        Self::Close,
        Self::Dup2,
        Self::CloseRange,
        Self::Munmap,
        Self::Exec,
        Self::Exit,
        Self::Killed,
        Self::IoUring,
        Self::BreakTimeout,
        Self::Kernel,
        Self::Other,
        Self::ThreadExit,
        Self::Orphaned,
    ];

    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u32 == raw)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Unlock => "unlock",
            Self::Close => "close",
            Self::Dup2 => "dup2",
            Self::CloseRange => "close_range",
            Self::Munmap => "munmap",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Killed => "killed",
            Self::IoUring => "io_uring",
            Self::BreakTimeout => "break-timeout",
            Self::Kernel => "kernel",
            Self::Other => "other",
            Self::ThreadExit => "thread-exit",
            Self::Orphaned => "orphaned",
        }
    }

    /// Whether the process that let go is ending.
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::Exit | Self::Killed)
    }

    /// The same of the number in a record.
    #[inline(always)]
    pub const fn is_ending_raw(raw: u32) -> bool {
        raw == Self::Exit as u32 || raw == Self::Killed as u32
    }
}

/// What is true when a lease ends.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct ReleaseFacts {
    /// The lease belongs to the kernel (nfsd), not to a process.
    pub kernel_lease: bool,
    /// The open file description has no reference left.
    pub last_reference: bool,
    /// `flc_flags` of the lease.
    pub lease_flags: u32,
    /// The current task is a kernel thread (`PF_KTHREAD`).
    pub kthread: bool,
    /// It is a thread that io_uring made in a process, to do what it was asked (`PF_IO_WORKER`).
    pub io_worker: bool,
    /// The current task is exiting (`PF_EXITING`).
    pub exiting: bool,
    /// All of its process is: it is the last thread, or all are made to exit.
    pub ending: bool,
    /// `signal_struct.group_exit_code`, meaningful when ending: a signal in the low seven bits.
    pub exit_code: u32,
    /// The system call the task is in, or -1.
    pub syscall: i64,
    /// The call came through the 32-bit entry.
    pub compat: bool,
    /// Its second argument (the command of fcntl).
    pub command: u32,
}

const F_SETLEASE: u32 = 1024;
const F_SETDELEG: u32 = 1040;

/// What the system calls that can release a lease have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Fcntl,
    Way(Cause),
    Unrelated,
}

/// x86-64 numbers (arch/x86/entry/syscalls/syscall_64.tbl).
#[inline(always)]
const fn call_64(number: i64) -> Call {
    match x32::as_64(number) {
        72 => Call::Fcntl,
        3 => Call::Way(Cause::Close),
        33 | 292 => Call::Way(Cause::Dup2),
        436 => Call::Way(Cause::CloseRange),
        // mmap, munmap, mremap, shmat (SHM_REMAP), shmdt
        9 | 11 | 25 | 30 | 67 => Call::Way(Cause::Munmap),
        59 | 322 => Call::Way(Cause::Exec),
        60 | 231 => Call::Way(Cause::Exit),
        425..=427 => Call::Way(Cause::IoUring),
        _ => Call::Unrelated,
    }
}

/// i386 numbers (arch/x86/entry/syscalls/syscall_32.tbl).
#[inline(always)]
const fn call_32(number: i64) -> Call {
    match number {
        55 | 221 => Call::Fcntl,
        6 => Call::Way(Cause::Close),
        63 | 330 => Call::Way(Cause::Dup2),
        436 => Call::Way(Cause::CloseRange),
        // mmap, munmap, mremap, mmap2, shmat (SHM_REMAP), shmdt
        90 | 91 | 163 | 192 | 397 | 398 => Call::Way(Cause::Munmap),
        11 | 358 => Call::Way(Cause::Exec),
        1 | 252 => Call::Way(Cause::Exit),
        425..=427 => Call::Way(Cause::IoUring),
        _ => Call::Unrelated,
    }
}

/// Whether what a process unpins in this system call it had pinned for the long term, not for one transfer: the call
/// closes, replaces or unmaps, ends the program, or is io_uring_register(2) or ioctl(2) (RDMA, vfio).
#[inline(always)]
pub const fn drops_long_term(number: i64, compat: bool) -> bool {
    const REGISTER: i64 = 427;
    let (call, ioctl) = if compat {
        (call_32(number), 54)
    } else {
        (call_64(number), 16)
    };
    let is_releasing = matches!(
        call,
        Call::Way(
            Cause::Close
                | Cause::Dup2
                | Cause::CloseRange
                | Cause::Munmap
                | Cause::Exec
                | Cause::Exit
        )
    );
    is_releasing || x32::as_64(number) == REGISTER || x32::as_64(number) == ioctl
}

/// Names the cause.
#[inline(always)]
pub const fn classify(facts: &ReleaseFacts) -> Cause {
    if facts.kernel_lease {
        return Cause::Kernel;
    }
    let call = if facts.kthread {
        Call::Unrelated
    } else if facts.io_worker {
        Call::Way(Cause::IoUring)
    } else if facts.compat {
        call_32(facts.syscall)
    } else {
        call_64(facts.syscall)
    };
    if !facts.last_reference {
        let explicit = matches!(call, Call::Fcntl)
            && (facts.command == F_SETLEASE || facts.command == F_SETDELEG);
        return if explicit {
            Cause::Unlock
        } else if facts.lease_flags & FL_UNLOCK_PENDING != 0 {
            Cause::BreakTimeout
        } else {
            Cause::Other
        };
    }
    let is_workers_end = facts.io_worker && !facts.ending;
    if facts.exiting && !facts.kthread && !is_workers_end {
        return if !facts.ending {
            Cause::ThreadExit
        } else if facts.exit_code & 0x7f != 0 {
            Cause::Killed
        } else {
            Cause::Exit
        };
    }
    match call {
        Call::Way(cause) => cause,
        Call::Fcntl | Call::Unrelated => Cause::Other,
    }
}
