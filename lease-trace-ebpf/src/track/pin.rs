//! Pins taken. A call over one shared mapping is attributed once, through its VMA; where that
//! cannot answer (private mappings of files, ranges over several VMAs, a busy mmap lock), page by page.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf};
use lease_trace_common::{
    count::Count,
    event::EventKind,
    policy::on,
    stake::{DEAD, PIN, Pinned, leases, pins},
};

use crate::{
    bpf::loops,
    effects::context,
    effects::notify,
    effects::stack,
    judge::policy,
    judge::verdicts,
    kernel::current,
    kernel::{self, Backing, Current, File, InodePtr, Page, TaskPtr, Vma},
    state::audit,
    state::calls,
    state::inodes::InodeRef,
    state::maps::{Call, count},
    state::stakes::{NO_LEASE, StakeRef},
    track::allowance,
    track::coverage,
    track::path,
    track::short_term,
    track::tally::{self, Tally},
};

const PAGE_SHIFT: u64 = 12;

/// Pins of one call, summed up by inode address.
struct Pins {
    ctx: *mut c_void,
    /// `struct page **`.
    array: u64,
    /// Address space they were taken in, 0 for the current one.
    mm: u64,
    tally: Tally,
}

/// A call over user addresses returned the number of pages pinned, as an int or as a long that
/// fits one (the number is that of an array in memory).
#[inline(always)]
pub fn leave(ctx: *mut c_void, call: &Call, returned: i64) {
    let pinned = returned as i32;
    if pinned <= 0 {
        return;
    }
    let n = pinned as u64;
    audit::taken(n);
    if !calls::is_long_term(call.flags) {
        short_term::leave_short_term(call.pages, returned);
        return;
    }
    match mapping(call, n) {
        Mapping::Anonymous => return,
        Mapping::Shared(file) => {
            if let Some(inode) = file.mapped_inode() {
                take(ctx, inode.0, n, file.0, call.mm);
                return;
            }
        }
        Mapping::Other => {}
    }
    by_page(ctx, call.pages, n, call.mm);
}

/// Reads the pages one by one, and takes what is of one inode together. A function of its own, so that
/// its stack is free again for what follows.
#[inline(never)]
fn by_page(ctx: *mut c_void, array: u64, n: u64, mm: u64) {
    let mut pins = Pins {
        ctx,
        array,
        mm,
        tally: Tally::new(),
    };
    pins.tally.close_run();
    tally::for_each_page(n, one_page, &mut pins);
    pins.tally.close_run();
    tally::for_each_entry(take_entry, &mut pins);
}

/// What the pages of a call are mapped from.
enum Mapping {
    /// All of them from this file.
    Shared(File),
    /// None of them from a file.
    Anonymous,
    /// Perhaps some.
    Other,
}

/// What one mapping that spans all `n` pages says of them.
#[inline(always)]
fn mapping(call: &Call, n: u64) -> Mapping {
    match pin_mapping(call.start, n, call.mm) {
        OTHER => Mapping::Other,
        ANONYMOUS => Mapping::Anonymous,
        file => Mapping::Shared(File(file as u64)),
    }
}

/// What [`pin_mapping`] returns where it is no file.
const OTHER: i64 = 0;
const ANONYMOUS: i64 = 1;

/// The file behind all pages, or one of the above. A function of its own, so that its stack is not the
/// caller's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_mapping(start: u64, n: u64, mm: u64) -> i64 {
    if mm != 0 && mm != current::current().mm() {
        return OTHER;
    }
    let zero = loops::zero();
    let mut vma = Found {
        file: zero,
        end: zero,
    };
    // SAFETY: the task is what the helper returned; `in_vma` has the signature wanted.
    unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf(),
            start,
            in_vma as *mut c_void,
            (&raw mut vma).cast(),
            0,
        )
    };
    let first = start >> PAGE_SHIFT << PAGE_SHIFT;
    if first + (n << PAGE_SHIFT) <= vma.end {
        vma.file as i64
    } else {
        OTHER
    }
}

/// `memfd_pin_folios` returned `pinned` folios, one reference each.
#[inline(always)]
pub fn leave_memfd(ctx: *mut c_void, call: &Call, pinned: i64) {
    if pinned <= 0 {
        return;
    }
    audit::taken(pinned as u64);
    if let Some(inode) = File(call.start).mapped_inode() {
        take(ctx, inode.0, pinned as u64, call.start, 0);
    }
}

