//! Pins taken. A call over one shared mapping is attributed once, through its VMA; where that
//! cannot answer (private mappings, ranges over several VMAs, a busy mmap lock), page by page.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf, bpf_get_stack};
use lease_trace_common::{
    STACK_LEN,
    count::Count,
    event::EventKind,
    policy::on,
    stake::{PIN, Pinned, leases, pins},
};

use crate::{
    atomic, audit, context, covers, each, enforce,
    inodes::InodeRef,
    maps::{CALLS, CONFIG, Call, PINNING, STACKS, count},
    notify, path, policy,
    read::{self, Backing, File, Folio, InodePtr, Page, TaskPtr, Vma},
    release,
    stakes::{NO_LEASE, StakeRef},
    tally::{self, Tally},
    task,
};

const PAGE_SHIFT: u64 = 12;

/// Whether pins with these FOLL flags are wanted as pins of their own.
#[inline(always)]
pub fn is_long_term(flags: u32) -> bool {
    let long_term = read::constant(&CONFIG.foll_longterm);
    let all = read::constant(&CONFIG.pins_all);
    all != 0 || flags & long_term != 0
}

/// A pin call begins: its arguments are kept until it returns, and mark the thread, since what
/// is unpinned meanwhile (the kernel's own retries) was never counted.
#[inline(always)]
pub fn enter(call: Call) {
    let mut call = call;
    if is_long_term(call.flags) || audit::is_on() {
        call.pinning = 1;
    }
    keep(&call);
}

/// A call that always pins for the long term begins.
#[inline(always)]
pub fn enter_long_term(call: Call) {
    keep(&Call { pinning: 1, ..call });
}

/// Keeps the arguments of any call until it returns.
#[inline(always)]
pub fn keep(call: &Call) {
    if call.pinning != 0 {
        forget_unreturned();
    }
    if CALLS.insert(task::pid_tgid(), call, 0).is_err() {
        count(Count::LostCalls, 1);
    } else if call.pinning != 0 {
        // SAFETY: a global of this object.
        unsafe { atomic::add(&raw mut PINNING, 1) };
    }
}

/// A call of this thread whose return was not seen (the kernel has a limited number of kretprobes
/// under way) is over, now that the next begins: its pins were missed.
#[inline(always)]
fn forget_unreturned() {
    // SAFETY: a live map value of this thread.
    let pinning = CALLS
        .get_ptr(task::pid_tgid())
        .is_some_and(|call| unsafe { (*call).pinning != 0 });
    if pinning {
        count(Count::LostCalls, 1);
        // SAFETY: a global of this object.
        unsafe { atomic::sub(&raw mut PINNING, 1) };
    }
}

/// What [`keep`] kept for this thread; [`done`] must follow.
#[inline(always)]
pub fn kept<'a>() -> Option<&'a Call> {
    // SAFETY: a live map value; the entry belongs to this thread, which is here and removes it
    // only in `done`.
    CALLS
        .get_ptr(task::pid_tgid())
        .map(|call| unsafe { &*call })
}

/// The call has been dealt with.
#[inline(always)]
pub fn done(call: &Call) {
    if call.pinning != 0 {
        // SAFETY: a global of this object.
        unsafe { atomic::sub(&raw mut PINNING, 1) };
    }
    _ = CALLS.remove(task::pid_tgid());
}

/// Whether this thread is inside a pin call.
#[inline(always)]
pub fn under_way() -> bool {
    // SAFETY: a global of this object.
    if unsafe { atomic::load(&raw const PINNING) } == 0 {
        return false;
    }
    // SAFETY: the entry belongs to this thread.
    CALLS
        .get_ptr(task::pid_tgid())
        .is_some_and(|call| unsafe { (*call).pinning != 0 })
}

/// Pins of one call, summed up by inode address.
struct Pins {
    ctx: *mut c_void,
    /// `struct page **`.
    array: u64,
    /// Address space they were taken in, 0 for the current one.
    mm: u64,
    /// Address of the open file through which all of them were taken, 0 if not known.
    file: u64,
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
    if !is_long_term(call.flags) {
        short_term(call, n);
        return;
    }
    let mut pins = Pins {
        ctx,
        array: call.pages,
        mm: call.mm,
        file: 0,
        tally: Tally::new(),
    };
    pins.tally.close_run();
    let shared = shared_file(call, n);
    if let Some((file, inode)) = shared.and_then(|file| Some((file, file.mapped_inode()?))) {
        pins.file = file.0;
        pins.tally.add(inode.0, n);
    } else {
        tally::for_each_page(n, one_page, &mut pins);
    }
    take_all(&mut pins);
}

