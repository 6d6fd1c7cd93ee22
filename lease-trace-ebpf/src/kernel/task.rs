//! Tasks and their mappings.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use lease_trace_common::{
    COMM_LEN,
    task::{PF_EXITING, PF_WQ_WORKER},
};

use super::{
    memory::{File, TaskPtr, Vma, at, element, pointer, value},
    pointer::{Pointer as _, Typed},
};

impl Vma {
    /// The one that a callback of `bpf_find_vma` is given.
    #[inline(always)]
    pub fn given(vma: *mut c_void) -> Self {
        Self(Typed(vma as u64).number())
    }

    #[inline(always)]
    pub fn start(self) -> u64 {
        at(self.0, offset!(vma_start))
    }

    #[inline(always)]
    pub fn end(self) -> u64 {
        at(self.0, offset!(vma_end))
    }

    /// `VM_SHARED`: every page of the mapping belongs to the file.
    #[inline(always)]
    pub fn is_shared(self) -> bool {
        const VM_SHARED: u64 = 8;
        at::<u64>(self.0, offset!(vma_flags)) & VM_SHARED != 0
    }

    #[inline(always)]
    pub fn file(self) -> Option<File> {
        pointer(self.0, offset!(vma_file)).map(File)
    }
}

/// The current task, as the helper gives it: the verifier knows its type.
#[derive(Clone, Copy)]
pub struct Current(Typed);

impl Current {
    #[inline(always)]
    pub fn get() -> Self {
        // SAFETY: a helper without arguments.
        Self(Typed(unsafe { bpf_get_current_task_btf() } as u64))
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        self.0.half(offset!(task_flags))
    }

    /// When the process was started, see [`TaskPtr::started`].
    #[inline(always)]
    pub fn started(self) -> u64 {
        self.0
            .follow(offset!(task_leader))
            .word(offset!(task_start))
    }
}

