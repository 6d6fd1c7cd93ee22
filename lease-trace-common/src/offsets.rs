//! Where the programs find what they read in structures of this kernel: one table, which makes both
//! what they are told and what is looked up in BTF for it.

/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A structure, and the path of a field in it.
pub type Name = (&'static str, &'static str);

/// What is looked up in BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The offset of a field, in bytes. It may have had other names in other kernels: the first that
    /// exists is taken. One of them must exist.
    Field(&'static [Name]),
    /// The same, or [`ABSENT`] if there is none.
    IfAny(&'static [Name]),
    /// The size of a structure, in bytes.
    Size(&'static str),
    /// The value of an enumerator: its enumeration and its name.
    Enumerator(Name),
}

/// A [`Source`] as the table below has it.
macro_rules! source {
    (Size [$of:ident]) => {
        Source::Size(stringify!($of))
    };
    (Enumerator [$of:ident . $name:ident]) => {
        Source::Enumerator((stringify!($of), stringify!($name)))
    };
    ($kind:ident [$($of:ident . $first:ident $(. $next:ident)*),+]) => {
        Source::$kind(&[$((
            stringify!($of),
            concat!(stringify!($first) $(, ".", stringify!($next))*),
        )),+])
    };
}

/// A table of them.
macro_rules! offsets {
    ($(#[$doc:meta])* $table:ident $($(#[$note:meta])* $field:ident: $kind:ident $names:tt,)+) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $table {
            $(
                #[doc = concat!("`", stringify!($kind $names), "`")]
                $(#[$note])*
                pub $field: u32,
            )+
        }

        impl $table {
            /// All of them, each as `look_up` finds it.
            ///
            /// # Errors
            /// The first of `look_up`.
            pub fn find<E>(look_up: impl Fn(Source) -> Result<u32, E>) -> Result<Self, E> {
                Ok(Self {
                    $($field: look_up(source!($kind $names))?,)+
                })
            }
        }
    };
}

pub(crate) use {offsets, source};

offsets! {
    /// Offsets in bytes into kernel structures and what else depends on how a kernel was built,
    /// read from BTF. [`ABSENT`] where a structure of this kernel has no such field.
    Offsets
    file_inode: Field [file.f_inode],
    file_mapping: Field [file.f_mapping],
    file_dentry: Field [file.f_path.dentry],
    file_mnt: Field [file.f_path.mnt],
    file_private: Field [file.private_data],
    /// `f_ref.refcnt` from 6.14 on, see [`Config::file_ref`](crate::config::Config::file_ref).
    file_count: Field [file.f_ref.refcnt, file.f_count],
    inode_ino: Field [inode.i_ino],
    inode_sb: Field [inode.i_sb],
    inode_flags: Field [inode.i_flags],
    inode_generation: Field [inode.i_generation],
    inode_mode: Field [inode.i_mode],
    inode_size: Field [inode.i_size],
    inode_mapping: Field [inode.i_mapping],
    inode_flctx: Field [inode.i_flctx],
    /// Where its `first` is.
    inode_dentry: Field [inode.i_dentry],
    sb_dev: Field [super_block.s_dev],
    sb_magic: Field [super_block.s_magic],
    mapping_host: Field [address_space.host],
    mapping_pages: Field [address_space.i_pages.xa_head],
    xa_node_shift: Field [xa_node.shift],
    xa_node_slots: Field [xa_node.slots],
    flctx_lease: Field [file_lock_context.flc_lease],
    /// `file_lease` from 6.9 on, and so the four below.
    fl_list: Field [file_lease.c.flc_list, file_lock.fl_list],
    fl_file: Field [file_lease.c.flc_file, file_lock.fl_file],
    fl_flags: Field [file_lease.c.flc_flags, file_lock.fl_flags],
    fl_type: Field [file_lease.c.flc_type, file_lock.fl_type],
    fl_pid: Field [file_lease.c.flc_pid, file_lock.fl_pid],
    dentry_parent: Field [dentry.d_parent],
    dentry_name: Field [dentry.d_name.name, dentry.__d_name.name],
    dentry_len: Field [dentry.d_name.len, dentry.__d_name.len],
    /// NULL when unlinked.
    dentry_hashed: Field [dentry.d_hash.pprev],
    dentry_alias: Field [dentry.d_u.d_alias, dentry.d_alias],
    vfsmount_root: Field [vfsmount.mnt_root],
    mount_mnt: Field [mount.mnt],
    mount_parent: Field [mount.mnt_parent],
    mount_mountpoint: Field [mount.mnt_mountpoint],
    /// `compound_info` from 7.2 on.
    page_head: Field [page.compound_head, page.compound_info],
    folio_mapping: Field [folio.mapping],
    folio_refcount: Field [folio._refcount],
    folio_mapcount: Field [folio._mapcount],
    folio_pincount: Field [folio._pincount],
    folio_flags: Field [folio.flags],
    page_size: Size [page],
    batch_nr: Field [folio_batch.nr],
    batch_folios: Field [folio_batch.folios],
    vma_end: Field [vm_area_struct.vm_end],
    vma_flags: Field [vm_area_struct.vm_flags],
    vma_file: Field [vm_area_struct.vm_file],
    task_tgid: Field [task_struct.tgid],
    task_pid: Field [task_struct.pid],
    task_mm: Field [task_struct.mm],
    task_flags: Field [task_struct.flags],
    task_signal: Field [task_struct.signal],
    signal_exit_code: Field [signal_struct.group_exit_code],
    signal_live: Field [signal_struct.live],
    signal_flags: Field [signal_struct.flags],
    signal_threads: Field [signal_struct.thread_head],
    task_thread: Field [task_struct.thread_node],
    task_leader: Field [task_struct.group_leader],
    task_comm: Field [task_struct.comm],
    task_status: Field [task_struct.thread_info.status],
    task_cred: Field [task_struct.cred],
    cred_uid: Field [cred.uid],
    task_cgroups: IfAny [task_struct.cgroups],
    css_default: IfAny [css_set.dfl_cgrp],
    cgroup_node: IfAny [cgroup.kn],
    cgroup_level: IfAny [cgroup.level],
    cgroup_ancestors: IfAny [cgroup.ancestors],
    cred_gid: Field [cred.gid],
    task_start: Field [task_struct.start_boottime],
    task_pending: Field [task_struct.pending.signal],
    task_files: Field [task_struct.files],
    files_table: Field [files_struct.fdt],
    files_count: Field [files_struct.count],
    table_len: Field [fdtable.max_fds],
    table_files: Field [fdtable.fd],
    dentry_inode: Field [dentry.d_inode],
    vma_start: Field [vm_area_struct.vm_start],
    node_id: IfAny [kernfs_node.id],
    mm_owner: IfAny [mm_struct.owner],
    regs_syscall: Field [pt_regs.orig_ax],
    /// The first argument of a 32-bit call.
    regs_first_compat: Field [pt_regs.bx],
    /// The second argument of a 32-bit call.
    regs_second_compat: Field [pt_regs.cx],
    /// A 32-bit call has its fourth argument where others have the second.
    regs_fourth: Field [pt_regs.r10],
    regs_first: Field [pt_regs.di],
    regs_second: Field [pt_regs.si],
    regs_third: Field [pt_regs.dx],
    regs_fifth: Field [pt_regs.r8],
    task_ring: IfAny [task_struct.io_uring],
    ring_registered: IfAny [io_uring_task.registered_rings],
    ring_exit_work: IfAny [io_ring_ctx.exit_work],
    ring_mm: IfAny [io_ring_ctx.mm_account],
    /// Which kind of worker has it is in the flags.
    task_worker: IfAny [task_struct.worker_private],
    kthread_data: IfAny [kthread.data],
    worker_work: IfAny [worker.current_work],
    seq_count: Field [seq_file.count],
    /// Bit of `folio.flags` that marks a large folio.
    folio_head_bit: Enumerator [pageflags.PG_head],
}