/// What the VMA at an address says.
struct Found {
    /// What [`pin_mapping`] returns.
    file: u64,
    end: u64,
}

unsafe extern "C" fn in_vma(_task: *mut c_void, vma: *mut c_void, found: *mut c_void) -> i64 {
    let vma = Vma::given(vma);
    // SAFETY: bpf_find_vma hands over what `pin_mapping` gave it.
    let found = unsafe { &mut *found.cast::<Found>() };
    found.end = vma.end();
    match vma.file() {
        Some(file) if vma.is_shared() => found.file = file.0,
        Some(_) => {}
        None => found.file = ANONYMOUS as u64,
    }
    0
}

/// Address of the inode that page `index` of an array belongs to, 0 if it is no file's; `None` if it
/// cannot be read.
#[inline(always)]
pub fn inode_of(array: u64, index: u64) -> Option<u64> {
    let page = Page(kernel::element(array, index)?);
    Some(match page.folio().backing() {
        Some(Backing::File(inode)) => inode.0,
        _ => 0,
    })
}

/// Reads one page and counts it under its inode.
unsafe extern "C" fn one_page(index: u64, pins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `by_page` gave it.
    let pins = unsafe { &mut *pins.cast::<Pins>() };
    match inode_of(pins.array, index) {
        Some(inode) => pins.tally.add(inode, 1),
        None => count(Count::LostPages, 1),
    }
    0
}

unsafe extern "C" fn take_entry(index: u64, pins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `by_page` gave it.
    let pins = unsafe { &*pins.cast::<Pins>() };
    let Some((inode, n)) = pins.tally.entry(index) else {
        return 1;
    };
    let is_kept = note_stack_apart(pins.ctx, inode, pins.mm);
    if take_noted(inode, n, 0, pins.mm, is_kept) {
        renote_stack(pins.ctx, inode, pins.mm);
    }
    0
}

/// Attributes `n` pins in the inode at this address; `file` is the open file through which all of them
/// were taken, 0 if it is not known.
#[inline(always)]
fn take(ctx: *mut c_void, inode: u64, n: u64, file: u64, mm: u64) {
    let is_kept = note_stack(ctx, inode, mm);
    if take_noted(inode, n, file, mm, is_kept) {
        // The stake that had it was deleted meanwhile.
        renote_stack(ctx, inode, mm);
    }
}

/// The same once the stack is noted, see [`stack::note`]; whether the stake has none all the same.
#[inline(always)]
fn take_noted(inode: u64, n: u64, file: u64, mm: u64, is_kept: bool) -> bool {
    pin_deduct(inode);
    let is_missing = pin_take(inode, n, file, mm, u64::from(is_kept)) != 0;
    if is_kept {
        stack::forget();
    }
    // Once more, of who was the only owner so far.
    pin_deduct(inode);
    is_missing
}

/// Not within `pin_take`, because calls go eight deep at most.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_deduct(inode: u64) -> i64 {
    if let Some(inode) = InodeRef::find(inode) {
        allowance::deduct(inode);
    }
    0
}

/// Notes the stack of the call, see [`stack::note`]. Not a function of its own, which would be a frame of
/// that stack.
#[inline(always)]
fn note_stack(ctx: *mut c_void, inode: u64, mm: u64) -> bool {
    stack::note(ctx, owners_stake(inode, mm))
}

/// The same as a function of its own, where there is no stack left for it.
#[inline(never)]
fn note_stack_apart(ctx: *mut c_void, inode: u64, mm: u64) -> bool {
    note_stack(ctx, inode, mm)
}

/// Notes the stack in the stake, whatever pins it has. A function of its own, because it is rarely called.
#[inline(never)]
fn renote_stack(ctx: *mut c_void, inode: u64, mm: u64) {
    if let Some(stake) = owners_stake(inode, mm) {
        stack::note_in(ctx, stake);
    }
}

/// What the owner of `mm` has in the inode at this address.
#[inline(always)]
fn owners_stake(inode: u64, mm: u64) -> Option<StakeRef> {
    let tgid = owner_tgid(mm);
    InodeRef::find(inode).and_then(|inode| StakeRef::find(tgid, inode.get().id))
}

