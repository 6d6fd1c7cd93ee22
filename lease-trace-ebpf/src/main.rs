//! Attach points only. Each names the kernel prototype it relies on (kernels 6.1 to 7.3; a test
//! compares them with BTF), takes its arguments from the registers and calls the module that does
//! the work. Every point exists twice: as fentry/fexit and as kprobe/kretprobe.
#![no_std]
#![no_main]
#![allow(
    internal_features,
    reason = "BPF atomics that return the old value are intrinsics only"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, a record would go through the 512 bytes of stack"
)]
#![feature(asm_experimental_arch, core_intrinsics)]

mod acting;
mod allowance;
mod atomic;
mod audit;
mod breaks;
mod cache;
mod caller;
mod calls;
mod context;
mod covers;
mod descriptors;
mod each;
mod enforce;
mod files;
mod hook;
mod inodes;
mod iter;
mod joins;
mod lease;
mod mappings;
mod maps;
mod notify;
mod path;
mod pin;
mod policy;
mod read;
mod records;
mod release;
mod stack;
mod stakes;
mod tally;
mod task;
mod uncover;

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    hook::{Decision, Registers as _, Returned as _},
    maps::Call,
    read::{FileLease, Folio, InodePtr},
};

/// A point watched on entry.
macro_rules! on_entry {
    ($(#[$doc:meta])* $function:literal, $entry:ident, $probe:ident, |$ctx:ident| $body:expr) => {
        $(#[$doc])*
        #[fentry(function = $function)]
        pub fn $entry($ctx: FEntryContext) -> i32 {
            $body;
            0
        }

        $(#[$doc])*
        #[kprobe(function = $function)]
        pub fn $probe($ctx: ProbeContext) -> u32 {
            $body;
            0
        }
    };
}

/// A point whose return counts: the arguments are kept on entry.
macro_rules! on_return {
    (
        $(#[$doc:meta])* $function:literal,
        $entry:ident, $exit:ident, $probe:ident, $ret_probe:ident,
        if $when:expr,
        |$ctx:ident| $enter:expr,
        |$raw:ident, $call:ident, $ret:ident| $leave:expr
    ) => {
        on_entry!($(#[$doc])* $function, $entry, $probe, |$ctx| if $when { $enter });

        $(#[$doc])*
        #[fexit(function = $function)]
        pub fn $exit(ctx: FExitContext) -> i32 {
            if $when && let Some($call) = calls::kept() {
                let ($raw, $ret) = (ctx.raw(), ctx.returned());
                $leave;
                calls::done($call);
                enforce::judge(ctx.raw());
            }
            0
        }

        $(#[$doc])*
        #[kretprobe(function = $function)]
        pub fn $ret_probe(ctx: RetProbeContext) -> u32 {
            if $when && let Some($call) = calls::kept() {
                let ($raw, $ret) = (ctx.raw(), ctx.returned());
                $leave;
                calls::done($call);
                enforce::judge(ctx.raw());
            }
            0
        }
    };
}

/// A call that pins. With fexit its arguments are there when it returns, so that one which is not
/// tracked leaves nothing behind on entry.
macro_rules! on_pin {
    (
        $(#[$doc:meta])* $function:literal,
        $entry:ident, $exit:ident, $probe:ident, $ret_probe:ident,
        |$ctx:ident| mm: $mm:expr, start: $start:expr, flags: $flags:expr, pages: $pages:expr
    ) => {
        $(#[$doc])*
        #[fentry(function = $function)]
        pub fn $entry($ctx: FEntryContext) -> i32 {
            let flags = $flags as u32;
            if calls::is_marked(flags) {
                calls::enter_long_term(Call { mm: $mm, ..Call::new($start, $pages, flags) });
            }
            0
        }

        $(#[$doc])*
        #[fexit(function = $function)]
        pub fn $exit($ctx: FExitContext) -> i32 {
            if !calls::is_marked($flags as u32) {
                joins::leave_short_term($pages, $ctx.returned());
                calls::forget_mixed();
            } else if let Some(call) = calls::kept() {
                pin::leave($ctx.raw(), call, $ctx.returned());
                calls::done(call);
                enforce::judge($ctx.raw());
            }
            0
        }

        $(#[$doc])*
        #[kprobe(function = $function)]
        pub fn $probe($ctx: ProbeContext) -> u32 {
            calls::enter(Call { mm: $mm, ..Call::new($start, $pages, $flags as u32) });
            0
        }

        $(#[$doc])*
        #[kretprobe(function = $function)]
        pub fn $ret_probe(ctx: RetProbeContext) -> u32 {
            if let Some(call) = calls::kept() {
                pin::leave(ctx.raw(), call, ctx.returned());
                calls::done(call);
                enforce::judge(ctx.raw());
            }
            0
        }
    };
}

on_return!(
    /// `int generic_setlease(struct file *filp, int arg, struct file_lease **flp, void **priv)`
    /// (6.1: `long arg`, `struct file_lock **`; fs/locks.c)
    "generic_setlease",
    generic_setlease_enter, generic_setlease_leave, generic_setlease_probe, generic_setlease_ret,
    if lease::is_found_on_return(),
    |ctx| calls::keep(&Call::new(ctx.parameter(0), 0, ctx.parameter(1) as u32)),
    |raw, call, ret| lease::leave(raw, call, ret)
);

on_entry!(
    /// `void lease_setup(struct file_lease *fl, void **priv)` (6.1: `struct file_lock *`;
    /// fs/locks.c)
    "lease_setup",
    lease_setup_enter, lease_setup_probe,
    |ctx| lease::set_up(FileLease(ctx.parameter(0)))
);

on_entry!(
    /// `int lease_modify(struct file_lease *fl, int arg, struct list_head *dispose)`
    /// (6.1: `struct file_lock *`; fs/locks.c)
    "lease_modify",
    lease_modify_enter, lease_modify_probe,
    |ctx| {
        lease::modify(FileLease(ctx.parameter(0)), ctx.parameter(1) as u32);
        enforce::judge(ctx.as_ptr());
    }
);

on_entry!(
    /// `int __break_lease(struct inode *inode, unsigned int flags)`
    /// (up to 6.15: `unsigned int mode, unsigned int type`; fs/locks.c)
    "__break_lease",
    break_lease_enter, break_lease_probe,
    |ctx| breaks::note(InodePtr(ctx.parameter(0)))
);

on_pin!(
    /// `long pin_user_pages(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
    /// struct page **pages)` (6.1: and `vmas`; mm/gup.c)
    "pin_user_pages",
    pin_user_pages_enter, pin_user_pages_leave, pin_user_pages_probe, pin_user_pages_ret,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(2), pages: ctx.parameter(3)
);

on_pin!(
    /// `int pin_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags,
    /// struct page **pages)` (mm/gup.c)
    "pin_user_pages_fast",
    pin_user_pages_fast_enter, pin_user_pages_fast_leave,
    pin_user_pages_fast_probe, pin_user_pages_fast_ret,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(2), pages: ctx.parameter(3)
);

on_pin!(
    /// `int pin_user_pages_fast_only(unsigned long start, int nr_pages, unsigned int gup_flags,
    /// struct page **pages)` (6.1 only; mm/gup.c)
    "pin_user_pages_fast_only",
    pin_user_pages_fast_only_enter, pin_user_pages_fast_only_leave,
    pin_user_pages_fast_only_probe, pin_user_pages_fast_only_ret,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(2), pages: ctx.parameter(3)
);

on_pin!(
    /// `long pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
    /// unsigned long nr_pages, unsigned int gup_flags, struct page **pages, ...)`
    /// (then `int *locked`; 6.1: `vmas` before it; mm/gup.c)
    "pin_user_pages_remote",
    pin_user_pages_remote_enter, pin_user_pages_remote_leave,
    pin_user_pages_remote_probe, pin_user_pages_remote_ret,
    |ctx| mm: ctx.parameter(0), start: ctx.parameter(1), flags: ctx.number(3), pages: ctx.parameter(4)
);

on_pin!(
    /// `long pin_user_pages_unlocked(unsigned long start, unsigned long nr_pages,
    /// struct page **pages, unsigned int gup_flags)` (mm/gup.c)
    "pin_user_pages_unlocked",
    pin_user_pages_unlocked_enter, pin_user_pages_unlocked_leave,
    pin_user_pages_unlocked_probe, pin_user_pages_unlocked_ret,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(3), pages: ctx.parameter(2)
);

on_return!(
    /// `long memfd_pin_folios(struct file *memfd, loff_t start, loff_t end,
    /// struct folio **folios, unsigned int max_folios, unsigned long *offset)` (6.11; mm/gup.c)
    "memfd_pin_folios",
    memfd_pin_folios_enter, memfd_pin_folios_leave,
    memfd_pin_folios_probe, memfd_pin_folios_ret,
    if true,
    |ctx| calls::enter_long_term(Call::new(ctx.parameter(0), 0, 0)),
    |raw, call, ret| pin::leave_memfd(raw, call, ret)
);

on_entry!(
    /// `void folio_add_pin(struct folio *folio)` (6.6; mm/gup.c)
    "folio_add_pin",
    folio_add_pin_enter, folio_add_pin_probe,
    |ctx| joins::join_folio(Folio(ctx.parameter(0)), 1)
);

on_entry!(
    /// `int folio_add_pins(struct folio *folio, unsigned int pins)` (6.18; mm/gup.c)
    "folio_add_pins",
    folio_add_pins_enter, folio_add_pins_probe,
    |ctx| joins::join_folio(Folio(ctx.parameter(0)), u64::from(ctx.parameter(1) as u32))
);

on_entry!(
    /// `void unpin_user_page(struct page *page)` (mm/gup.c)
    "unpin_user_page",
    unpin_user_page_enter, unpin_user_page_probe,
    |ctx| release::page(ctx.pointer(0))
);

on_entry!(
    /// `void unpin_user_pages(struct page **pages, unsigned long npages)` (mm/gup.c)
    "unpin_user_pages",
    unpin_user_pages_enter, unpin_user_pages_probe,
    |ctx| release::pages(ctx.parameter(0), ctx.parameter(1))
);

on_entry!(
    /// `void unpin_user_pages_dirty_lock(struct page **pages, unsigned long npages,
    /// bool make_dirty)`; without `make_dirty` it calls `unpin_user_pages` (mm/gup.c)
    "unpin_user_pages_dirty_lock",
    unpin_user_pages_dirty_lock_enter, unpin_user_pages_dirty_lock_probe,
    |ctx| if ctx.parameter(2) as u8 != 0 { release::pages(ctx.parameter(0), ctx.parameter(1)) }
);

on_entry!(
    /// `void unpin_user_page_range_dirty_lock(struct page *page, unsigned long npages,
    /// bool make_dirty)` (mm/gup.c)
    "unpin_user_page_range_dirty_lock",
    unpin_user_page_range_dirty_lock_enter, unpin_user_page_range_dirty_lock_probe,
    |ctx| release::range(ctx.pointer(0), || ctx.parameter(0), || ctx.number(1))
);

on_entry!(
    /// `void unpin_folio(struct folio *folio)` (6.11; mm/gup.c)
    "unpin_folio",
    unpin_folio_enter, unpin_folio_probe,
    |ctx| release::folio(ctx.pointer(0), 1)
);

on_entry!(
    /// `void unpin_user_folio(struct folio *folio, unsigned long npages)` (6.12; mm/gup.c)
    "unpin_user_folio",
    unpin_user_folio_enter, unpin_user_folio_probe,
    |ctx| release::folio(ctx.pointer(0), ctx.number(1))
);

on_entry!(
    /// `void unpin_folios(struct folio **folios, unsigned long nfolios)` (6.11; mm/gup.c)
    "unpin_folios",
    unpin_folios_enter, unpin_folios_probe,
    |ctx| release::folios(ctx.parameter(0), ctx.parameter(1))
);

on_entry!(
    /// `void __filemap_remove_folio(struct folio *folio, void *shadow)` (mm/filemap.c)
    "__filemap_remove_folio",
    filemap_remove_folio_enter, filemap_remove_folio_probe,
    |ctx| cache::detach(Folio(ctx.parameter(0)))
);

on_entry!(
    /// `void delete_from_page_cache_batch(struct address_space *mapping,
    /// struct folio_batch *fbatch)` (mm/filemap.c)
    "delete_from_page_cache_batch",
    delete_from_page_cache_batch_enter, delete_from_page_cache_batch_probe,
    |ctx| cache::detach_batch(ctx.parameter(1))
);

on_entry!(
    /// `void __destroy_inode(struct inode *inode)` (fs/inode.c)
    "__destroy_inode",
    destroy_inode_enter, destroy_inode_probe,
    |ctx| cache::evict(InodePtr(ctx.parameter(0)))
);

on_return!(
    /// `void io_ring_exit_work(struct work_struct *work)` (io_uring/io_uring.c)
    "io_ring_exit_work",
    io_ring_exit_work_enter, io_ring_exit_work_leave,
    io_ring_exit_work_probe, io_ring_exit_work_ret,
    if true,
    |ctx| acting::begin(ctx.parameter(0)),
    |raw, call, ret| acting::end(raw, call, ret)
);

/// A point whose return value is replaced: 0 lets the call go on. A system call returns a `long`, so
/// the whole register counts: with an `int` -EBUSY would be a large positive number.
macro_rules! on_decision {
    ($(#[$doc:meta])* $section:literal, $name:ident, |$call:ident| $body:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $name(ctx: *mut c_void) -> i64 {
            let $call = Decision(ctx);
            $body
        }
    };
}

on_decision!(
    /// `int security_file_lock(struct file *file, unsigned int cmd)`, as LSM hook `file_lock`
    /// (security/security.c)
    "lsm/file_lock", deny_unlock,
    |call| enforce::unlock(call)
);

on_decision!(
    /// `long __x64_sys_close(const struct pt_regs *regs)` (fs/open.c)
    "lsm/close", deny_close,
    |call| descriptors::close(call)
);

on_decision!(
    /// `long __x64_sys_close_range(const struct pt_regs *regs)` (fs/file.c)
    "lsm/close_range", deny_close_range,
    |call| descriptors::close_range(call)
);

on_decision!(
    /// `long __x64_sys_dup2(const struct pt_regs *regs)` (fs/file.c)
    "lsm/dup2", deny_dup2,
    |call| descriptors::dup2(call)
);

on_decision!(
    /// `long __x64_sys_dup3(const struct pt_regs *regs)` (fs/file.c)
    "lsm/dup3", deny_dup3,
    |call| descriptors::dup2(call)
);

on_decision!(
    /// `long __x64_sys_munmap(const struct pt_regs *regs)` (mm/mmap.c)
    "lsm/munmap", deny_munmap,
    |call| mappings::munmap(call)
);

on_decision!(
    /// `long __x64_sys_mmap(const struct pt_regs *regs)` (arch/x86/kernel/sys_x86_64.c)
    "lsm/mmap", deny_mmap,
    |call| mappings::mmap(call)
);

on_decision!(
    /// `long __x64_sys_mremap(const struct pt_regs *regs)` (mm/mremap.c)
    "lsm/mremap", deny_mremap,
    |call| mappings::mremap(call)
);

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
    "iter/task_file", walk_files, iter::task_file
);

on_walk!(
    /// `bpf_iter_task_vma`: every mapping of every task.
    "iter/task_vma", walk_mappings, iter::task_vma
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every stake, for the file `zombies`.
    "iter/bpf_map_elem", write_zombies, files::zombies
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every lease, for the file `leases`.
    "iter/bpf_map_elem", write_leases, files::leases
);

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every stake, for the file `file_pins`.
    "iter/bpf_map_elem", write_file_pins, files::file_pins
);

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
