//! Pins taken (mm/gup.c).

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    hooks::args::{Registers as _, Returned as _},
    judge::verdicts,
    kernel::Folio,
    state::{calls, maps::Call},
    track::{pin, short_term},
};

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
    |ctx| short_term::join_folio(Folio(ctx.parameter(0)), 1)
);

on_entry!(
    /// `int folio_add_pins(struct folio *folio, unsigned int pins)` (6.18; mm/gup.c)
    "folio_add_pins",
    folio_add_pins_enter, folio_add_pins_probe,
    |ctx| short_term::join_folio(Folio(ctx.parameter(0)), u64::from(ctx.parameter(1) as u32))
);
