//! The walk over the pages of one file's entries: one page, or one step to the next entry, a turn. All that a
//! turn leaves for the next is in a map, where it is any number to the verifier.

use core::ffi::c_void;

use lease_trace_common::survey::{Kind, PARTS, Part, Walk, backing, by};

use super::{
    arrays, containers, regions, rings,
    told::{FOUND, WALK, told},
};
use crate::{
    bpf::{loops, mem},
    kernel::{
        Backing, FileLease, InodePtr, Page,
        memory::{at, pointer},
    },
};

/// Turns in one run: some ten milliseconds at most, in which the kernel gives nobody else this CPU where it does
/// not preempt itself.
const TURNS: u32 = 1 << 16;

/// The walk, as the map has it.
#[inline(always)]
fn state() -> Option<&'static mut Walk> {
    let walk = WALK.get_ptr_mut(0)?;
    // SAFETY: a live map value, of which nobody else writes while somebody reads the iterator.
    Some(unsafe { &mut *walk })
}

/// Whether this file's entries are asked for, and were not looked at in this run.
#[inline(always)]
pub fn is_asked_for(file: u64) -> bool {
    state().is_some_and(|walk| walk.file == file && walk.is_found == 0)
}

/// Whether some file's entries are asked for.
#[inline(always)]
pub fn is_under_way() -> bool {
    state().is_none_or(|walk| walk.file != 0)
}

/// Goes over the entries of a file, as far as one run gets.
#[inline(always)]
pub fn run(file: u64, object: u64, kind: u32) {
    owners_run(file, object, kind);
}

/// A function of its own for the verifier: checked once, not once for each kind of file.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owners_run(_file: u64, object: u64, kind: u32) -> i64 {
    let Some(walk) = state() else { return 0 };
    walk.is_found = 1;
    walk.kind = u64::from(kind);
    walk.object = object;
    walk.entries = owners_entries(object, kind) as u64;
    let mut nothing = 0_u64;
    loops::repeat(TURNS, turn, &mut nothing);
    0
}

/// How many entries the object has. A function of its own for the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owners_entries(object: u64, kind: u32) -> i64 {
    let entries = match Kind::from_raw(kind) {
        Some(Kind::Ring) => rings::entries(object),
        Some(Kind::Umem | Kind::Dmabuf) => 1,
        // As many as the list has.
        Some(Kind::Verbs) => regions::MOST,
        Some(Kind::Vfio) => containers::MOST,
        None => 0,
    };
    entries as i64
}

/// One page, or the next entry.
unsafe extern "C" fn turn(_turn: u64, _nothing: *mut c_void) -> i64 {
    let Some(walk) = state() else { return 1 };
    if walk.by == by::NOTHING {
        close(walk);
        if walk.parts >= u64::from(PARTS) {
            return 1;
        }
        if walk.entry >= walk.entries {
            walk.is_done = 1;
            return 1;
        }
        owners_open();
        return 0;
    }
    let Some(page) = next_page(walk) else {
        go_on(walk);
        return 0;
    };
    // The run before had these.
    if walk.at <= walk.skip || walk.end_frame != 0 && !is_among(walk, page) {
        return 0;
    }
    let mapping = page.folio().mapping();
    if mapping != walk.mapping || walk.part.pins == 0 {
        if !close(walk) {
            return 1;
        }
        walk.mapping = mapping;
        describe(&mut walk.part, mapping);
    }
    walk.part.pins += 1;
    0
}

/// Whether the page is one of the frames that count: by the place of its `struct page`
/// (include/asm-generic/memory_model.h, `page_to_pfn`).
#[inline(always)]
fn is_among(walk: &Walk, page: Page) -> bool {
    let first = at::<u64>(told!(memmap), 0);
    let frame = page.0.wrapping_sub(first).checked_div(Page(0).nth(1).0);
    frame.is_some_and(|frame| frame >= walk.first_frame && frame < walk.end_frame)
}

/// Opens the entry that is next. A function of its own for the verifier, and its stack is free again for what
/// follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owners_open() -> i64 {
    let Some(walk) = state() else { return 0 };
    walk.at = 0;
    let opened = match Kind::from_raw(walk.kind as u32) {
        Some(Kind::Ring) => rings::open(walk),
        Some(Kind::Umem) => arrays::open_umem(walk),
        Some(Kind::Dmabuf) => arrays::open_dmabuf(walk),
        Some(Kind::Verbs) => regions::open(walk),
        Some(Kind::Vfio) => containers::open(walk),
        None => None,
    };
    if opened.is_none() {
        go_on(walk);
    }
    0
}

/// To the next entry.
#[inline(always)]
fn go_on(walk: &mut Walk) {
    walk.by = by::NOTHING;
    if walk.entry >= walk.seek {
        walk.skip = 0;
    }
    walk.entry += 1;
}

/// The next page of the entry; `None` at its end.
#[inline(always)]
fn next_page(walk: &mut Walk) -> Option<Page> {
    if walk.left == 0 {
        return None;
    }
    let here = walk.next;
    let page = match walk.by {
        by::ARRAY => {
            walk.next = here + walk.stride;
            walk.left -= 1;
            pointer(here, 0)?
        }
        by::PAGES => {
            walk.next = here + walk.stride;
            walk.left -= 1;
            if walk.left == 0 && walk.sg_left > 0 {
                regions::next_of_list(walk);
            }
            here
        }
        _ => arrays::next_of_list(walk)?,
    };
    walk.at += 1;
    Some(Page(page))
}

/// Enters the part that was counted, if there is any; false where there is no room.
#[inline(always)]
fn close(walk: &mut Walk) -> bool {
    if walk.part.pins == 0 {
        return true;
    }
    let Some(part) = FOUND.get_ptr_mut(walk.parts as u32) else {
        // The page that was just looked at is another part's.
        walk.at -= 1;
        walk.skip = walk.at;
        return false;
    };
    // SAFETY: a live map value.
    unsafe { mem::copy(part, &walk.part) };
    walk.parts += 1;
    walk.part.pins = 0;
    true
}

/// What the pages of this mapping are.
#[inline(always)]
fn describe(part: &mut Part, mapping: u64) {
    (part.ino, part.dev, part.leased) = (0, 0, 0);
    part.backing = match Backing::of(mapping) {
        Some(Backing::File(inode)) => {
            part.ino = inode.number();
            part.dev = inode.device();
            part.leased = leased(inode);
            backing::FILE
        }
        Some(Backing::Anonymous) => backing::ANONYMOUS,
        Some(Backing::None) | None => backing::NONE,
    };
}

/// See [`Part::leased`].
#[inline(always)]
fn leased(inode: InodePtr) -> u32 {
    let Some(head) = inode.lease_list() else {
        return 0;
    };
    match pointer(head, 0) {
        Some(first) if first != head => FileLease::of_list(first).mode() + 1,
        _ => 0,
    }
}
