//! Kinds of tasks, by `task_struct.flags` (include/linux/sched.h).

pub const PF_EXITING: u32 = 0x4;
/// A thread that io_uring made in a process, to do what it was asked.
pub const PF_IO_WORKER: u32 = 0x10;
pub const PF_WQ_WORKER: u32 = 0x20;
/// A thread that the kernel made in a process (vhost; io_uring's, too); unused before 6.4.
pub const PF_USER_WORKER: u32 = 0x4000;
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// Whether a task may be in a system call. Others were never in user mode: their registers are those of
/// whoever made them, or nobody's.
#[inline(always)]
pub const fn may_call(flags: u32) -> bool {
    flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER) == 0
}
