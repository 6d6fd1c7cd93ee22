//! What userspace hands over at load time: offsets from BTF and modes. It becomes `.rodata`, so
//! the verifier takes every field for a constant and drops the branches that are off.

/// Where `struct page` has `compound_head` and `struct folio` its `mapping`, and how large the former is,
/// wherever that is known, in bytes: what is read fast relies on it.
pub const PAGE_HEAD: u32 = 8;
pub const FOLIO_MAPPING: u32 = 24;
pub const PAGE_SIZE: u32 = 64;

/// Offsets in bytes into kernel structures, read from BTF. [`ABSENT`] where a structure of this
/// kernel has no such field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.f_mapping`
    pub file_mapping: u32,
    /// `file.f_path.dentry`
    pub file_dentry: u32,
    /// `file.f_path.mnt`
    pub file_mnt: u32,
    /// `file.private_data`
    pub file_private: u32,
    /// `file.f_count.counter`, or `file.f_ref.refcnt.counter` from 6.14 on
    pub file_count: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `inode.i_flags`
    pub inode_flags: u32,
    /// `inode.i_generation`
    pub inode_generation: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_size`
    pub inode_size: u32,
    /// `inode.i_mapping`
    pub inode_mapping: u32,
    /// `inode.i_flctx`
    pub inode_flctx: u32,
    /// `inode.i_dentry.first`
    pub inode_dentry: u32,
    /// `super_block.s_dev`
    pub sb_dev: u32,
    /// `super_block.s_magic`
    pub sb_magic: u32,
    /// `address_space.host`
    pub mapping_host: u32,
    /// `file_lock_context.flc_lease`
    pub flctx_lease: u32,
    /// `file_lock.fl_list`, or `file_lease.c.flc_list` from 6.9 on
    pub fl_list: u32,
    /// `fl_file` / `c.flc_file`
    pub fl_file: u32,
    /// `fl_flags` / `c.flc_flags`
    pub fl_flags: u32,
    /// `fl_type` / `c.flc_type`
    pub fl_type: u32,
    /// `fl_pid` / `c.flc_pid`
    pub fl_pid: u32,
    /// `dentry.d_parent`
    pub dentry_parent: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `dentry.d_name.len`
    pub dentry_len: u32,
    /// `dentry.d_hash.pprev`: NULL when unlinked
    pub dentry_hashed: u32,
    /// `dentry.d_u.d_alias`
    pub dentry_alias: u32,
    /// `vfsmount.mnt_root`
    pub vfsmount_root: u32,
    /// `mount.mnt`
    pub mount_mnt: u32,
    /// `mount.mnt_parent`
    pub mount_parent: u32,
    /// `mount.mnt_mountpoint`
    pub mount_mountpoint: u32,
    /// `page.compound_head`, `page.compound_info` from 7.2 on
    pub page_head: u32,
    /// `folio.mapping`
    pub folio_mapping: u32,
    /// `folio._refcount`
    pub folio_refcount: u32,
    /// `folio._pincount`
    pub folio_pincount: u32,
    /// `folio.flags`
    pub folio_flags: u32,
    /// `sizeof(struct page)`
    pub page_size: u32,
    /// `folio_batch.nr`
    pub batch_nr: u32,
    /// `folio_batch.folios`
    pub batch_folios: u32,
    /// `vm_area_struct.vm_end`
    pub vma_end: u32,
    /// `vm_area_struct.vm_flags`
    pub vma_flags: u32,
    /// `vm_area_struct.vm_file`
    pub vma_file: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `signal_struct.group_exit_code`
    pub signal_exit_code: u32,
    /// `task_struct.group_leader`
    pub task_leader: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.thread_info.status`
    pub task_status: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `cred.uid`
    pub cred_uid: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub css_default: u32,
    /// `cgroup.kn`
    pub cgroup_node: u32,
    /// `cgroup.level`
    pub cgroup_level: u32,
    /// `cgroup.ancestors`
    pub cgroup_ancestors: u32,
    /// `cred.gid`
    pub cred_gid: u32,
    /// `task_struct.start_boottime`
    pub task_start: u32,
    /// `task_struct.pending.signal`
    pub task_pending: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `files_struct.fdt`
    pub files_table: u32,
    /// `files_struct.count`
    pub files_count: u32,
    /// `fdtable.max_fds`
    pub table_len: u32,
    /// `fdtable.fd`
    pub table_files: u32,
    /// `dentry.d_inode`
    pub dentry_inode: u32,
    /// `vm_area_struct.vm_start`
    pub vma_start: u32,
    /// `kernfs_node.id`
    pub node_id: u32,
    /// `mm_struct.owner`
    pub mm_owner: u32,
    /// `pt_regs.orig_ax`
    pub regs_syscall: u32,
    /// `pt_regs.bx`: the first argument of a 32-bit call
    pub regs_first_compat: u32,
    /// `pt_regs.cx`: the second argument of a 32-bit call
    pub regs_second_compat: u32,
    /// `pt_regs.r10`; a 32-bit call has its fourth argument where others have the second
    pub regs_fourth: u32,
    /// `pt_regs.di`
    pub regs_first: u32,
    /// `pt_regs.si`
    pub regs_second: u32,
    /// `pt_regs.dx`
    pub regs_third: u32,
    /// `pt_regs.r8`
    pub regs_fifth: u32,
    /// `task_struct.io_uring`
    pub task_ring: u32,
    /// `io_uring_task.registered_rings`
    pub ring_registered: u32,
    /// `io_ring_ctx.exit_work`
    pub ring_exit_work: u32,
    /// `io_ring_ctx.mm_account`
    pub ring_mm: u32,
    /// `seq_file.count`
    pub seq_count: u32,
    /// Bit of `folio.flags` that marks a large folio (`PG_head`)
    pub folio_head_bit: u32,
}

/// The number by which the programs call `bpf_rdonly_cast` (6.2; kernel/bpf/helpers.c), until the
/// loader has put in what the kernel wants there. No helper has it.
pub const CAST: u32 = 0x4c54_0001;

/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Everything the programs are told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub offsets: Offsets,
    /// `FOLL_LONGTERM` of this kernel.
    pub foll_longterm: u32,
    /// 1: short-term pins are tracked like long-term ones (`--pins all`).
    pub pins_all: u32,
    /// 1: `file.f_ref` (dead when negative), 0: `file.f_count` (dead when zero).
    pub file_ref: u32,
    /// 1: every FOLL_PIN reference is counted, whatever it is on (`--audit`).
    pub audit: u32,
    /// 1: the iterators also enter what they find into the maps.
    pub adopt: u32,
    /// Entries of each map that has one for each lease, stake or file.
    pub capacity: u32,
    /// BTF id of `struct cpumask`, an array of words, for [`CAST`]; 0 if there is no such function.
    pub words: u32,
    /// The same, if `struct page` is as [`PAGE_HEAD`] and its like have it; else 0.
    pub pages: u32,
    /// 1: it is, and there is no audit, so that what is done for each page can be done the shortest way.
    pub plain: u32,
    /// 1: a policy may come into force. Else nothing of what judges by one is left of the programs.
    pub policy: u32,
    /// 1: a call may be seen to begin by a kprobe, which keeps what each was called with, and to return
    /// by fexit, which has that itself for those that are not tracked.
    pub mixed: u32,
}

crate::pod!(Config);
