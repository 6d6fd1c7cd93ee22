//! Pins taken. A call over one shared mapping is attributed once, through its VMA, if the first and the last
//! page agree; where that cannot answer (private mappings of files, ranges over several VMAs, a busy mmap lock, a
//! mapping that was put in the place of another meanwhile), page by page.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf};
use lease_trace_common::{
    books as common,
    count::Count,
    logged::Logged,
    stake::{leases, pins},
    word::{Change, has_nothing},
};

use crate::{
    bpf::loops,
    kernel::{self, Current, File, InodePtr, Owner, Page, TaskPtr, Vma, current},
    state::{
        calls, cross_check,
        inodes::InodeRef,
        losses::{logged, lost},
        maps::{Call, count},
        stakes::{NO_LEASE, StakeRef},
    },
    track::{
        books, counts, coverage, own_leases, page_cache, path, react,
        runs::{self, Run},
        short_term,
    },
};

const PAGE_SHIFT: u64 = 12;

/// Pins of one call; runs are by the inode's address.
struct Pins<'a> {
    ctx: *mut c_void,
    call: &'a Call,
    /// [`KEPT`], and how much was looked through, in [`LOOKED_AT`].
    flags: u64,
    run: Run,
}

/// A call returned the number of pages pinned, or of references to a file's folios, as an int or as a long
/// that fits one (the number is that of an array in memory).
#[inline(always)]
pub fn leave(ctx: *mut c_void, call: &Call, returned: i64) {
    let pinned = returned as i32;
    if pinned <= 0 {
        return;
    }
    let n = pinned as u64;
    cross_check::taken(n);
    if !calls::is_long_term(call.flags) {
        short_term::leave_short_term(call.pages, returned);
        return;
    }
    let mapping = if call.is_of_file() {
        Mapping::Shared(File(call.start))
    } else {
        mapping(call, n)
    };
    match mapping {
        Mapping::Anonymous => return,
        Mapping::Shared(file) => {
            if let Some(inode) = file.mapped_inode()
                && (call.is_of_file() || pin_ends_are_of(inode.0, call.pages, n) != 0)
            {
                take(ctx, inode.0, n, file.0, call.mm);
                return;
            }
        }
        Mapping::Other => {}
    }
    by_page(ctx, call, n);
}

/// Reads the pages one by one, and takes what is of one inode together.
#[inline(always)]
fn by_page(ctx: *mut c_void, call: &Call, n: u64) {
    let mut pins = Pins {
        ctx,
        call,
        flags: loops::zero(),
        run: Run::new(),
    };
    runs::for_each_page(call.pages, n, one_page, &mut pins);
    let run = pins.run.end();
    take_run(&mut pins, run);
    if pins.flags & KEPT != 0 {
        react::forget_stack();
    }
}

/// Of a call: its stack is kept for those of its stakes that have none.
const KEPT: u64 = 1;
/// A descriptor of the process, or a lease listed of its file, was looked at for leases that others have set.
const LOOKED_AT: u64 = 2;
/// How many are in one call, about: a search that has begun is brought to its end.
const MOST_LOOKED_AT: u64 = 1 << 20;

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

/// Whether the first and the last page of a call are of this inode: the mapping that is there now may not be the
/// one by which they were pinned. A global function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_ends_are_of(inode: u64, array: u64, n: u64) -> i64 {
    let is_of = |index| matches!(kernel::owner_of(array, index), Owner::Inode(of) if of == inode);
    i64::from(is_of(0) && (n == 1 || is_of(n - 1)))
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

/// Reads one page and counts it under its inode.
unsafe extern "C" fn one_page(index: u64, pins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `by_page` gave it.
    let pins = unsafe { &mut *pins.cast::<Pins<'_>>() };
    let inode = match kernel::owner_of(pins.call.pages, index) {
        Owner::Inode(inode) => inode,
        Owner::Nobody => 0,
        Owner::Unknown => pin_before(pins.call.pages, index, pins.call.detachings) as u64,
        Owner::Unreadable => {
            lost(Count::LostPages, 1, pins.call.pages);
            return 0;
        }
    };
    let run = pins.run.add(inode);
    take_run(pins, run);
    0
}

/// The inode that a page was of which left the page cache during the call, 0 if it is of none. A global function,
/// verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_before(array: u64, index: u64, since: u64) -> i64 {
    kernel::element(array, index).map_or(0, |page| {
        page_cache::inode_before(Page(page).folio(), since) as i64
    })
}

