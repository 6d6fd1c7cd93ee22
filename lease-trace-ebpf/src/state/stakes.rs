//! The records of stakes: found, made and dropped. What their words come to is in `track`.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    batch,
    books::{self, Stake as StakeWord},
    count::Count,
    idle::Of,
    lease::LeaseInfo,
    share::{self, Table},
    stake::{Order, Stake, StakeKey, Task, pins},
    tagged,
    word::{self, Change, Word as _},
};

use crate::{
    bpf::atomic::{At, InPlace},
    state::{
        inodes::{EEXIST, InodeRef, NO_SHARE, TRIES, Waiting, no_record, wait_until},
        losses::lost,
        maps::{LAST_GENERATION, STAKES, word_of},
        shares::Share as _,
    },
};

/// Stands for no lease, or for one that is not known.
pub const NO_LEASE: LeaseInfo = LeaseInfo {
    set_ns: 0,
    flags: 0,
    mode: 0,
    cause: 0,
    known: 0,
};

/// How often a cover is counted or taken out; whoever counts one says that it could not.
pub const COVER_TRIES: u64 = 8;

static BLANK: Stake = {
    // SAFETY: `Stake` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
};

/// A stake, its key and its generation. The memory may become another stake's: a change through this one
/// fails then.
#[derive(Clone, Copy)]
pub struct StakeRef {
    pub key: StakeKey,
    generation: u64,
    record: *mut Stake,
}

impl StakeRef {
    #[inline(always)]
    pub fn find(tgid: u32, inode_id: u64) -> Option<Self> {
        let key = StakeKey::new(tgid, inode_id);
        Self::of_walk(key, STAKES.get_ptr_mut(key)?)
    }

    /// From what a lookup or a walk of the map hands over. The generation is read first: if the key is
    /// right after that, then it is this stake's generation, or that of one which is gone.
    #[inline(always)]
    pub fn of_walk(key: StakeKey, record: *mut Stake) -> Option<Self> {
        // SAFETY: `record` is a map value, whose memory is a stake's as long as the program runs.
        let (word, there) = unsafe {
            let word = At::new(&raw mut (*record).word).load();
            let there = &raw const (*record).key;
            (
                word,
                StakeKey::new(
                    core::ptr::read_volatile(&raw const (*there).tgid),
                    core::ptr::read_volatile(&raw const (*there).inode),
                ),
            )
        };
        let generation = word::generation(word)?;
        if there.tgid != key.tgid || there.inode != key.inode {
            return None;
        }
        Some(Self {
            key,
            generation,
            record,
        })
    }

    /// Makes the stake if there is none; `who` describes its owner, who was started at `started_ns` (0: not
    /// known). It may be deleted again before it is found: it is empty. Whoever makes it counts the lease that
    /// its owner may have in the inode. False if there is no room; that is told.
    #[inline(always)]
    pub fn make_if_missing(who: &Task, started_ns: u64, inode: InodeRef) -> bool {
        let mut made = AGAIN;
        for _ in 0..TRIES {
            made = stake_make(who, started_ns, inode.number());
            if made != AGAIN {
                break;
            }
        }
        if made != THERE {
            lost(no_record(made, Count::LostStakes), 1, inode.id);
        }
        made == THERE
    }

    /// An ended process may leave pins behind, in a ring that others have. Whoever gets its pid has
    /// the same key.
    #[inline(always)]
    pub fn count_same_pid(self, started_ns: u64) {
        let known = self.get().started_ns;
        if known != 0 && started_ns != 0 && known != started_ns {
            lost(Count::Joined, 1, self.key.inode);
        }
    }

    /// Its word, as the books want it.
    #[inline(always)]
    pub fn in_books(self) -> StakeWord<At> {
        StakeWord {
            // SAFETY: `record` is a map value, whose memory is a stake's as long as the program runs.
            word: unsafe { At::new(&raw mut (*self.record).word) },
            generation: self.generation,
            tgid: self.key.tgid,
        }
    }

    /// Its word; 0 if the record is gone.
    #[inline(always)]
    pub fn word(self) -> u64 {
        let word = self.in_books().word.load();
        if word::is_of(word, self.generation) {
            word
        } else {
            0
        }
    }

    /// Pins that there are: those in the word, but for what was dropped by a batch.
    #[inline(always)]
    pub fn pins(self) -> u64 {
        let Some(inode) = InodeRef::find_slot(self.get().slot, self.key.inode) else {
            return pins(self.word());
        };
        pins(batch::net(self.word(), self.key.tgid, inode.batch()))
    }

