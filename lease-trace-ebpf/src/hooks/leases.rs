//! Leases set, changed, ended and broken (fs/locks.c).

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    judge::{moments, paths},
    kernel::args::{Registers as _, Returned as _},
    kernel::{FileLease, InodePtr},
    state::{calls, maps::Call},
    track::{breaks, lease, over},
};

on_return!(
    /// `int generic_setlease(struct file *filp, int arg, struct file_lease **flp, void **priv)`
    /// (6.1: `long arg`, `struct file_lock **`; fs/locks.c)
    "generic_setlease",
    generic_setlease_enter, generic_setlease_leave, generic_setlease_probe, generic_setlease_ret,
    if lease::is_seen_to_return(),
    |ctx| lease::begin(&Call::new(ctx.parameter(0), 0, ctx.parameter(1) as u32)),
    |raw, call, ret| {
        lease::leave(raw, call, ret);
        paths::of_lease();
    }
);

on_entry!(
    /// `void lease_setup(struct file_lease *fl, void **priv)` (6.1: `struct file_lock *`;
    /// fs/locks.c)
    "lease_setup",
    lease_setup_enter, lease_setup_probe,
    |ctx| {
        lease::set_up(FileLease(ctx.parameter(0)));
        moments::judge_locked(ctx.as_ptr());
    }
);

on_entry!(
    /// `int lease_modify(struct file_lease *fl, int arg, struct list_head *dispose)`
    /// (6.1: `struct file_lock *`; fs/locks.c)
    "lease_modify",
    lease_modify_enter, lease_modify_probe,
    |ctx| {
        over::modify(FileLease(ctx.parameter(0)), ctx.parameter(1) as u32);
        moments::judge_locked(ctx.as_ptr());
    }
);

on_entry!(
    /// `int __break_lease(struct inode *inode, unsigned int flags)`
    /// (up to 6.15: `unsigned int mode, unsigned int type`; fs/locks.c)
    "__break_lease",
    break_lease_enter, break_lease_probe,
    |ctx| breaks::note(InodePtr(ctx.parameter(0)))
);

/// Whoever has let a lease go comes past here once `flc_lock` is free. It reads no arguments, so that it is one
/// program for any kind of hook:
///
/// `void lease_dispose_list(struct list_head *dispose)`; up to 6.18 `locks_dispose_list`, with the same parameter
/// (fs/locks.c)
#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/lease_dispose_list")]
pub extern "C" fn judge_unlocked(ctx: *mut c_void) -> i64 {
    moments::judge_unlocked(ctx);
    0
}
