//! Iterators: over tasks, and over maps for the files in bpffs.

use core::ffi::c_void;

use crate::{
    judge::{last_cover, moments, orphans},
    kernel::{File, FileLease, MapElement, TaskPtr},
    show::{
        bpffs, idle,
        walk::{self, On},
    },
    survey::{calls, leases, proof},
    track::lease,
};

struct Walk;

impl On for Walk {
    #[inline(always)]
    fn whom(&self, file: File) -> u32 {
        last_cover::whom(file)
    }

    #[inline(always)]
    fn adopt(&self, file: File, lease: FileLease, who: TaskPtr) {
        lease::adopt(file, lease, who);
    }
}

#[inline(always)]
fn task_file(ctx: *const walk::Context) {
    walk::task_file(ctx, &Walk);
}

#[inline(always)]
fn task_vma(ctx: *const walk::Context) {
    walk::task_vma(ctx, &Walk);
}

/// What rules say of those whose lease lapsed is told.
#[inline(always)]
fn lapsed(ctx: *mut MapElement) {
    leases::lease(ctx);
    moments::judge_unlocked(ctx.cast());
}

macro_rules! on_walk {
    ($(#[$doc:meta])* $section:literal, $name:ident, $body:path) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $name(ctx: *mut c_void) -> i32 {
            $body(ctx.cast());
            0
        }
    };
}

on_walk!(
    /// `bpf_iter_task_file`: every open file of every task.
    "iter/task_file", walk_files, task_file
);

on_walk!(
    /// `bpf_iter_task_vma`: every mapping of every task.
    "iter/task_vma", walk_mappings, task_vma
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every stake, for the file `zombies`.
    "iter/bpf_map_elem", write_zombies, bpffs::zombies
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every lease, for the file `leases`.
    "iter/bpf_map_elem", write_leases, bpffs::leases
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every lease, for the file `idle`.
    "iter/bpf_map_elem", write_idle, idle::lease
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every stake, for the file `file_pins`.
    "iter/bpf_map_elem", write_file_pins, bpffs::file_pins
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every lease, for the file `lapsed`.
    "iter/bpf_map_elem", find_lapsed, lapsed
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every call that is kept, for the file `calls`.
    "iter/bpf_map_elem", end_calls, calls::call
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every stake that a monitor found orphaned, for the file `orphans`.
    "iter/bpf_map_elem", judge_orphans, orphans::stake
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every inode that is in memory, for the file `proof`.
    "iter/bpf_map_elem", prove, proof::inode
);
