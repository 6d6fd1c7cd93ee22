//! Pins taken (mm/gup.c).

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    judge::moments,
    kernel::Folio,
    kernel::args::{Registers as _, Returned as _},
    state::{calls, maps::Call},
    track::{pin, short_term},
};

on_pin!(
    /// `long pin_user_pages(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
    /// struct page **pages)` (6.1: and `vmas`; mm/gup.c)
    "pin_user_pages",
    pin_user_pages_enter, pin_user_pages_leave, pin_user_pages_probe,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(2), pages: ctx.parameter(3)
);

on_pin!(
    /// `int pin_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags,
    /// struct page **pages)` (mm/gup.c)
    "pin_user_pages_fast",
    pin_user_pages_fast_enter, pin_user_pages_fast_leave,
    pin_user_pages_fast_probe,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(2), pages: ctx.parameter(3)
);

on_pin!(
    /// `int pin_user_pages_fast_only(unsigned long start, int nr_pages, unsigned int gup_flags,
    /// struct page **pages)` (6.1 only; mm/gup.c)
    "pin_user_pages_fast_only",
    pin_user_pages_fast_only_enter, pin_user_pages_fast_only_leave,
    pin_user_pages_fast_only_probe,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(2), pages: ctx.parameter(3)
);

on_pin!(
    /// `long pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
    /// unsigned long nr_pages, unsigned int gup_flags, struct page **pages, ...)`
    /// (then `int *locked`; 6.1: `vmas` before it; mm/gup.c)
    "pin_user_pages_remote",
    pin_user_pages_remote_enter, pin_user_pages_remote_leave,
    pin_user_pages_remote_probe,
    |ctx| mm: ctx.parameter(0), start: ctx.parameter(1), flags: ctx.number(3), pages: ctx.parameter(4)
);

on_pin!(
    /// `long pin_user_pages_unlocked(unsigned long start, unsigned long nr_pages,
    /// struct page **pages, unsigned int gup_flags)` (mm/gup.c)
    "pin_user_pages_unlocked",
    pin_user_pages_unlocked_enter, pin_user_pages_unlocked_leave,
    pin_user_pages_unlocked_probe,
    |ctx| mm: 0, start: ctx.parameter(0), flags: ctx.number(3), pages: ctx.parameter(2)
);

on_entry!(
    /// `long memfd_pin_folios(struct file *memfd, loff_t start, loff_t end,
    /// struct folio **folios, unsigned int max_folios, unsigned long *offset)` (6.11; mm/gup.c)
    "memfd_pin_folios",
    memfd_pin_folios_enter, memfd_pin_folios_probe,
    |ctx| calls::enter_long_term(Call::of_file(ctx.parameter(0), calls::long_term()))
);

/// Its return.
#[fexit(function = "memfd_pin_folios")]
#[expect(clippy::needless_pass_by_value, reason = "so the attribute wants it")]
pub fn memfd_pin_folios_leave(ctx: FExitContext) -> i32 {
    leave(ctx.raw(), ctx.returned());
    0
}

/// The return of each of the calls above. One program for all of them, since a kretprobe's is bound to
/// none, and it is what takes longest to load.
#[kretprobe]
#[expect(clippy::needless_pass_by_value, reason = "so the attribute wants it")]
pub fn pins_taken_ret(ctx: RetProbeContext) -> u32 {
    leave(ctx.raw(), ctx.returned());
    0
}

/// A call that pins returned, and was kept when it began.
#[inline(always)]
fn leave(raw: *mut c_void, returned: i64) {
    if let Some(call) = calls::kept() {
        pin::leave(raw, call, returned);
        calls::done(call);
        moments::judge(raw);
        moments::judge_bare();
    }
}

on_entry!(
    /// `void folio_add_pin(struct folio *folio)` (6.6; mm/gup.c)
    "folio_add_pin",
    folio_add_pin_enter, folio_add_pin_probe,
    |ctx| short_term::join_folio(Folio(ctx.parameter(0)), 1)
);

on_entry!(
    /// `int folio_add_pins(struct folio *folio, unsigned int pins)` (6.18; mm/gup.c)
    "folio_add_pins",
    folio_add_pins_enter, folio_add_pins_probe,
    |ctx| short_term::join_folio(Folio(ctx.parameter(0)), u64::from(ctx.parameter(1) as u32))
);

/// A call returns that may have pinned. It reads nothing, so that it is one program for any kind of hook:
///
/// `long __x64_sys_io_uring_register(const struct pt_regs *regs)`, and so `io_uring_setup`, `ioctl` and `setsockopt`
#[unsafe(no_mangle)]
#[unsafe(link_section = "kretprobe/judge_returned")]
pub extern "C" fn judge_returned(_ctx: *mut c_void) -> i64 {
    moments::judge_returned();
    0
}
