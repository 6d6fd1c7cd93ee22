//! The state layer as the kernel side drives it, over shuttle's atomics: records in slots and in the
//! elements of a map, which are used again as soon as they are free.

use std::collections::{BTreeMap, VecDeque};

use lease_trace_common::{
    batch,
    books::{self, Books, Stake, Term, Words},
    idle::{self, Counting, IDLE},
    tagged,
    word::{self, Change, Word},
};
use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

/// How often a record is looked for that is just being made or deleted; each time the others go on.
const WAIT: u32 = 10_000;

/// What was done to words since the process began. Not shuttle's: it is no part of the orders.
pub mod done {
    use std::sync::atomic::AtomicU64;

    pub static SWAPS: AtomicU64 = AtomicU64::new(0);
    /// Of these, those that others were faster with.
    pub static FAILED: AtomicU64 = AtomicU64::new(0);
}

#[derive(Clone, Copy)]
pub struct Cell<'a>(&'a AtomicU64);

impl Word for Cell<'_> {
    const TRIES: u64 = 64;

    fn load(self) -> u64 {
        self.0.load(SeqCst)
    }

    fn swap_if(self, old: u64, new: u64) -> bool {
        let is_done = self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok();
        done::SWAPS.fetch_add(1, SeqCst);
        done::FAILED.fetch_add(u64::from(!is_done), SeqCst);
        is_done
    }

    fn add(self, n: u64) -> u64 {
        self.0.fetch_add(n, SeqCst)
    }
}

#[derive(Default)]
struct InodeRecord {
    word: AtomicU64,
    owners: AtomicU64,
    unowned: AtomicU64,
    owed: AtomicU64,
    batch: AtomicU64,
    id: AtomicU64,
}

#[derive(Default)]
struct StakeRecord {
    word: AtomicU64,
    /// Inode id and thread group.
    key: AtomicU64,
}

/// Key of a lease: who set it, and 0 for his first one.
type Key = (u32, u64);

/// All records. There is one inode; its record may be deleted and made anew.
pub struct Memory {
    inodes: Vec<InodeRecord>,
    stakes: Vec<StakeRecord>,
    /// Slot of the inode's record.
    slot: Mutex<Option<usize>>,
    free_slots: Mutex<VecDeque<usize>>,
    /// Elements by key, and those that are free.
    elements: Mutex<(BTreeMap<u64, usize>, Vec<usize>)>,
    ids: AtomicU64,
    generations: AtomicU64,
    /// Entries of leases: elements of a map as those above, by key.
    entries: Mutex<(BTreeMap<Key, usize>, Vec<usize>)>,
    counted: Vec<AtomicU64>,
    leases: AtomicU64,
    /// Inodes with pins, zombies, and releases that found nothing counted.
    pub pinned: AtomicI64,
    pub zombies: AtomicI64,
    /// Ends of leases with pins left, by whomever they were told.
    pub breaches: AtomicU64,
    /// First pins that no lease covered.
    pub bare: AtomicU64,
    pub uncounted: AtomicU64,
}

impl Memory {
    pub fn new() -> Self {
        const SLOTS: usize = 2;
        const ELEMENTS: usize = 4;
        Self {
            inodes: (0..SLOTS).map(|_| InodeRecord::default()).collect(),
            stakes: (0..ELEMENTS).map(|_| StakeRecord::default()).collect(),
            slot: Mutex::new(None),
            free_slots: Mutex::new((0..SLOTS).collect()),
            elements: Mutex::new((BTreeMap::new(), (0..ELEMENTS).collect())),
            ids: AtomicU64::new(1),
            generations: AtomicU64::new(0),
            entries: Mutex::new((BTreeMap::new(), (0..ELEMENTS).collect())),
            counted: (0..ELEMENTS).map(|_| AtomicU64::new(0)).collect(),
            leases: AtomicU64::new(1),
            pinned: AtomicI64::new(0),
            zombies: AtomicI64::new(0),
            breaches: AtomicU64::new(0),
            bare: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
        }
    }