impl TaskPtr {
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        at(self.0, offset!(task_tgid))
    }

    /// Whether it still is this thread, `thread` being its thread group id and its own, packed as helpers do, and is not
    /// exiting.
    #[inline(always)]
    pub fn is_still(self, thread: u64) -> bool {
        let pid: u32 = at(self.0, offset!(task_pid));
        u64::from(self.tgid()) << 32 | u64::from(pid) == thread && self.flags() & PF_EXITING == 0
    }

    #[inline(always)]
    pub fn mm(self) -> u64 {
        at(self.0, offset!(task_mm))
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        at(self.0, offset!(task_flags))
    }

    /// The work item that this kworker is busy with (`worker.current_work`); others have none.
    #[inline(always)]
    pub fn work(self) -> Option<u64> {
        if self.flags() & PF_WQ_WORKER == 0 {
            return None;
        }
        let kthread = pointer(self.0, offset_if_any!(task_worker)?)?;
        let worker = pointer(kthread, offset_if_any!(kthread_data)?)?;
        pointer(worker, offset_if_any!(worker_work)?)
    }

    #[inline(always)]
    pub fn gid(self) -> Option<u32> {
        pointer(self.0, offset!(task_cred)).map(|cred| at(cred, offset!(cred_gid)))
    }

    /// When the process was started: `start_boottime` of its leader, ns.
    #[inline(always)]
    pub fn started(self) -> u64 {
        at(self.leader(), offset!(task_start))
    }

    /// The leader of the thread group: it is there as long as the process is.
    #[inline(always)]
    pub fn leader(self) -> u64 {
        pointer(self.0, offset!(task_leader)).unwrap_or(self.0)
    }

    /// SIGKILL is pending for this thread, as it is for every thread of a group that was sent it
    /// (kernel/signal.c, `complete_signal`).
    #[inline(always)]
    pub fn is_being_killed(self) -> bool {
        const SIGKILL_BIT: u64 = 1 << 8;
        at::<u64>(self.0, offset!(task_pending)) & SIGKILL_BIT != 0
    }

    /// In this cgroup of the unified hierarchy, or below it.
    #[inline(always)]
    pub fn is_in_cgroup(self, id: u64, level: u32) -> bool {
        self.ancestor(level).and_then(cgroup_id) == Some(id)
    }

    #[inline(always)]
    fn ancestor(self, level: u32) -> Option<u64> {
        let cgroup = self.cgroup_ptr()?;
        if level > at(cgroup, offset_if_any!(cgroup_level)?) {
            return None;
        }
        let ancestors = cgroup + u64::from(offset_if_any!(cgroup_ancestors)?);
        element(ancestors, u64::from(level))
    }

    /// Its `struct cgroup` in the unified hierarchy.
    #[inline(always)]
    fn cgroup_ptr(self) -> Option<u64> {
        let set = pointer(self.0, offset_if_any!(task_cgroups)?)?;
        pointer(set, offset_if_any!(css_default)?)
    }

    /// The open file behind a descriptor of this task.
    #[inline(always)]
    pub fn file(self, fd: u32) -> Option<File> {
        let table = pointer(self.0, offset!(task_files))
            .and_then(|files| pointer(files, offset!(files_table)))?;
        if fd >= at::<u32>(table, offset!(table_len)) {
            return None;
        }
        element(pointer(table, offset!(table_files))?, u64::from(fd)).map(File)
    }

    /// A ring that this thread has registered with itself.
    #[inline(always)]
    pub fn registered_ring(self, index: u32) -> Option<File> {
        /// `IO_RINGFD_REG_MAX`
        const MOST: u32 = 16;
        if index >= MOST {
            return None;
        }
        let rings = pointer(self.0, offset_if_any!(task_ring)?)?;
        let array = rings + u64::from(offset_if_any!(ring_registered)?);
        element(array, u64::from(index)).map(File)
    }

    /// One more than the highest descriptor there can be.
    #[inline(always)]
    pub fn descriptors(self) -> u32 {
        pointer(self.0, offset!(task_files))
            .and_then(|files| pointer(files, offset!(files_table)))
            .map_or(0, |table| at(table, offset!(table_len)))
    }

    /// Address of its table of descriptors (`files_struct`), which others may share; 0 if it has none any more.
    #[inline(always)]
    pub fn descriptor_table(self) -> u64 {
        pointer(self.0, offset!(task_files)).unwrap_or(0)
    }

    /// A task of the same process that has a table of descriptors: this one, or where it is the first thread and has
    /// ended, the next. The first one stays in the list of threads until the last has gone; others that ended are
    /// taken out (kernel/exit.c, `release_task`).
    #[inline(always)]
    pub fn with_descriptors(self) -> Self {
        if pointer(self.0, offset!(task_files)).is_some() {
            return self;
        }
        let next = at::<u64>(self.0, offset!(task_thread));
        let head = at::<u64>(self.0, offset!(task_signal)) + u64::from(offset!(signal_threads));
        if next == 0 || next == head {
            self
        } else {
            Self(next - u64::from(offset!(task_thread)))
        }
    }

    /// Whether another task uses the same table of descriptors.
    #[inline(always)]
    pub fn shares_descriptors(self) -> bool {
        pointer(self.0, offset!(task_files))
            .map(|files| at::<u32>(files, offset!(files_count)))
            .is_some_and(|count| count > 1)
    }

    /// Of its whole process: the last thread to end may be one of io_uring's workers, whose own code
    /// is 0 whatever ended the process.
    #[inline(always)]
    pub fn exit_code(self) -> u32 {
        pointer(self.0, offset!(task_signal))
            .map_or(0, |signal| at(signal, offset!(signal_exit_code)))
    }

    /// All of its process is ending: no thread is left that has not begun to exit, or all are made to
    /// (kernel/exit.c, `do_exit`, `do_group_exit`).
    #[inline(always)]
    pub fn is_process_ending(self) -> bool {
        const SIGNAL_GROUP_EXIT: u32 = 4;
        pointer(self.0, offset!(task_signal)).is_some_and(|signal| {
            at::<u32>(signal, offset!(signal_live)) == 0
                || at::<u32>(signal, offset!(signal_flags)) & SIGNAL_GROUP_EXIT != 0
        })
    }

    /// Name of the thread group: that of its leader.
    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        value(self.leader() + u64::from(offset!(task_comm))).unwrap_or([0; 16])
    }

    /// The same, written where it is to stay.
    ///
    /// # Safety
    /// `to` is valid to write.
    #[inline(always)]
    pub unsafe fn copy_comm(self, to: *mut [u8; COMM_LEN]) {
        let from = self.leader() + u64::from(offset!(task_comm));
        // SAFETY: the caller guarantees `to`; the helper checks the other address, and writes
        // zeroes if it is bad.
        unsafe { bpf_probe_read_kernel(to.cast(), COMM_LEN as u32, from as *const _) };
    }

    /// `from_kuid(&init_user_ns, task_uid(task))`
    #[inline(always)]
    pub fn uid(self) -> u32 {
        pointer(self.0, offset!(task_cred)).map_or(0, |cred| at(cred, offset!(cred_uid)))
    }

    /// Id of the cgroup in the unified hierarchy, as `bpf_get_current_cgroup_id` has it.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        self.cgroup_ptr().and_then(cgroup_id).unwrap_or(0)
    }

    /// `TS_COMPAT`: in a system call made through the 32-bit entry.
    #[inline(always)]
    pub fn is_compat(self) -> bool {
        const TS_COMPAT: u32 = 2;
        at::<u32>(self.0, offset!(task_status)) & TS_COMPAT != 0
    }
}

/// The id of a `struct cgroup`.
#[inline(always)]
fn cgroup_id(cgroup: u64) -> Option<u64> {
    let node = pointer(cgroup, offset_if_any!(cgroup_node)?)?;
    Some(at(node, offset_if_any!(node_id)?))
}

/// The task that owns an address space (`CONFIG_MEMCG`), `None` once it has exited.
#[inline(always)]
pub fn mm_owner(mm: u64) -> Option<TaskPtr> {
    pointer(mm, offset_if_any!(mm_owner)?).map(TaskPtr)
}
