//! The records of stakes: found, made, changed and dropped. All atomics on their words are here;
//! what a change means is decided in `lease_trace_common::stake`.

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    cause::Cause,
    count::Count,
    event::EventKind,
    lease::{LeaseInfo, known},
    policy::on,
    stake::{
        self, DEAD, LEASE, PIN, Pinned, Stake, StakeKey, Task, Unpinned, ZOMBIE, leases, owner,
        pins,
    },
};

use crate::{
    bpf::atomic,
    effects::notify,
    judge::verdicts,
    kernel::current,
    state::inodes::{EEXIST, InodeRef, TRIES},
    state::maps::{STAKES, count},
    track::allowance,
    track::coverage,
};

/// Counts stakes that come to have both a lease and pins, and those that cease to: while there are
/// none, nobody need look for orphaned pins.
#[inline(always)]
fn count_cover(old: u64, new: u64) {
    let both = |word: u64| pins(word) > 0 && leases(word) > 0;
    if both(old) != both(new) {
        count(
            if both(new) {
                Count::Covered
            } else {
                Count::Uncovered
            },
            1,
        );
    }
}

/// Stands for no lease, or for one that is not known.
pub const NO_LEASE: LeaseInfo = LeaseInfo {
    set_ns: 0,
    flags: 0,
    mode: 0,
    cause: 0,
    known: 0,
};

static BLANK: Stake = {
    // SAFETY: `Stake` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
};

/// A live stake and its key.
#[derive(Clone, Copy)]
pub struct StakeRef {
    pub key: StakeKey,
    record: *mut Stake,
}

impl StakeRef {
    #[inline(always)]
    pub fn find(tgid: u32, inode_id: u64) -> Option<Self> {
        let key = StakeKey::new(tgid, inode_id);
        let record = STAKES.get_ptr_mut(key)?;
        Some(Self { key, record })
    }

    /// The stake, made if there is none; `who` describes its owner, who was started at
    /// `started_ns` (0: not known).
    #[inline(always)]
    pub fn find_or_make(who: &Task, started_ns: u64, inode: InodeRef) -> Option<Self> {
        let inode_id = inode.get().id;
        for _ in 0..TRIES {
            if let Some(found) = Self::find(who.tgid, inode_id) {
                if found.word() & DEAD == 0 {
                    found.count_same_pid(started_ns);
                    return Some(found);
                }
                continue;
            }
            let key = StakeKey::new(who.tgid, inode_id);
            match STAKES.insert(key, &BLANK, BPF_NOEXIST.into()) {
                Ok(()) => {
                    if let Some(made) = Self::find(who.tgid, inode_id) {
                        // SAFETY: `record` is a live map value.
                        unsafe {
                            (*made.record).owner = *who;
                            (*made.record).started_ns = started_ns;
                            (*made.record).slot = u64::from(inode.slot);
                        }
                        return Some(made);
                    }
                }
                Err(error) if error == EEXIST => {}
                Err(_) => break,
            }
        }
        count(Count::LostStakes, 1);
        None
    }

    /// An ended process may leave pins behind, in a ring that others have. Whoever gets its pid has
    /// the same key.
    #[inline(always)]
    fn count_same_pid(self, started_ns: u64) {
        let known = self.get().started_ns;
        if known != 0 && started_ns != 0 && known != started_ns {
            count(Count::Joined, 1);
        }
    }

    /// From the pointers a walk of the map hands over.
    #[inline(always)]
    pub fn of_walk(key: StakeKey, record: *mut Stake) -> Self {
        Self { key, record }
    }

    #[inline(always)]
    fn word_ptr(self) -> *mut u64 {
        // SAFETY: `record` is a live map value.
        unsafe { &raw mut (*self.record).word }
    }