/// Attributes `n` pins in the inode at this address to the process that took them; `file` and
/// `mm` as in [`Pins`], `is_kept` as [`stack::note`] has it. Returns 1 if the stake has no stack. A function
/// of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn pin_take(inode: u64, n: u64, file: u64, mm: u64, is_kept: u64) -> i64 {
    let inode_ptr = InodePtr(inode);
    if inode_ptr.is_private() {
        return 0;
    }
    let Some(inode) = InodeRef::add(inode_ptr, n * PIN) else {
        return 0;
    };
    let id = inode.get().id;
    let found = own_stake(mm, id).or_else(|| {
        let tgid = pin_owner(mm, u64::from(inode.slot), id) as u32;
        StakeRef::find(tgid, id)
    });
    let Some(stake) = found else {
        inode.drop_pins(n);
        inode.forget_if_empty();
        return 0;
    };
    count(Count::Pinned, n);
    let word = stake.word();
    if pins(word) == 0 {
        describe(stake, mm, is_kept != 0);
        context::note(stake);
    }
    if leases(word) < leases(inode.word()) && (leases(word) == 0 || pins(word) == 0) {
        if file != 0 {
            coverage::add_by_file(stake, File(file));
        }
        coverage::add_by_descriptors(stake, inode);
    }
    match stake.add_pins(inode, n) {
        Pinned::First | Pinned::More => {}
        Pinned::Bare => bare(inode_ptr, inode, stake, file, n),
        Pinned::Dead => {
            count(Count::LostStakes, 1);
            inode.drop_pins(n);
        }
    }
    i64::from(stake.get().stack[0] == 0)
}

/// The first pins, and no lease covers them.
#[inline(always)]
fn bare(inode_ptr: InodePtr, inode: InodeRef, stake: StakeRef, file: u64, n: u64) {
    path::record(
        inode.get().id,
        Some(File(file)).filter(|file| file.0 != 0),
        inode_ptr,
    );
    // SAFETY: a live map value: no lease is behind these pins.
    unsafe { (*stake.get_ptr()).lease = NO_LEASE };
    stake.set_file(file);
    notify::stake(EventKind::BarePin, inode, stake, n);
    if policy::header().bare_pins() {
        verdicts::judge_later(stake, inode.slot, on::BARE_PIN, 0);
    }
}

/// The stake that the current process has already, if the pins are its own.
#[inline(always)]
fn own_stake(mm: u64, inode_id: u64) -> Option<StakeRef> {
    if mm != 0 {
        return None;
    }
    StakeRef::find(current::tgid(), inode_id).filter(|stake| {
        stake.word() & DEAD == 0 && stake.get().started_ns == Current::get().started()
    })
}

/// The process that owns `mm` if that is not the current one.
#[inline(always)]
fn other_owner(mm: u64) -> Option<TaskPtr> {
    if mm == 0 || mm == current::current().mm() {
        None
    } else {
        kernel::mm_owner(mm)
    }
}

#[inline(always)]
fn owner_tgid(mm: u64) -> u32 {
    other_owner(mm).map_or(current::tgid(), TaskPtr::tgid)
}

/// Whose pins: the current process's, or those of the process that owns `mm`. Makes its stake if
/// there is none, and returns its thread group id. A function of its own, so that its stack is
/// free again for what follows.
#[unsafe(no_mangle)]
extern "C" fn pin_owner(mm: u64, slot: u64, inode_id: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return 0;
    };
    let other = other_owner(mm);
    let started = other.unwrap_or_else(current::current).started();
    let owner = match other {
        None => current::describe(),
        Some(other) => current::describe_other(other),
    };
    _ = StakeRef::find_or_make(&owner, started, inode);
    i64::from(owner.tgid)
}

/// Notes when and by which call the first pins were taken.
#[inline(always)]
fn describe(stake: StakeRef, mm: u64, is_kept: bool) {
    let record = stake.get_ptr();
    // SAFETY: live map values.
    unsafe {
        (*record).pinned_ns = current::now();
        (*record).task = other_owner(mm).unwrap_or_else(current::current).leader();
        (*record).mm = if mm == 0 { current::current().mm() } else { mm };
    }
    if is_kept {
        stack::move_to(stake);
    }
}