/// The file behind all `n` pages if one shared mapping spans them.
#[inline(always)]
fn shared_file(call: &Call, n: u64) -> Option<File> {
    if call.mm != 0 && call.mm != task::current().mm() {
        return None;
    }
    let zero = each::zero();
    let mut vma = Found {
        file: zero,
        end: zero,
    };
    // SAFETY: the task is what the helper returned; `in_vma` has the signature wanted.
    unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf(),
            call.start,
            in_vma as *mut c_void,
            (&raw mut vma).cast(),
            0,
        )
    };
    let first = call.start >> PAGE_SHIFT << PAGE_SHIFT;
    if vma.file != 0 && first + (n << PAGE_SHIFT) <= vma.end {
        Some(File(vma.file))
    } else {
        None
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
        let mut pins = Pins {
            ctx,
            array: 0,
            mm: 0,
            file: call.start,
            tally: Tally::new(),
        };
        pins.tally.add(inode.0, pinned as u64);
        take_all(&mut pins);
    }
}

/// More references on a folio that is pinned already.
#[inline(always)]
pub fn join_folio(folio: Folio, n: u64) {
    audit::taken(n);
    if let Some(Backing::File(inode)) = folio.backing() {
        join(inode, n);
    }
}

/// What the VMA at an address says.
struct Found {
    /// Address of the mapped file if the mapping is shared, else 0.
    file: u64,
    end: u64,
}

unsafe extern "C" fn in_vma(_task: *mut c_void, vma: *mut c_void, found: *mut c_void) -> i64 {
    let vma = Vma(vma as u64);
    // SAFETY: bpf_find_vma hands over what `shared_file` gave it.
    let found = unsafe { &mut *found.cast::<Found>() };
    found.end = vma.end();
    if vma.is_shared()
        && let Some(file) = vma.file()
    {
        found.file = file.0;
    }
    0
}

/// Reads one page and counts it under its inode.
unsafe extern "C" fn one_page(index: u64, pins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `leave` gave it.
    let pins = unsafe { &mut *pins.cast::<Pins>() };
    let Some(folio) = read::element(pins.array, index).and_then(|page| Page(page).folio()) else {
        count(Count::LostPages, 1);
        return 0;
    };
    let inode = match folio.backing() {
        Some(Backing::File(inode)) => inode.0,
        _ => 0,
    };
    pins.tally.add(inode, 1);
    0
}

#[inline(always)]
fn take_all(pins: &mut Pins) {
    pins.tally.close_run();
    tally::for_each_entry(take_entry, pins);
}

unsafe extern "C" fn take_entry(index: u64, pins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `take_all` gave it.
    let pins = unsafe { &*pins.cast::<Pins>() };
    let Some((inode, n)) = pins.tally.entry(index) else {
        return 1;
    };
    if pin_is_first(inode, pins.mm) != 0 {
        keep_stack(pins.ctx);
    }
    pin_take(inode, n, pins.file, pins.mm);
    0
}

/// Keeps the stack of this program for functions that have no context to take it from.
#[inline(always)]
pub fn keep_stack(ctx: *mut c_void) {
    let thread = task::pid_tgid();
    if STACKS.insert(thread, &NO_STACK, 0).is_ok()
        && let Some(stack) = STACKS.get_ptr_mut(thread)
    {
        // SAFETY: a live map value with room for STACK_LEN addresses.
        unsafe { bpf_get_stack(ctx, stack.cast(), (STACK_LEN * 8) as u32, 0) };
    }
}

/// The stack is not needed any more.
#[inline(always)]
pub fn forget_stack() {
    _ = STACKS.remove(task::pid_tgid());
}

static NO_STACK: [u64; STACK_LEN] = [0; STACK_LEN];

