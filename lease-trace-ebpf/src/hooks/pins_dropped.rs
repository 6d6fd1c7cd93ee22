//! Pins dropped (mm/gup.c).

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{kernel::args::Registers as _, track::release};

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

/// `void unpin_folio(struct folio *folio)` (6.11; mm/gup.c). A folio begins like its first page, so the kprobe of
/// `unpin_user_page` is this one's, too.
#[fentry(function = "unpin_folio")]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the attribute hands over a value"
)]
pub fn unpin_folio_enter(ctx: FEntryContext) -> i32 {
    release::folio(ctx.pointer(0), 1);
    0
}

on_entry!(
    /// `void unpin_user_folio(struct folio *folio, unsigned long npages)` (6.12; mm/gup.c)
    "unpin_user_folio",
    unpin_user_folio_enter, unpin_user_folio_probe,
    |ctx| release::folio(ctx.pointer(0), ctx.number(1))
);

/// `void unpin_folios(struct folio **folios, unsigned long nfolios)` (6.11; mm/gup.c). A folio begins like its
/// first page, so the kprobe of `unpin_user_pages` is this one's, too.
#[fentry(function = "unpin_folios")]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the attribute hands over a value"
)]
pub fn unpin_folios_enter(ctx: FEntryContext) -> i32 {
    release::pages(ctx.parameter(0), ctx.parameter(1));
    0
}
