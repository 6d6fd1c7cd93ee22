//! The state layer as the kernel side drives it, over shuttle's atomics: records in slots and in the
//! elements of a map, which are used again as soon as they are free.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lease_trace_common::{
    batch,
    books::{self, Books, Stake, Term, Words},
    cover::{self, Covers, Inserted},
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
    /// Which lease each entry is of.
    numbers: Vec<AtomicU64>,
    leases: AtomicU64,
    /// Who holds the leased files of whom without having set the leases: setter and heir.
    heirs: Mutex<BTreeSet<(u32, u32)>>,
    /// Covers: number of the lease, and heir.
    covers: Mutex<BTreeSet<(u64, u32)>>,
    /// Inodes with pins, zombies, and releases that found nothing counted.
    pub pinned: AtomicI64,
    pub zombies: AtomicI64,
    /// Ends of leases with pins left, by whomever they were told.
    pub breaches: AtomicU64,
    /// Bare pins that were told of, and their ends.
    pub bare: AtomicU64,
    pub bare_ends: AtomicU64,
    pub uncounted: AtomicU64,
    /// Leases that ended while somebody was being covered who had pins.
    pub lost_covers: AtomicU64,
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
            numbers: (0..ELEMENTS).map(|_| AtomicU64::new(0)).collect(),
            leases: AtomicU64::new(1),
            heirs: Mutex::default(),
            covers: Mutex::default(),
            pinned: AtomicI64::new(0),
            zombies: AtomicI64::new(0),
            breaches: AtomicU64::new(0),
            bare: AtomicU64::new(0),
            bare_ends: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
            lost_covers: AtomicU64::new(0),
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
            inode.cover(stake);
            let change = books::give(inode, stake, n);
            if change.is(Change::FIRST) && !change.is(Change::LEASED) {
                // A cover may have been forgotten since it was looked for.
                inode.cover_pins(stake);
                let word = stake.word.load();
                if word::leases(word) > 0 {
                    word::never_bare(stake.word, stake.generation);
                } else if change.is(Change::BARE) && word & word::BARE != 0 {
                    self.bare.fetch_add(1, SeqCst);
                }
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
            self.numbers[element].store(number, SeqCst);
            entries.0.insert(key, element);
            key
        };
        if key.1 != 0 {
            self.lease_at_once(key);
        }
        self.count(key);
        self.spread();
    }

    /// A lease was set: it covers who has pins and holds its file.
    fn spread(&self) {
        let Some(inode) = self.inode() else { return };
        for (tgid, _) in self.stakes() {
            if let Some(stake) = inode.stake(tgid)
                && word::pins(stake.word.load()) > 0
            {
                inode.cover_pins(stake);
            }
        }
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
                    word::unlease(inode.words().word);
                    inode.forget_if_empty();
                    return;
                }
            }
        }
        panic!("a lease is counted for ever");
    }

    /// The second process comes to hold the leased files of the first.
    pub fn share(&self, setter: u32, heir: u32) {
        self.heirs.lock().expect("no panic").insert((setter, heir));
    }

    fn holds(&self, setter: u32, heir: u32) -> bool {
        self.heirs
            .lock()
            .expect("no panic")
            .contains(&(setter, heir))
    }

    /// The numbers of leases that are in force, and who set them.
    fn in_force(&self) -> Vec<(u64, u32)> {
        let entries = self.entries.lock().expect("no panic");
        let leases = entries.0.iter();
        leases
            .filter(|(_, element)| self.counted[**element].load(SeqCst) != idle::ENDED)
            .map(|(key, element)| (self.numbers[*element].load(SeqCst), key.0))
            .collect()
    }

    /// How many leases in force cover a process that did not set them.
    pub fn held_by(&self, tgid: u32) -> u64 {
        let leases = self.in_force().into_iter();
        leases
            .filter(|(_, setter)| self.holds(*setter, tgid))
            .count() as u64
    }

    /// How many covers a process has.
    pub fn covers_of(&self, tgid: u32) -> u64 {
        let covers = self.covers.lock().expect("no panic");
        covers.iter().filter(|(_, heir)| *heir == tgid).count() as u64
    }

    /// Takes the entry of one of its leases out: which it was, and how it was counted.
    fn end_entry(&self, tgid: u32) -> (u64, u64) {
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
                let number = self.numbers[element].swap(0, SeqCst);
                entries.1.push(element);
                return (number, counted);
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
        let (number, counted) = self.end_entry(tgid);
        let is_counted = counted & IDLE == 0;
        let Some(inode) = self.inode() else {
            assert!(!is_counted, "a record: it has a lease");
            return false;
        };
        inode.count(books::close_batch(inode));
        let is_breach = is_counted && {
            let stake = inode.stake(tgid).expect("a stake: it has a lease");
            inode.end_lease(stake)
        };
        for (heir, _) in self.stakes() {
            inode.end_for(number, tgid, heir);
        }
        if is_counted {
            word::unlease(inode.words().word);
        }
        inode.forget_if_empty();
        is_breach
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
        self.ended(change);
        let numbers: Vec<u64> = {
            let covers = self.memory.covers.lock().expect("no panic");
            let own = covers.iter().filter(|(_, heir)| *heir == stake.tgid);
            own.map(|(number, _)| *number).collect()
        };
        for number in numbers {
            cover::forget(self.cover_by(stake, number));
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

    fn may_be_owned(self, _: u64) {}

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

    fn cover_by(self, stake: Stake<Cell<'a>>, number: u64) -> Cover<'a> {
        Cover {
            inode: self,
            stake,
            number,
        }
    }

    /// Lets the stake be covered by the leases in force whose files its owner holds.
    fn cover(self, stake: Stake<Cell<'a>>) {
        for (number, setter) in self.memory.in_force() {
            if self.memory.holds(setter, stake.tgid) {
                assert!(
                    cover::add(self.cover_by(stake, number), false, |_| {}),
                    "never fast enough"
                );
            }
        }
    }

    /// The same while it has pins, which may be dropped meanwhile.
    fn cover_pins(self, stake: Stake<Cell<'a>>) {
        for (number, setter) in self.memory.in_force() {
            if self.memory.holds(setter, stake.tgid) {
                assert!(
                    cover::add(self.cover_by(stake, number), true, |_| {}),
                    "never fast enough"
                );
            }
        }
        self.bury(stake);
    }

    /// A lease ends for somebody who may have held it.
    fn end_for(self, number: u64, setter: u32, heir: u32) {
        let Some(stake) = self.stake(heir) else {
            return;
        };
        if self.cover_by(stake, number).remove() {
            self.end_lease(stake);
            return;
        }
        let word = stake.word.load();
        let is_bare = word::pins(word) > 0 && word::leases(word) == 0 && word & word::ZOMBIE == 0;
        if is_bare
            && self.memory.holds(setter, heir)
            && word::lease(stake.word, stake.generation).is_made()
        {
            self.end_lease(stake);
        }
    }

    /// What ended with a change is told.
    fn ended(self, change: Change) {
        if change.is(Change::AT_REST) {
            self.memory.zombies.fetch_sub(1, SeqCst);
        }
        if change.is(Change::BARE_END) {
            self.memory.bare_ends.fetch_add(1, SeqCst);
        }
    }

    /// Ends a lease that the stake counts; whether that was a breach.
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
        is_breach
    }

    fn told(self, stake: Stake<Cell<'a>>) {
        let change = word::told(stake.word, stake.generation);
        if change.is(Change::AT_REST | Change::BARE_END) {
            self.ended(change);
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

/// A lease of somebody else's and the stake that it covers.
#[derive(Clone, Copy)]
struct Cover<'a> {
    inode: Inode<'a>,
    stake: Stake<Cell<'a>>,
    number: u64,
}

impl Cover<'_> {
    fn key(self) -> (u64, u32) {
        (self.number, self.stake.tgid)
    }
}

impl<'a> Covers for Cover<'a> {
    type Word = Cell<'a>;

    fn word(self) -> idle::Of<Cell<'a>> {
        idle::Of {
            word: self.stake.word,
            generation: self.stake.generation,
        }
    }

    fn is_there(self) -> bool {
        let covers = self.inode.memory.covers.lock().expect("no panic");
        covers.contains(&self.key())
    }

    fn insert(self) -> Inserted {
        let mut covers = self.inode.memory.covers.lock().expect("no panic");
        if covers.insert(self.key()) {
            Inserted::Done
        } else {
            Inserted::Already
        }
    }

    fn remove(self) -> bool {
        let mut covers = self.inode.memory.covers.lock().expect("no panic");
        covers.remove(&self.key())
    }

    fn is_in_force(self) -> bool {
        let leases = self.inode.memory.in_force();
        leases.iter().any(|(number, _)| *number == self.number)
    }

    fn uncovered(self, change: Change, _: bool) {
        let is_lost = change.is(Change::UNCOVERED);
        let lost = &self.inode.memory.lost_covers;
        lost.fetch_add(u64::from(is_lost), SeqCst);
    }
}