/// Short-term pins count only on files that have long-term ones: there, their release could not
/// be told apart.
#[inline(always)]
fn short_term(call: &Call, n: u64) {
    if release::idle() {
        return;
    }
    let mut pins = Pins {
        ctx: core::ptr::null_mut(),
        array: call.pages,
        mm: 0,
        file: 0,
        tally: Tally::new(),
    };
    pins.tally.close_run();
    tally::for_each_page(n, one_page, &mut pins);
    pins.tally.close_run();
    tally::for_each_entry(join_entry, &mut pins);
}

unsafe extern "C" fn join_entry(index: u64, pins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `short_term` gave it.
    let pins = unsafe { &*pins.cast::<Pins>() };
    let Some((inode, n)) = pins.tally.entry(index) else {
        return 1;
    };
    join(InodePtr(inode), n);
    0
}

/// Counts pins of unknown term if the inode has pins already.
#[inline(always)]
pub fn join(inode: InodePtr, n: u64) {
    if let Some(inode) = InodeRef::find(inode.0)
        && pins(inode.word()) > 0
    {
        inode.raise(n * PIN);
        inode.add_short_term(n);
        count(Count::Pinned, n);
    }
}

/// Whether pins that the owner of `mm` takes in the inode at this address are its first.
#[unsafe(no_mangle)]
extern "C" fn pin_is_first(inode: u64, mm: u64) -> i64 {
    let Some(inode) = InodeRef::find(inode) else {
        return 1;
    };
    match StakeRef::find(owner_tgid(mm), inode.get().id) {
        Some(stake) => i64::from(pins(stake.word()) == 0),
        None => 1,
    }
}

/// Attributes `n` pins in the inode at this address to the process that took them; `file` and
/// `mm` as in [`Pins`]. A function of its own for the verifier: checked once, not once for each
/// call.
#[unsafe(no_mangle)]
extern "C" fn pin_take(inode: u64, n: u64, file: u64, mm: u64) -> i64 {
    let inode_ptr = InodePtr(inode);
    if inode_ptr.is_private() {
        return 0;
    }
    let Some(inode) = InodeRef::add(inode_ptr, n * PIN) else {
        return 0;
    };
    let id = inode.get().id;
    let tgid = pin_owner(mm, u64::from(inode.slot), id) as u32;
    let Some(stake) = StakeRef::find(tgid, id) else {
        inode.drop_pins(n);
        inode.forget_if_empty();
        return 0;
    };
    count(Count::Pinned, n);
    let word = stake.word();
    if pins(word) == 0 {
        describe(stake, mm);
        context::note(stake);
    }
    if leases(word) < leases(inode.word()) && (leases(word) == 0 || pins(word) == 0) {
        if file != 0 {
            covers::add_by_file(stake, File(file));
        }
        covers::add_by_descriptors(stake, inode);
    }
    match stake.add_pins(inode, n) {
        Pinned::First | Pinned::More => {}
        Pinned::Bare => bare(inode_ptr, inode, stake, file, n),
        Pinned::Dead => {
            count(Count::LostStakes, 1);
            inode.drop_pins(n);
        }
    }
    0
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
        enforce::judge_later(stake, inode.slot, on::BARE_PIN, 0);
    }
}

/// The process that owns `mm` if that is not the current one.
#[inline(always)]
fn other_owner(mm: u64) -> Option<TaskPtr> {
    if mm == 0 || mm == task::current().mm() {
        None
    } else {
        read::mm_owner(mm)
    }
}

#[inline(always)]
fn owner_tgid(mm: u64) -> u32 {
    other_owner(mm).map_or(task::tgid(), TaskPtr::tgid)
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
    let started = other.unwrap_or_else(task::current).started();
    let owner = match other {
        None => task::describe(),
        Some(other) => task::describe_other(other),
    };
    _ = StakeRef::find_or_make(&owner, started, inode);
    i64::from(owner.tgid)
}

/// Notes when and by which call the first pins were taken.
#[inline(always)]
fn describe(stake: StakeRef, mm: u64) {
    let record = stake.get_ptr();
    let thread = task::pid_tgid();
    let stack = STACKS.get_ptr(thread);
    // SAFETY: live map values.
    unsafe {
        (*record).pinned_ns = task::now();
        (*record).task = other_owner(mm).unwrap_or_else(task::current).leader();
        (*record).mm = if mm == 0 { task::current().mm() } else { mm };
        if let Some(stack) = stack {
            (*record).stack = *stack;
        }
    }
    _ = STACKS.remove(thread);
}
