//! The walk over the pages of one file's entries: one page, or one step to the next entry, a turn. All that a
//! turn leaves for the next is in a map, where it is any number to the verifier.

use core::ffi::c_void;

use lease_trace_common::survey::{Kind, Part, Walk, backing, by};

use super::{
    arrays, containers, regions, rings,
    told::{FOUND, WALK, told, told_if_any},
};
use crate::{
    bpf::{loops, mem},
    kernel::{
        Backing, FileLease, Folio, InodePtr, Page,
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
pub fn run(object: u64, kind: u32) {
    owners_run(object, kind);
}

/// A global function, verified separately: checked once, not once for each kind of file.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owners_run(object: u64, kind: u32) -> i64 {
    let Some(walk) = state() else { return 0 };
    walk.is_found = 1;
    walk.kind = u64::from(kind);
    walk.object = object;
    walk.entries = owners_entries(object, kind) as u64;
    let mut nothing = 0_u64;
    loops::repeat(TURNS, turn, &mut nothing);
    0
}

/// How many entries the object has. A global function, verified separately.
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
        if !close(walk) {
            return 1;
        }
        if walk.entry >= walk.entries {
            walk.is_done = 1;
            return 1;
        }
        owners_open();
        return 0;
    }
    if walk.at < walk.skip {
        skip_some(walk);
        return 0;
    }
    let Some(page) = next_page(walk) else {
        go_on(walk);
        return 0;
    };
    let folio = page.folio();
    if walk.end_frame != 0 && !is_among(walk, folio) {
        return 0;
    }
    let mapping = folio.mapping();
    if mapping != walk.mapping || walk.part.pins == 0 {
        if !close(walk) {
            // It is the next run's.
            walk.at -= 1;
            walk.skip = walk.at;
            return 1;
        }
        walk.mapping = mapping;
        walk.part.offset = (walk.at - 1) * PAGE_SIZE;
        describe(&mut walk.part, mapping);
    }
    walk.part.pins += 1;
    0
}

/// Steps of a turn that only goes over what is known.
const STEPS: u32 = 32;
const PAGE_SIZE: u64 = 4096;

/// Goes over some pages that a run before has looked at: those of an array, or of an element of a scatterlist, at
/// once. Where the entry has become shorter, to its end.
#[inline(always)]
fn skip_some(walk: &mut Walk) {
    for _ in 0..STEPS {
        if walk.at >= walk.skip {
            return;
        }
        if walk.by == by::LIST {
            if arrays::next_of_list(walk).is_none() {
                walk.skip = walk.at;
                return;
            }
            walk.at += 1;
            continue;
        }
        let known = walk.skip - walk.at;
        let n = if known < walk.left { known } else { walk.left };
        if n == 0 {
            walk.skip = walk.at;
            return;
        }
        walk.at += n;
        walk.next += n * walk.stride;
        walk.left -= n;
        if walk.left == 0 && walk.by == by::PAGES {
            regions::next_of_list(walk);
        }
    }
}

/// Whether any page of the folio is one of the frames that count: a pin keeps all of it. By the place of its
/// `struct page` (include/asm-generic/memory_model.h, `page_to_pfn`).
#[inline(always)]
fn is_among(walk: &Walk, folio: Folio) -> bool {
    let first = at::<u64>(told!(memmap), 0);
    let frame = folio.0.wrapping_sub(first).checked_div(Page(0).nth(1).0);
    let len = match told_if_any!(own.folio_nr) {
        Some(nr) if folio.is_large() => u64::from(at::<u32>(folio.0, nr)),
        _ => 1,
    };
    frame.is_some_and(|frame| frame + len > walk.first_frame && frame < walk.end_frame)
}

/// Opens the entry that is next. A global function, verified separately, and its stack is free again for what
/// follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owners_open() -> i64 {
    let Some(walk) = state() else { return 0 };
    if walk.entry < walk.seek {
        seek(walk);
        return 0;
    }
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

/// Goes some entries of a list further to the one that is asked for.
#[inline(always)]
fn seek(walk: &mut Walk) {
    for _ in 0..STEPS {
        if walk.entry >= walk.seek {
            break;
        }
        let is_there = match Kind::from_raw(walk.kind as u32) {
            Some(Kind::Verbs) => regions::next_object(walk).is_some(),
            Some(Kind::Vfio) => containers::next_range(walk).is_some(),
            _ => false,
        };
        walk.entry = if is_there {
            walk.entry + 1
        } else {
            walk.entries
        };
        if !is_there {
            break;
        }
    }
}

/// To the next entry.
#[inline(always)]
fn go_on(walk: &mut Walk) {
    walk.by = by::NOTHING;
    walk.skip = 0;
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
            plausible(pointer(here, 0)?)?
        }
        by::PAGES => {
            walk.next = here + walk.stride;
            walk.left -= 1;
            if walk.left == 0 {
                regions::next_of_list(walk);
            }
            plausible(here)?
        }
        _ => plausible(arrays::next_of_list(walk)?)?,
    };
    walk.at += 1;
    Some(Page(page))
}

/// An address that may be that of a `struct page`: what is read may be just being freed.
#[inline(always)]
fn plausible(page: u64) -> Option<u64> {
    /// More than there are on any machine: 64 TiB of memory.
    const BYTES: u64 = 1 << 40;
    let first = match told!(memmap) {
        0 => return Some(page),
        memmap => at::<u64>(memmap, 0),
    };
    (page.wrapping_sub(first) < BYTES).then_some(page)
}

/// Enters the part that was counted, if there is any; false where there is no room.
#[inline(always)]
fn close(walk: &mut Walk) -> bool {
    if walk.part.pins == 0 {
        return true;
    }
    let Some(part) = FOUND.get_ptr_mut(walk.parts as u32) else {
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