    #[inline(always)]
    pub fn word(self) -> u64 {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::load(self.word_ptr()) }
    }

    /// Pins that there are: those in the word, but for what was dropped by an allowance.
    #[inline(always)]
    pub fn pins(self) -> u64 {
        let Some(inode) = InodeRef::find_slot(self.get().slot, self.key.inode) else {
            return pins(self.word());
        };
        pins(stake::settled(
            self.word(),
            self.key.tgid,
            inode.allowance(),
        ))
    }

    #[inline(always)]
    pub fn get(&self) -> &Stake {
        // SAFETY: `record` is a live map value; what is read races with nothing but updates of
        // descriptive fields.
        unsafe { &*self.record }
    }

    #[inline(always)]
    pub fn get_ptr(self) -> *mut Stake {
        self.record
    }

    /// A lease on `file`, the owner's own or an inherited one, now covers this stake.
    #[inline(always)]
    pub fn add_lease(self, slot: u32, file: u64, info: &LeaseInfo) {
        self.set_file(file);
        // SAFETY: `record` is a live map value.
        let old = unsafe { atomic::add(self.word_ptr(), LEASE) };
        // A zombie is described by the lease that went, until it is at rest.
        if old & ZOMBIE == 0 {
            // SAFETY: `record` is a live map value.
            unsafe { (*self.record).lease = *info };
        }
        count_cover(old, old + LEASE);
        if pins(old) > 0 {
            notify::wake();
            verdicts::judge_later(self, slot, on::ZOMBIE, 0);
        }
    }

    /// Describes an owner that was not seen when the stake was made.
    #[inline(always)]
    pub fn set_owner(self, who: &Task, started_ns: u64) {
        // SAFETY: `record` is a live map value.
        unsafe {
            (*self.record).owner = *who;
            (*self.record).started_ns = started_ns;
        }
    }

    /// Notes the file by which the stake is judged.
    #[inline(always)]
    pub fn set_file(self, file: u64) {
        // SAFETY: `record` is a live map value.
        unsafe { (*self.record).file = file };
    }

    /// Marks the stake as held; false if it was already.
    #[inline(always)]
    pub fn hold(self) -> bool {
        // SAFETY: `held` is part of a live map value.
        unsafe { atomic::swap_if(&raw mut (*self.record).held, 0, 1) }
    }

    /// One more of the leases was set by somebody else.
    #[inline(always)]
    pub fn inherit(self) {
        // SAFETY: `inherited` is part of a live map value.
        unsafe { atomic::add(&raw mut (*self.record).inherited, 1) };
    }

    /// One fewer.
    #[inline(always)]
    pub fn disinherit(self) {
        // SAFETY: `inherited` is part of a live map value.
        unsafe { atomic::sub(&raw mut (*self.record).inherited, 1) };
    }

    /// A lease that ends now covered this stake, which was not known.
    #[inline(always)]
    pub fn count_lease(self) {
        // SAFETY: `record` is a live map value.
        let old = unsafe { atomic::add(self.word_ptr(), LEASE) };
        count_cover(old, old + LEASE);
    }

    /// Undoes [`Self::add_lease`] for a lease that could not be entered: nobody is judged.
    #[inline(always)]
    pub fn take_back_lease(self) {
        // SAFETY: `record` is a live map value.
        let old = unsafe { atomic::sub(self.word_ptr(), LEASE) };
        count_cover(old, old - LEASE);
    }

    /// Adds `n` pins that the current process took.
    #[inline(always)]
    pub fn add_pins(self, inode: InodeRef, n: u64) -> Pinned {
        // SAFETY: `record` is a live map value.
        let old = unsafe { atomic::add(self.word_ptr(), n * PIN) };
        let now = pins(old) + n;
        // SAFETY: `record` is a live map value.
        unsafe {
            if now > (*self.record).peak {
                (*self.record).peak = now;
            }
        }
        let what = stake::after_pin(old);
        count_cover(old, old + n * PIN);
        if matches!(what, Pinned::First) {
            verdicts::judge_later(self, inode.slot, on::ZOMBIE, 0);
        }
        if matches!(what, Pinned::First | Pinned::Bare) {
            // SAFETY: `owners` is part of a live map value.
            unsafe { atomic::add(inode.owners_ptr(), owner(self.key.tgid)) };
        }
        what
    }

    /// Takes `n` pins out; returns how many of them were not there.
    #[inline(always)]
    pub fn drop_pins(self, inode: InodeRef, n: u64) -> u64 {
        // SAFETY: `record` is a live map value.
        let old = unsafe { atomic::sub(self.word_ptr(), n * PIN) };
        let (missing, gone, at_rest) = match stake::after_unpin(old, n) {
            Unpinned::Some => (0, false, false),
            Unpinned::Last => (0, true, false),
            Unpinned::AtRest => (0, true, true),
            Unpinned::Excess { excess, at_rest } => {
                // SAFETY: `record` is a live map value.
                unsafe { atomic::add(self.word_ptr(), excess * PIN) };
                (excess, pins(old) > 0, at_rest)
            }
        };
        if gone {
            count_cover(old, leases(old));
            notify::wake();
            // SAFETY: `owners` is part of a live map value.
            unsafe { atomic::sub(inode.owners_ptr(), owner(self.key.tgid)) };
            if at_rest {
                self.rest(inode);
            }
            coverage::forget(self);
            self.let_go(inode);
        }
        missing
    }

    /// The pins are gone: whoever holds the file can let it go.
    #[inline(always)]
    fn let_go(self, inode: InodeRef) {
        // SAFETY: `held` is part of a live map value.
        if unsafe { atomic::swap_if(&raw mut (*self.record).held, 1, 0) } {
            notify::stake(EventKind::Unhold, inode, self, 0);
        }
    }

    #[inline(always)]
    fn rest(self, inode: InodeRef) {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::and(self.word_ptr(), !ZOMBIE) };
        count(Count::AtRest, 1);
        let peak = self.get().peak;
        notify::stake(EventKind::AtRest, inode, self, peak);
        // SAFETY: `record` is a live map value. A lease that was set meanwhile was not described.
        unsafe {
            (*self.record).peak = 0;
            if leases(self.word()) > 0 {
                (*self.record).lease = NO_LEASE;
            }
        }
    }

    /// Deletes the stake once neither a lease nor a pin is left.
    #[inline(always)]
    pub fn forget_if_empty(self) {
        // SAFETY: `record` is a live map value.
        if self.word() == 0 && unsafe { atomic::swap_if(self.word_ptr(), 0, DEAD) } {
            _ = STAKES.remove(self.key);
        }
    }
}