#[inline(always)]
fn take_run(pins: &mut Pins<'_>, run: Option<(u64, u64)>) {
    let Some((inode, n)) = run else { return };
    if pins.flags & KEPT == 0 {
        react::keep_stack(pins.ctx);
        let kept = pins.flags | KEPT;
        loops::keep(&mut pins.flags, kept);
    }
    let looked_at = pin_take(inode, n, 0, pins.call.mm, pins.flags) as u64 & !MISSING_STACK;
    let flags = pins.flags + looked_at;
    loops::keep(&mut pins.flags, flags);
}

/// Attributes `n` pins in the inode at this address; `file` is the open file through which all of them
/// were taken, 0 if it is not known.
#[inline(always)]
fn take(ctx: *mut c_void, inode: u64, n: u64, file: u64, mm: u64) {
    let is_kept = note_stack(ctx, inode, mm);
    let is_missing = take_noted(inode, n, file, mm, is_kept);
    if is_kept {
        react::forget_stack();
    }
    if is_missing {
        // The stake that had it was deleted meanwhile.
        renote_stack(ctx, inode, mm);
    }
}

/// The same once the stack is noted, see [`react::note_stack`]; whether the stake has none all the same.
#[inline(always)]
fn take_noted(inode: u64, n: u64, file: u64, mm: u64, is_kept: bool) -> bool {
    pin_take(inode, n, file, mm, u64::from(is_kept)) as u64 & MISSING_STACK != 0
}

/// What [`pin_take`] returns: the stake has no stack; and how much was [`LOOKED_AT`].
const MISSING_STACK: u64 = 1;

/// A global function, verified separately: checked once, not at each place.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_take(inode: u64, n: u64, file: u64, mm: u64, flags: u64) -> i64 {
    let number = pin_enter(inode, n) as u64;
    if number == 0 {
        return 0;
    }
    let from = From {
        number,
        inode,
        file,
        mm,
        flags,
    };
    let given = if prepare(number, inode, mm) {
        let is_described = pin_describe(number, file, mm, flags & KEPT) != 0;
        let looked_at = cover(from);
        pin_name(number, inode, file, mm);
        looked_at as i64 | i64::from(give(from, n, is_described))
    } else {
        pin_leave_unowned(number, n)
    };
    // Of who was the only owner so far. And a release that could not be credited before may be, now.
    pin_settle(number);
    given
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_settle(number: u64) -> i64 {
    if let Some(inode) = InodeRef::find_number(number) {
        common::settle_sole(inode);
        common::close_batch(inode);
    }
    0
}

/// Notes the stack of the call, see [`react::note_stack`]. Not a function of its own, which would be a frame of
/// that stack.
#[inline(always)]
fn note_stack(ctx: *mut c_void, inode: u64, mm: u64) -> bool {
    react::note_stack(ctx, stake_there(inode, mm))
}

/// Notes the stack in the stake, whatever pins it has. A function of its own, because it is rarely called.
#[inline(never)]
fn renote_stack(ctx: *mut c_void, inode: u64, mm: u64) {
    if let Some(stake) = stake_there(inode, mm) {
        react::note_stack_in(ctx, stake);
    }
}

/// What the owner of `mm` has in the inode at this address.
#[inline(always)]
fn stake_there(inode: u64, mm: u64) -> Option<StakeRef> {
    let tgid = owner_tgid(mm);
    InodeRef::find(inode).and_then(|inode| StakeRef::find(tgid, inode.id))
}

/// Counts `n` pins in the inode at this address; returns the number of its record, 0 if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_enter(inode: u64, n: u64) -> i64 {
    let inode = InodePtr(inode);
    if inode.is_private() {
        return 0;
    }
    match books::enter(inode, n) {
        Some(inode) => {
            count(Count::Pinned, n);
            inode.number() as i64
        }
        None => 0,
    }
}

/// Sees to it that the process that took the pins has a stake, and that this counts the lease which the process
/// may have set before. False if there is no room for the stake; that is told.
#[inline(always)]
fn prepare(number: u64, inode: u64, mm: u64) -> bool {
    let tgid = match pin_stake(number, mm) {
        MISSING => pin_owner(mm, number),
        tgid => tgid,
    };
    if tgid > 0 {
        own_leases::count_first(inode, tgid as u32);
    }
    tgid != NO_ROOM
}

