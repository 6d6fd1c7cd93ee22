//! Fills the offsets of [`Config`] from BTF. A field may have had other names in other kernels:
//! the first that exists is taken. A required one that is missing is an error that names it.

use lease_trace_common::config::{ABSENT, Config, FOLIO_MAPPING, Offsets, PAGE_HEAD, PAGE_SIZE};

use super::btf::{Btf, Error};

/// Reads the first of several `struct.field` that exists.
fn any(btf: &Btf, names: &[(&str, &str)]) -> Result<u32, Error> {
    let mut first = None;
    for (of, path) in names {
        match btf.offset(of, path) {
            Ok(offset) => return Ok(offset),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.unwrap_or(Error::Malformed("no name to look for")))
}

/// Everything the programs need to know about this kernel's structures.
pub fn config(btf: &Btf) -> Result<Config, Error> {
    let offsets = offsets(btf)?;
    let page = (offsets.page_head, offsets.folio_mapping, offsets.page_size);
    let is_known = page == (PAGE_HEAD, FOLIO_MAPPING, PAGE_SIZE);
    let words = words(btf);
    Ok(Config {
        offsets,
        foll_longterm: foll_longterm(btf),
        file_ref: u32::from(btf.offset("file", "f_ref").is_ok()),
        words,
        pages: if is_known { words } else { 0 },
        plain: u32::from(is_known),
        ..Config::default()
    })
}

/// See [`Config::words`].
fn words(btf: &Btf) -> u32 {
    /// 8,192 processors, and enough for what is read.
    const BYTES: u32 = 1024;
    let is_large = btf.size_of("cpumask").is_ok_and(|size| size >= BYTES);
    let id = btf.structure("cpumask").filter(|_| is_large);
    id.filter(|_| btf.has_function("bpf_rdonly_cast"))
        .unwrap_or(0)
}

fn offsets(btf: &Btf) -> Result<Offsets, Error> {
    let one = |of: &str, path: &str| btf.offset(of, path);
    let optional = |names: &[(&str, &str)]| any(btf, names).unwrap_or(ABSENT);
    let lease = |modern: &str, old: &str| any(btf, &[("file_lease", modern), ("file_lock", old)]);
    Ok(Offsets {
        file_inode: one("file", "f_inode")?,
        file_mapping: one("file", "f_mapping")?,
        file_dentry: one("file", "f_path.dentry")?,
        file_mnt: one("file", "f_path.mnt")?,
        file_private: one("file", "private_data")?,
        file_count: any(btf, &[("file", "f_ref.refcnt"), ("file", "f_count")])?,
        inode_ino: one("inode", "i_ino")?,
        inode_sb: one("inode", "i_sb")?,
        inode_flags: one("inode", "i_flags")?,
        inode_generation: one("inode", "i_generation")?,
        inode_mode: one("inode", "i_mode")?,
        inode_size: one("inode", "i_size")?,
        inode_mapping: one("inode", "i_mapping")?,
        inode_flctx: one("inode", "i_flctx")?,
        inode_dentry: one("inode", "i_dentry")?,
        sb_dev: one("super_block", "s_dev")?,
        sb_magic: one("super_block", "s_magic")?,
        mapping_host: one("address_space", "host")?,
        flctx_lease: one("file_lock_context", "flc_lease")?,
        fl_list: lease("c.flc_list", "fl_list")?,
        fl_file: lease("c.flc_file", "fl_file")?,
        fl_flags: lease("c.flc_flags", "fl_flags")?,
        fl_type: lease("c.flc_type", "fl_type")?,
        fl_pid: lease("c.flc_pid", "fl_pid")?,
        dentry_parent: one("dentry", "d_parent")?,
        dentry_name: any(
            btf,
            &[("dentry", "d_name.name"), ("dentry", "__d_name.name")],
        )?,
        dentry_len: any(btf, &[("dentry", "d_name.len"), ("dentry", "__d_name.len")])?,
        dentry_hashed: one("dentry", "d_hash.pprev")?,
        dentry_alias: any(btf, &[("dentry", "d_u.d_alias"), ("dentry", "d_alias")])?,
        vfsmount_root: one("vfsmount", "mnt_root")?,
        mount_mnt: one("mount", "mnt")?,
        mount_parent: one("mount", "mnt_parent")?,
        mount_mountpoint: one("mount", "mnt_mountpoint")?,
        page_head: any(btf, &[("page", "compound_head"), ("page", "compound_info")])?,
        folio_mapping: one("folio", "mapping")?,
        folio_refcount: one("folio", "_refcount")?,
        folio_pincount: one("folio", "_pincount")?,
        folio_flags: one("folio", "flags")?,
        page_size: btf.size_of("page")?,
        batch_nr: one("folio_batch", "nr")?,
        batch_folios: one("folio_batch", "folios")?,
        vma_end: one("vm_area_struct", "vm_end")?,
        vma_flags: one("vm_area_struct", "vm_flags")?,
        vma_file: one("vm_area_struct", "vm_file")?,
        task_tgid: one("task_struct", "tgid")?,
        task_mm: one("task_struct", "mm")?,
        task_flags: one("task_struct", "flags")?,
        task_signal: one("task_struct", "signal")?,
        signal_exit_code: one("signal_struct", "group_exit_code")?,
        task_leader: one("task_struct", "group_leader")?,
        task_comm: one("task_struct", "comm")?,
        task_status: one("task_struct", "thread_info.status")?,
        task_cred: one("task_struct", "cred")?,
        cred_uid: one("cred", "uid")?,
        task_cgroups: optional(&[("task_struct", "cgroups")]),
        css_default: optional(&[("css_set", "dfl_cgrp")]),
        cgroup_node: optional(&[("cgroup", "kn")]),
        node_id: optional(&[("kernfs_node", "id")]),
        cgroup_level: optional(&[("cgroup", "level")]),
        cgroup_ancestors: optional(&[("cgroup", "ancestors")]),
        cred_gid: one("cred", "gid")?,
        task_start: one("task_struct", "start_boottime")?,
        task_pending: one("task_struct", "pending.signal")?,
        task_files: one("task_struct", "files")?,
        files_table: one("files_struct", "fdt")?,
        files_count: one("files_struct", "count")?,
        table_len: one("fdtable", "max_fds")?,
        table_files: one("fdtable", "fd")?,
        dentry_inode: one("dentry", "d_inode")?,
        vma_start: one("vm_area_struct", "vm_start")?,
        mm_owner: optional(&[("mm_struct", "owner")]),
        regs_syscall: one("pt_regs", "orig_ax")?,
        regs_first: one("pt_regs", "di")?,
        regs_first_compat: one("pt_regs", "bx")?,
        regs_second_compat: one("pt_regs", "cx")?,
        regs_third: one("pt_regs", "dx")?,
        regs_fourth: one("pt_regs", "r10")?,
        regs_fifth: one("pt_regs", "r8")?,
        regs_second: one("pt_regs", "si")?,
        task_ring: optional(&[("task_struct", "io_uring")]),
        ring_registered: optional(&[("io_uring_task", "registered_rings")]),
        ring_exit_work: optional(&[("io_ring_ctx", "exit_work")]),
        ring_mm: optional(&[("io_ring_ctx", "mm_account")]),
        seq_count: one("seq_file", "count")?,
        folio_head_bit: btf
            .enumerator("PG_head")
            .ok_or_else(|| Error::NoType("pageflags (PG_head)".to_owned()))?
            as u32,
    })
}

/// `FOLL_LONGTERM` is an enumerator since 6.3; before, it was a macro with this value
/// (include/linux/mm.h of 6.1) and so not in BTF.
fn foll_longterm(btf: &Btf) -> u32 {
    const MACRO: u32 = 0x10000;
    btf.enumerator("FOLL_LONGTERM")
        .map_or(MACRO, |value| value as u32)
}