    /// The inode's record, if there is one.
    pub fn inode(&self) -> Option<Inode<'_>> {
        let slot = (*self.slot.lock().expect("no panic"))?;
        let found = Inode {
            memory: self,
            slot,
            id: self.inodes[slot].id.load(SeqCst),
            releaser: None,
        };
        word::is_of(found.words().word.load(), books::generation(found.id)).then_some(found)
    }

    fn make_inode(&self) {
        let Some(slot) = self.free_slots.lock().expect("no panic").pop_front() else {
            return;
        };
        let id = self.ids.fetch_add(1, SeqCst);
        let (record, generation) = (&self.inodes[slot], books::generation(id));
        for count in [&record.owners, &record.unowned, &record.owed] {
            count.store(tagged::fresh(generation), SeqCst);
        }
        record.batch.store(0, SeqCst);
        record.id.store(id, SeqCst);
        record.word.store(word::fresh(generation), SeqCst);
        let mut there = self.slot.lock().expect("no panic");
        if there.is_none() {
            *there = Some(slot);
            return;
        }
        drop(there);
        record.word.store(0, SeqCst);
        self.free_slots.lock().expect("no panic").push_back(slot);
    }

    /// Its record with `change` made, made if there is none.
    fn inode_with(&self, change: impl Fn(Inode<'_>) -> Change) -> Inode<'_> {
        for _ in 0..WAIT {
            match self.inode() {
                Some(found) if change(found).is_made() => return found,
                Some(_) => {}
                None => self.make_inode(),
            }
            thread::yield_now();
        }
        panic!("a record is made and deleted for ever");
    }

    pub fn pin(&self, tgid: u32, n: u64) {
        let inode = self.inode_with(|found| books::enter(found, n));
        inode.stake_with(tgid, |stake| {
            if word::has_nothing(stake.word.load()) {
                self.count((tgid, 0));
            }
            let change = books::give(inode, stake, n);
            if change.is(Change::FIRST) && !change.is(Change::LEASED) {
                self.bare.fetch_add(1, SeqCst);
            }
            change
        });
        books::settle_sole(inode);
        inode.count(books::close_batch(inode));
    }

    /// Short-term pins, which count only on an inode that has a record.
    pub fn pin_short(&self, n: u64) {
        let inode = self.inode().expect("a record");
        assert!(books::enter(inode, n).is_made(), "it has pins");
        books::leave_unowned(inode, n);
        inode.count(books::close_batch(inode));
    }

    /// `releaser`: who is seen to let go of them.
    pub fn unpin(&self, n: u64, releaser: Option<u32>) {
        let inode = Inode {
            releaser,
            ..self.inode().expect("a record: it has pins")
        };
        if inode.drop_by_batch(n) {
            return;
        }
        inode.count(books::release(inode, n, Term::Unknown));
        books::open_batch(inode);
        inode.forget_if_empty();
    }

    pub fn lease(&self, tgid: u32) {
        let number = self.leases.fetch_add(1, SeqCst);
        let key = {
            let mut entries = self.entries.lock().expect("no panic");
            let first = (tgid, 0);
            let key = if entries.0.contains_key(&first) {
                (tgid, number)
            } else {
                first
            };
            let element = entries.1.pop().expect("an element");
            self.counted[element].store(IDLE | number, SeqCst);
            entries.0.insert(key, element);
            key
        };
        if key.1 != 0 {
            self.lease_at_once(key);
        }
        self.count(key);
    }

    /// Whoever pins does not find it: it is counted whatever its setter has.
    fn lease_at_once(&self, key: Key) {
        let inode = self.inode_with(|found| {
            let words = found.words();
            word::lease(words.word, books::generation(words.id))
        });
        for _ in 0..WAIT {
            inode.make_stake(key.0);
            self.count(key);
            let is_counted = self
                .entry(key)
                .is_none_or(|(_, counted)| counted.load() & IDLE == 0);
            if is_counted {
                break;
            }
            thread::yield_now();
        }
        // Now that the stake has a lease it stays, and whoever pins need not look.
        self.count((key.0, 0));
        if let Some(stake) = inode.stake(key.0) {
            inode.bury(stake);
        }
        word::unlease(inode.words().word);
        inode.forget_if_empty();
    }

    fn entry(&self, key: Key) -> Option<(usize, Cell<'_>)> {
        let element = *self.entries.lock().expect("no panic").0.get(&key)?;
        Some((element, Cell(&self.counted[element])))
    }

    /// Counts a lease that is idle, if its setter has a stake.
    fn count(&self, key: Key) {
        for _ in 0..WAIT {
            let Some((element, entry)) = self.entry(key) else {
                return;
            };
            let Some(idle) = idle::idle(entry) else {
                return;
            };
            if self.entry(key).is_none_or(|(now, _)| now != element) {
                return;
            }
            let Some(inode) = self.inode() else { return };
            let Some(stake) = inode.stake(key.0) else {
                return;
            };
            let of_inode = idle::Of {
                word: inode.words().word,
                generation: books::generation(inode.id),
            };
            let of_stake = idle::Of {
                word: stake.word,
                generation: stake.generation,
            };
            match idle::count(entry, idle, inode.id, of_inode, of_stake, |_| {}) {
                Counting::Counted => return,
                Counting::Again => inode.forget_if_empty(),
                Counting::Late => {
                    inode.end_lease(stake);
                    return;
                }
            }
        }
        panic!("a lease is counted for ever");
    }

    /// Takes the entry of one of its leases out: how it was counted.
    fn end_entry(&self, tgid: u32) -> u64 {
        for _ in 0..WAIT {
            let key = {
                let entries = self.entries.lock().expect("no panic");
                let mut keys = entries.0.keys();
                keys.find(|key| key.0 == tgid).copied()
            };
            if let Some(key) = key
                && let Some((element, entry)) = self.entry(key)
                && let Some(counted) = idle::end(entry, || {
                    self.entry(key).is_some_and(|(now, _)| now == element)
                })
            {
                let mut entries = self.entries.lock().expect("no panic");
                entries.0.remove(&key);
                entries.1.push(element);
                return counted;
            }
            thread::yield_now();
        }
        panic!("no lease of {tgid}");
    }

    /// Leases in force: who set them, and whether they are counted.
    pub fn leases(&self) -> Vec<(u32, bool)> {
        let entries = self.entries.lock().expect("no panic");
        let leases = entries.0.iter();
        leases
            .map(|(key, element)| (key.0, self.counted[*element].load(SeqCst) & IDLE == 0))
            .collect()
    }

    /// Whether it was a breach.
    pub fn end_lease(&self, tgid: u32) -> bool {
        if self.end_entry(tgid) & IDLE != 0 {
            return false;
        }
        let inode = self.inode().expect("a record: it has a lease");
        inode.count(books::close_batch(inode));
        let stake = inode.stake(tgid).expect("a stake: it has a lease");
        inode.end_lease(stake)
    }

    /// Stakes that there are: thread group and word.
    pub fn stakes(&self) -> Vec<(u32, u64)> {
        let elements = self.elements.lock().expect("no panic");
        let stakes = elements.0.iter();
        stakes
            .map(|(key, element)| (*key as u32, self.stakes[*element].word.load(SeqCst)))
            .collect()
    }
}

/// The record of the inode, and who is at work.
#[derive(Clone, Copy)]
pub struct Inode<'a> {
    memory: &'a Memory,
    slot: usize,
    id: u64,
    releaser: Option<u32>,
}