/// What [`pin_stake`] returns where the current process has no stake, or the pins are another's.
const MISSING: i64 = -1;
/// What [`pin_owner`] returns where it could make none.
const NO_ROOM: i64 = -2;

/// Whose the stake is, if it has neither pins nor leases, else 0. A function of its own, so that its stack is not
/// that of what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_stake(number: u64, mm: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    own_stake(mm, inode.id).map_or(MISSING, tgid_of_empty)
}

/// Whose the stake is, if it has neither pins nor leases, else 0.
#[inline(always)]
fn tgid_of_empty(stake: StakeRef) -> i64 {
    if has_nothing(stake.word()) {
        i64::from(stake.key.tgid)
    } else {
        0
    }
}

/// The first pins of the stake are described; 1 if these are such. `file` and `mm` as in [`take`]; with [`KEPT`]
/// and [`AFTERWARDS`], as it is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_describe(number: u64, file: u64, mm: u64, how: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(owner_tgid(mm), inode.id) else {
        return 0;
    };
    let word = stake.word();
    if pins(word) > 0 && how & AFTERWARDS == 0 {
        return 0;
    }
    describe(stake, mm, how & KEPT != 0);
    react::note_context(stake);
    if leases(word) == 0 {
        // SAFETY: a map value: no lease is behind these pins, as far as is known.
        unsafe { (*stake.get_ptr()).lease = NO_LEASE };
        stake.set_file(file);
    }
    1
}

/// The file of the first pins has its path: by which they are taken, or else by which it is leased. A global
/// function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_name(number: u64, address: u64, file: u64, mm: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(owner_tgid(mm), inode.id) else {
        return 0;
    };
    let word = stake.word();
    if pins(word) > 0 || leases(word) > 0 && path::is_known(inode.id) {
        return 0;
    }
    let file = if file == 0 { stake.get().file } else { file };
    path::record(
        inode.id,
        Some(File(file)).filter(|file| file.0 != 0),
        InodePtr(address),
    );
    0
}

/// Pins on their way to a stake: the record's number, the inode's address, and as [`take`] has it; [`Pins::flags`].
#[derive(Clone, Copy)]
struct From {
    number: u64,
    inode: u64,
    file: u64,
    mm: u64,
    flags: u64,
}

/// Lets the stake be covered by leases that others have set, where there may be some; how much was [`LOOKED_AT`] for
/// that.
#[inline(always)]
fn cover(from: From) -> u64 {
    match pin_uncovered(from.number, from.mm) as u32 {
        0 => 0,
        tgid => cover_of(tgid, from),
    }
}

#[inline(always)]
fn cover_of(tgid: u32, from: From) -> u64 {
    if from.file != 0 {
        coverage::add_by_file(tgid, from.inode, File(from.file));
    }
    if from.flags >= MOST_LOOKED_AT * LOOKED_AT {
        lost(Count::LostCovers, 1, from.inode);
        return 0;
    }
    coverage::add_by_descriptors(tgid, from.number) * LOOKED_AT
}

/// Whose the stake is, if others may have set leases that cover it, else 0. A global function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_uncovered(number: u64, mm: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    match StakeRef::find(owner_tgid(mm), inode.id) {
        Some(stake) if coverage::may_be_by_others(stake, inode) => i64::from(stake.key.tgid),
        _ => 0,
    }
}

/// Gives the pins to the stake; where there is no room for one they are nobody's. True if the stake has no
/// stack.
#[inline(always)]
fn give(from: From, n: u64, is_described: bool) -> bool {
    let From {
        number,
        inode,
        file,
        mm,
        flags,
    } = from;
    let mut is_described = u64::from(is_described);
    let mut given = AGAIN;
    for _ in 0..ATTEMPTS {
        given = pin_give(number, n, mm, is_described);
        if given != AGAIN {
            break;
        }
        if !prepare(number, inode, mm) {
            break;
        }
        is_described = pin_describe(number, file, mm, flags & KEPT) as u64;
        pin_name(number, inode, file, mm);
    }
    if given == AGAIN {
        pin_leave_unowned(number, n);
    }
    if given & TO_BE_TOLD != 0 {
        pin_describe(number, file, mm, flags & KEPT | AFTERWARDS);
        cover_of(owner_tgid(mm), from);
        pin_tell(number, given as u64, mm);
    }
    given & WITHOUT_STACK != 0
}