    #[inline(always)]
    pub fn get(&self) -> &Stake {
        // SAFETY: `record` is a map value; what is read races with nothing but updates of descriptive
        // fields.
        unsafe { &*self.record }
    }

    #[inline(always)]
    pub fn get_ptr(self) -> *mut Stake {
        self.record
    }

    /// Its word, where leases are counted.
    #[inline(always)]
    pub fn of_leases(self) -> Of<At> {
        Of {
            word: self.in_books().word,
            generation: self.generation,
        }
    }

    /// The same, where changes are tried in place.
    #[inline(always)]
    pub fn of_covers(self) -> Of<InPlace<COVER_TRIES>> {
        Of {
            word: self.in_books().word.in_place(),
            generation: self.generation,
        }
    }

    /// One more lease covers it, and no pin is judged by that.
    #[inline(always)]
    pub fn lease(self) -> Change {
        let Of { word, generation } = self.of_covers();
        word::lease(word, generation)
    }

    /// One of its leases fewer, and nobody is judged.
    #[inline(always)]
    pub fn unlease(self) -> Change {
        word::unlease(self.in_books().word)
    }

    /// A lease that covered it ended; false if there are pins, so that it is to be judged.
    #[inline(always)]
    pub fn end_unpinned(self) -> bool {
        word::end_unpinned(self.in_books().word, self.generation)
    }

    /// A lease that covered it ended.
    #[inline(always)]
    pub fn lease_end(self) -> Change {
        self.in_books().word.lease_end(self.generation)
    }

    /// Describes an owner that was not seen when the stake was made.
    #[inline(always)]
    pub fn set_owner(self, who: &Task, started_ns: u64) {
        // SAFETY: `record` is a map value.
        unsafe {
            (*self.record).owner = *who;
            (*self.record).started_ns = started_ns;
        }
    }

    /// Notes the file by which the stake is judged.
    #[inline(always)]
    pub fn set_file(self, file: u64) {
        // SAFETY: `record` is a map value.
        unsafe { (*self.record).file = file };
    }

    /// Notes how many pins there were at most.
    #[inline(always)]
    pub fn note_peak(self) {
        let now = pins(self.word());
        // SAFETY: `record` is a map value.
        unsafe {
            if now > (*self.record).peak {
                (*self.record).peak = now;
            }
        }
    }

    #[inline(always)]
    fn held(self) -> At {
        // SAFETY: `held` is part of a map value.
        unsafe { At::new(&raw mut (*self.record).held) }
    }

    /// Keeps the order to signal its owner, for a monitor that was not notified of it.
    #[inline(always)]
    pub fn order(self, given_ns: u64, action: u32, orphaned: bool) {
        let order = Order {
            given_ns,
            generation: self.generation,
            action,
            orphaned,
        };
        // SAFETY: a map value.
        unsafe { (*self.record).ordered = order.packed() };
    }

    /// Notes below the path of which rules the file was, a [`lease_trace_common::below::Below`].
    #[inline(always)]
    pub fn is_below(self, below: u64) {
        // SAFETY: a map value, written as a whole word.
        unsafe { core::ptr::write_volatile(&raw mut (*self.record).below, below) };
    }

    /// It has no order any more.
    #[inline(always)]
    pub fn forget_order(self) {
        // SAFETY: a map value.
        unsafe { (*self.record).ordered = 0 };
    }

    /// The same where its last pin went, unless the order may be because of pins that came since.
    #[inline(always)]
    pub fn forget_order_of_past(self) {
        // SAFETY: `ordered` is part of a map value.
        let ordered = unsafe { At::new(&raw mut (*self.record).ordered) };
        let order = ordered.load();
        if order != 0 && pins(self.word()) == 0 {
            ordered.swap_if(order, 0);
        }
    }

    /// Marks the stake as held; false if it was already.
    #[inline(always)]
    pub fn hold(self) -> bool {
        let not = tagged::fresh(self.generation);
        self.held().swap_if(not, not | 1)
    }

    /// Its last pin went: it is held no more; false if it was not, or is on for pins that came since.
    #[inline(always)]
    pub fn unhold(self) -> bool {
        let not = tagged::fresh(self.generation);
        if pins(self.word()) > 0 || !self.held().swap_if(not | 1, not) {
            return false;
        }
        let is_held_on = pins(self.word()) > 0;
        if is_held_on {
            self.hold();
        }
        !is_held_on
    }

    #[inline(always)]
    fn inherited(self) -> At {
        // SAFETY: `inherited` is part of a map value.
        unsafe { At::new(&raw mut (*self.record).inherited) }
    }

