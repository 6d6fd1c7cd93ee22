//! Calls that may be refused.

use core::ffi::c_void;

use crate::{
    judge::before::{close, unlock, unmap},
    kernel::args::Decision,
};

/// A point whose return value is replaced: 0 lets the call go on. Sections begin with `lsm/`, but only
/// `file_lock` is an LSM hook: each is loaded as `fmod_ret` or for the BPF LSM (`tracer/raw.rs`), for the functions
/// in `lease-trace/src/kernel/denials.rs`. A system call returns a `long`, so
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
    |call| unlock::unlock(call)
);

on_decision!(
    /// `long __x64_sys_close(const struct pt_regs *regs)` (fs/open.c)
    "lsm/close", deny_close,
    |call| close::close(call)
);

on_decision!(
    /// `long __x64_sys_close_range(const struct pt_regs *regs)` (fs/file.c)
    "lsm/close_range", deny_close_range,
    |call| close::close_range(call)
);

on_decision!(
    /// `long __x64_sys_dup2(const struct pt_regs *regs)` (fs/file.c)
    "lsm/dup2", deny_dup2,
    |call| close::dup2(call)
);

on_decision!(
    /// `long __x64_sys_dup3(const struct pt_regs *regs)` (fs/file.c)
    "lsm/dup3", deny_dup3,
    |call| close::dup2(call)
);

on_decision!(
    /// `long __x64_sys_munmap(const struct pt_regs *regs)` (mm/mmap.c)
    "lsm/munmap", deny_munmap,
    |call| unmap::munmap(call)
);

on_decision!(
    /// `long __x64_sys_mmap(const struct pt_regs *regs)` (arch/x86/kernel/sys_x86_64.c)
    "lsm/mmap", deny_mmap,
    |call| unmap::mmap(call)
);

on_decision!(
    /// `long __x64_sys_mremap(const struct pt_regs *regs)` (mm/mremap.c)
    "lsm/mremap", deny_mremap,
    |call| unmap::mremap(call)
);