/// What is told of a lease that ended, in one word.
#[inline(always)]
pub const fn facts(info: &LeaseInfo, flags: u32, cause: u32) -> u64 {
    (flags as u64) << 32 | (cause as u64) << 16 | (info.known as u64) << 8 | info.mode as u64
}

/// A lease that covered a process's stake is let go by the current process. If pins remain and it
/// was the last: a zombie.
#[inline(always)]
pub fn end_lease(tgid: u32, inode: InodeRef, file: u64, set_ns: u64, facts: u64) {
    if let Some(stake) = StakeRef::find(tgid, inode.get().id) {
        stake.set_file(file);
        let word = stake.word();
        if pins(word) > 0 && leases(word) == 1 && leases(inode.word()) > 1 {
            // Its owner may have come to hold another leased file since it pinned.
            coverage::add_by_descriptors(stake, inode);
        }
    }
    allowance::deduct(inode);
    stake_end_lease(
        u64::from(tgid),
        u64::from(inode.slot),
        inode.get().id,
        set_ns,
        facts,
    );
}

/// [`end_lease`] with its arguments packed. A function of its own for the verifier: checked once,
/// not once for each call.
#[unsafe(no_mangle)]
extern "C" fn stake_end_lease(tgid: u64, slot: u64, inode_id: u64, set_ns: u64, facts: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid as u32, inode_id) else {
        return 0;
    };
    // SAFETY: `record` is a live map value.
    let old = unsafe { atomic::sub(stake.word_ptr(), LEASE) };
    count_cover(old, old - LEASE);
    if let Some(left) = stake::after_lease_end(old) {
        let cause = facts as u32 >> 16;
        let ending = if Cause::is_ending_raw(cause) && tgid as u32 == current::tgid() {
            known::ENDING
        } else {
            0
        };
        // SAFETY: `record` is a live map value. The description is complete before the mark, so
        // that whoever sees the mark sees it, too.
        let old = unsafe {
            (*stake.record).lease = LeaseInfo {
                set_ns,
                flags: (facts >> 32) as u32,
                mode: facts as u32 & 0xff,
                cause,
                known: (facts as u32 >> 8 & 0xff) | ending,
            };
            (*stake.record).releaser = current::describe();
            (*stake.record).breaker = inode.get().breaker;
            (*stake.record).released_ns = current::now();
            atomic::or(stake.word_ptr(), ZOMBIE)
        };
        count(Count::Zombies, 1);
        notify::wake();
        notify::stake(EventKind::Zombie, inode, stake, left);
        verdicts::judge_later(stake, inode.slot, on::ZOMBIE, cause);
        if stake::after_mark(old) {
            stake.rest(inode);
        }
    }
    stake.forget_if_empty();
    0
}