    /// One more of the leases was set by somebody else. While it is counted in the word the record is this stake's.
    #[inline(always)]
    pub fn inherit(self) {
        self.inherited().add(1);
    }

    /// One fewer; to be called before it is taken out of the word.
    #[inline(always)]
    pub fn disinherit(self) {
        self.inherited().add(1_u64.wrapping_neg());
    }

    /// Whoever made a change that is guarded has told of it: what ended meanwhile is to be told, too, and this
    /// called again.
    #[inline(always)]
    pub fn told(self) -> Change {
        self.in_books().word.told(self.generation)
    }

    /// See [`word::never_bare`].
    #[inline(always)]
    pub fn never_bare(self) {
        let Of { word, generation } = self.of_covers();
        word::never_bare(word, generation);
    }

    /// In whose share it is.
    #[inline(always)]
    pub fn user(self) -> u32 {
        self.get().user as u32
    }

    /// Deletes the stake once neither a lease nor a pin is left.
    #[inline(always)]
    pub fn forget_if_empty(self) {
        let user = self.user();
        if word::bury(self.in_books().word, self.generation) {
            _ = STAKES.remove(self.key);
            Table::Stakes.give_back(user);
        }
    }
}

/// Whether the stake's pins are owned by the only owner in the inode, or by somebody beside whom there are
/// others.
#[inline(always)]
pub fn has_other_owners(inode: InodeRef, tgid: u32) -> bool {
    use lease_trace_common::tagged::owners;
    let there = inode.owners();
    owners::number(there) > 0 && owners::sole(there) != Some(tgid)
}

/// What [`stake_make`] returns: there is one, it is just being made or deleted, there is no room, or none for this
/// user.
const THERE: i64 = 1;
const AGAIN: i64 = 0;
const NO_ROOM: i64 = -1;

/// Looks for a stake once, and makes it if there is none. A global function, verified separately: checked once,
/// not at each turn.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stake_make(who: *const Task, started_ns: u64, number: u64) -> i64 {
    // SAFETY: `make_if_missing` passes a reference, or the verifier a null pointer.
    let (Some(who), Some(inode)) = (unsafe { who.as_ref() }, InodeRef::find_number(number)) else {
        return NO_ROOM;
    };
    let key = StakeKey::new(who.tgid, inode.id);
    let user = share::user(who.uid);
    if !Table::Stakes.take(user) {
        return there(key, started_ns, NO_SHARE);
    }
    // Mostly there is none yet, so it is not looked for first.
    if let Err(error) = STAKES.insert(key, &BLANK, BPF_NOEXIST.into()) {
        Table::Stakes.give_back(user);
        return if error == EEXIST {
            there(key, started_ns, AGAIN)
        } else {
            NO_ROOM
        };
    }
    let Some(made) = STAKES.get_ptr_mut(key) else {
        return NO_ROOM;
    };
    let generation = next_generation();
    // SAFETY: a record whose word is of no generation is its maker's alone.
    unsafe {
        (*made).key = key;
        (*made).owner = *who;
        (*made).started_ns = started_ns;
        (*made).user = u64::from(user);
        (*made).slot = u64::from(inode.slot);
        (*made).held = tagged::fresh(generation);
        At::new(&raw mut (*made).word).swap_if(0, word::fresh(generation));
    }
    THERE
}

/// What [`stake_make`] returns where it makes none; `none` if there is no such stake.
#[inline(always)]
fn there(key: StakeKey, started_ns: u64, none: i64) -> i64 {
    if let Some(found) = StakeRef::find(key.tgid, key.inode) {
        found.count_same_pid(started_ns);
        return THERE;
    }
    if STAKES.get_ptr(key).is_none() {
        return none;
    }
    wait_until_settled(key);
    AGAIN
}

/// Waits for another processor that is just making or deleting this stake.
#[inline(always)]
fn wait_until_settled(key: StakeKey) {
    wait_until(key, is_settled);
}

unsafe extern "C" fn is_settled(_turn: u64, waiting: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `wait_until` gave it.
    let waiting = unsafe { *waiting.cast::<Waiting<StakeKey>>() };
    let key = waiting.what;
    let is_settled = match STAKES.get_ptr_mut(key) {
        Some(record) => StakeRef::of_walk(key, record).is_some(),
        None => true,
    };
    i64::from(is_settled || !waiting.goes_on())
}

#[inline(always)]
fn next_generation() -> u64 {
    // SAFETY: a global of this object.
    books::generation(unsafe { word_of(&raw mut LAST_GENERATION) }.add(1))
}