/// Each time the stake was just deleted, or a lease just set: the next time it is there, or counted.
const ATTEMPTS: u32 = 3;

/// What [`pin_give`] returns: the stake is not there, or does not count its owner's lease: it was deleted just
/// then, since it was empty; or the pins have a place.
const AGAIN: i64 = 0;
const GIVEN: i64 = 1;
/// The stake has no stack.
const WITHOUT_STACK: i64 = 2;
/// The last pin of before went, in another thread, while these were prepared for; or they are bare, though there are
/// leases. What was described and covered may have gone with it.
const TO_BE_TOLD: i64 = 4;
/// The pins are bare as far as is known.
const BARE: i64 = 8;
const COUNT_SHIFT: u32 = 4;

/// Beside [`KEPT`]: the pins have been given.
const AFTERWARDS: u64 = 1 << 1;

/// A global function, verified separately: checked once, not at each turn.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_give(number: u64, n: u64, mm: u64, is_described: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return GIVEN;
    };
    // Looked for again: the stake may have been deleted, and its memory be another's.
    let Some(stake) = StakeRef::find(owner_tgid(mm), inode.id) else {
        return AGAIN;
    };
    if has_nothing(stake.word()) && own_leases::is_idle(inode, stake.key.tgid) {
        return AGAIN;
    }
    let change = common::give(inode, stake.in_books(), n);
    if !change.is_made() {
        return AGAIN;
    }
    stake.note_peak();
    counts::cover(change);
    let given = if stake.get().stack[0] == 0 {
        GIVEN | WITHOUT_STACK
    } else {
        GIVEN
    };
    if change.is(Change::FIRST) {
        let is_covered = change.is(Change::LEASED) || !coverage::has_more(inode, 0);
        if is_described == 0 || !is_covered {
            // With the guard that the change left.
            let bare = if change.is(Change::BARE) { BARE } else { 0 };
            return given | TO_BE_TOLD | bare | (n as i64) << COUNT_SHIFT;
        }
        react::pinned(inode, stake, change);
    }
    given
}

/// Tells of pins that [`pin_give`] has given. A global function, verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_tell(number: u64, given: u64, mm: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    // It is there: the change left a guard.
    if let Some(stake) = StakeRef::find(owner_tgid(mm), inode.id) {
        // It was described once more.
        stake.note_peak();
        let bare = if given & BARE as u64 == 0 {
            0
        } else {
            Change::BARE
        };
        react::pinned(inode, stake, Change(given >> COUNT_SHIFT | bare));
    }
    0
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pin_leave_unowned(number: u64, n: u64) -> i64 {
    if let Some(inode) = InodeRef::find_number(number) {
        common::leave_unowned(inode, n);
        logged(Logged::Unowned, n, number);
    }
    0
}

/// The stake that the current process has already, if the pins are its own.
#[inline(always)]
fn own_stake(mm: u64, inode_id: u64) -> Option<StakeRef> {
    if mm != 0 {
        return None;
    }
    StakeRef::find(current::tgid(), inode_id)
        .filter(|stake| stake.get().started_ns == Current::get().started())
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
/// there is none, and returns what [`pin_stake`] does, or [`NO_ROOM`]. A function of its own, so that its stack is
/// free again for what follows.
#[unsafe(no_mangle)]
extern "C" fn pin_owner(mm: u64, number: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let other = other_owner(mm);
    let started = other.unwrap_or_else(current::current).started();
    let owner = match other {
        None => current::describe(),
        Some(other) => current::describe_other(other),
    };
    if !StakeRef::make_if_missing(&owner, started, inode) {
        return NO_ROOM;
    }
    StakeRef::find(owner.tgid, inode.id).map_or(0, tgid_of_empty)
}

/// Notes when and by which call the first pins were taken.
#[inline(always)]
fn describe(stake: StakeRef, mm: u64, is_kept: bool) {
    let record = stake.get_ptr();
    // SAFETY: live map values.
    unsafe {
        (*record).pinned_ns = current::now();
        (*record).peak = 0;
        (*record).task = other_owner(mm).unwrap_or_else(current::current).leader();
        (*record).mm = if mm == 0 { current::current().mm() } else { mm };
    }
    if is_kept {
        react::move_stack_to(stake);
    }
}