impl<'a> Books for Inode<'a> {
    type Word = Cell<'a>;
    const LEAST: u64 = 1;

    fn words(self) -> Words<Cell<'a>> {
        let record = &self.memory.inodes[self.slot];
        Words {
            word: Cell(&record.word),
            owners: Cell(&record.owners),
            unowned: Cell(&record.unowned),
            owed: Cell(&record.owed),
            batch: Cell(&record.batch),
            id: self.id,
        }
    }

    fn stake(self, tgid: u32) -> Option<Stake<Cell<'a>>> {
        let key = self.key(tgid);
        let element = *self.memory.elements.lock().expect("no panic").0.get(&key)?;
        let record = &self.memory.stakes[element];
        let generation = word::generation(record.word.load(SeqCst))?;
        (record.key.load(SeqCst) == key).then_some(Stake {
            word: Cell(&record.word),
            generation,
            tgid,
        })
    }

    fn pinned(self) {
        self.memory.pinned.fetch_add(1, SeqCst);
    }

    fn unpinned(self) {
        self.memory.pinned.fetch_sub(1, SeqCst);
    }

    fn dropped(self, stake: Stake<Cell<'a>>, change: Change) {
        if !change.is(Change::LAST) {
            return;
        }
        if change.is(Change::AT_REST) {
            self.memory.zombies.fetch_sub(1, SeqCst);
        }
        self.told(stake);
        self.bury(stake);
    }

    fn releaser(self) -> Option<u32> {
        let tgid = self.releaser?;
        let stake = self.stake(tgid)?;
        (word::pins(stake.word.load()) > 0).then_some(tgid)
    }

    fn long_releaser(self) -> Option<u32> {
        self.releaser()
    }

    fn pay_all(self) {
        let keys: Vec<u64> = {
            let elements = self.memory.elements.lock().expect("no panic");
            elements.0.keys().copied().collect()
        };
        for key in keys.into_iter().filter(|key| key >> 32 == self.id) {
            books::pay(self, key as u32);
        }
    }
}

