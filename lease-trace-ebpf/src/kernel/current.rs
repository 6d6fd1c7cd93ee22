//! Who is running: the current task, as a person would name it.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_task_btf, bpf_task_pt_regs,
};
use lease_trace_common::{
    cause::{Cause, ReleaseFacts, classify},
    context::SystemCall,
    stake::Task,
    task::{PF_EXITING, PF_IO_WORKER, PF_KTHREAD, may_call},
};

use super::{
    call::{self as read_call, syscall},
    memory::File,
    memory::TaskPtr,
    pointer::Typed,
    task::Current,
};
use crate::bpf::task::uid;
pub use crate::bpf::task::{now, pid_tgid, tgid};

/// `current`.
#[inline(always)]
pub fn current() -> TaskPtr {
    TaskPtr(crate::bpf::task::address())
}

/// `current` is a kernel thread.
#[inline(always)]
pub fn is_kthread() -> bool {
    Current::get().flags() & PF_KTHREAD != 0
}

/// `current` is exiting, and with it its process.
#[inline(always)]
pub fn is_ending() -> bool {
    Current::get().flags() & PF_EXITING != 0 && current().is_process_ending()
}

/// Describes the current thread group.
#[inline(always)]
pub fn describe() -> Task {
    Task {
        tgid: tgid(),
        uid: uid(),
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        comm: current().comm(),
    }
}

/// The same, written where it is to stay.
///
/// # Safety
/// `to` is valid to write.
#[inline(always)]
pub unsafe fn describe_to(to: *mut Task) {
    // SAFETY: the caller guarantees the pointer.
    unsafe {
        (*to).tgid = tgid();
        describe_rest_to(to);
    }
}

/// The same where its thread group id stands already.
///
/// # Safety
/// `to` is valid to write.
#[inline(always)]
pub unsafe fn describe_rest_to(to: *mut Task) {
    // SAFETY: the caller guarantees the pointer; helpers without arguments.
    unsafe {
        (*to).uid = uid();
        (*to).cgroup = bpf_get_current_cgroup_id();
        current().copy_comm(&raw mut (*to).comm);
    }
}

/// Describes the thread group of another task.
#[inline(always)]
pub fn describe_other(task: TaskPtr) -> Task {
    Task {
        tgid: task.tgid(),
        uid: task.uid(),
        cgroup: task.cgroup(),
        comm: task.comm(),
    }
}

/// The current task's registers in user mode.
#[inline(always)]
fn registers() -> Typed {
    // SAFETY: the argument is what bpf_get_current_task_btf returned, as the helper wants.
    Typed(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64)
}

/// The system call that the current task is in.
#[inline(always)]
pub fn call() -> SystemCall {
    if !may_call(current().flags()) {
        return SystemCall {
            number: -1,
            ..SystemCall::default()
        };
    }
    read_call::call(registers(), current().is_compat())
}

/// Whether what the current task unpins it had pinned for the long term, see
/// [`drops_long_term`](lease_trace_common::cause::drops_long_term).
#[inline(always)]
pub fn drops_long_term() -> bool {
    let task = current();
    let flags = task.flags();
    if flags & PF_EXITING != 0 {
        return true;
    }
    let compat = task.is_compat();
    may_call(flags)
        && lease_trace_common::cause::drops_long_term(syscall(registers(), compat).0, compat)
}

/// Why a lease on `file` is ending now. A function of its own, so that its stack is free again for
/// what follows.
#[inline(never)]
pub fn cause(file: File, lease_flags: u32, kernel_lease: bool) -> Cause {
    let task = current();
    let flags = task.flags();
    let compat = task.is_compat();
    let (syscall, command) = if may_call(flags) {
        syscall(registers(), compat)
    } else {
        (-1, 0)
    };
    classify(&ReleaseFacts {
        kernel_lease,
        last_reference: file.is_last_reference(),
        lease_flags,
        kthread: flags & PF_KTHREAD != 0,
        io_worker: flags & PF_IO_WORKER != 0,
        exiting: flags & PF_EXITING != 0,
        ending: flags & PF_EXITING != 0 && task.is_process_ending(),
        exit_code: task.exit_code(),
        syscall,
        compat,
        command,
    })
}