impl<'a> Inode<'a> {
    fn key(self, tgid: u32) -> u64 {
        self.id << 32 | u64::from(tgid)
    }

    fn count(self, uncounted: u64) {
        self.memory.uncounted.fetch_add(uncounted, SeqCst);
    }

    fn make_stake(self, tgid: u32) {
        let key = self.key(tgid);
        let element = {
            let mut elements = self.memory.elements.lock().expect("no panic");
            if elements.0.contains_key(&key) {
                return;
            }
            let element = elements.1.pop().expect("an element");
            elements.0.insert(key, element);
            element
        };
        let record = &self.memory.stakes[element];
        record.key.store(key, SeqCst);
        let generation = books::generation(self.memory.generations.fetch_add(1, SeqCst));
        record.word.store(word::fresh(generation), SeqCst);
    }

    /// The process's stake with `change` made, made if there is none.
    fn stake_with(self, tgid: u32, change: impl Fn(Stake<Cell<'a>>) -> Change) {
        for _ in 0..WAIT {
            match self.stake(tgid) {
                Some(found) => {
                    let change = change(found);
                    if change.is(Change::FIRST) {
                        self.told(found);
                        self.bury(found);
                    }
                    if change.is_made() {
                        return;
                    }
                }
                None => self.make_stake(tgid),
            }
            thread::yield_now();
        }
        panic!("a stake is made and deleted for ever");
    }

    /// Ends a lease that both count; whether that was a breach.
    fn end_lease(self, stake: Stake<Cell<'a>>) -> bool {
        let mut is_breach = false;
        if !word::end_unpinned(stake.word, stake.generation) {
            let change = word::lease_end(stake.word, stake.generation);
            assert!(
                change.is_made() && !change.is(Change::NO_LEASE),
                "{change:?}"
            );
            is_breach = change.is(Change::BREACH);
            if is_breach {
                self.memory.breaches.fetch_add(1, SeqCst);
            }
            if change.is(Change::ZOMBIE) {
                self.memory.zombies.fetch_add(1, SeqCst);
            }
            if is_breach {
                self.told(stake);
            }
        }
        self.bury(stake);
        word::unlease(self.words().word);
        self.forget_if_empty();
        is_breach
    }

    fn told(self, stake: Stake<Cell<'a>>) {
        if word::told(stake.word, stake.generation).is(Change::AT_REST) {
            self.memory.zombies.fetch_sub(1, SeqCst);
            word::told(stake.word, stake.generation);
        }
    }

    fn bury(self, stake: Stake<Cell<'a>>) {
        if word::bury(stake.word, stake.generation) {
            let mut elements = self.memory.elements.lock().expect("no panic");
            let element = elements.0.remove(&self.key(stake.tgid)).expect("its key");
            // A new element is blank.
            self.memory.stakes[element].word.store(0, SeqCst);
            elements.1.push(element);
        }
    }

    fn forget_if_empty(self) {
        if word::bury(self.words().word, books::generation(self.id)) {
            *self.memory.slot.lock().expect("no panic") = None;
            let mut free = self.memory.free_slots.lock().expect("no panic");
            free.push_back(self.slot);
        }
    }

    fn drop_by_batch(self, n: u64) -> bool {
        let word = self.words().batch;
        let there = word.load();
        batch::is_of(there, self.id)
            && batch::less(there, n).is_some_and(|less| word.swap_if(there, less))
    }
}
