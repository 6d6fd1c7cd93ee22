//! The state layer as the kernel side drives it, over the memory of the model.

use std::cell::RefCell;

use lease_trace_common::{
    batch,
    books::{self, Books, Stake, Term, Words},
    tagged,
    word::{self, Change, Word},
};

use crate::memory::{
    ELEMENTS, GENERATIONS, Guard, IDS, Note, Op, SLOTS, TAKEN, element_cell, id_cell,
    slot_cell,
};

/// How often a record is looked for that was gone when it was used.
const AGAIN: u32 = 2;

/// What carries out the steps of the thread that runs.
pub trait Machine {
    fn run(&mut self, op: Op) -> u64;
    /// Whether the thread is to unwind instead of going on.
    fn is_stopped(&self) -> bool;
    fn note(&mut self, note: Note);
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

thread_local! {
    static MACHINE: RefCell<Option<Box<dyn Machine>>> = const { RefCell::new(None) };
}

/// Runs `f` with this machine, and gives it back. `f` may unwind.
pub fn with_machine<T>(
    machine: Box<dyn Machine>,
    f: impl FnOnce() -> T,
) -> (std::thread::Result<T>, Box<dyn Machine>) {
    MACHINE.with_borrow_mut(|there| *there = Some(machine));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    (result, MACHINE.with_borrow_mut(|there| there.take().unwrap()))
}

/// Unwinds the thread: its next step is not known yet.
pub struct Stop;

fn step(op: Op) -> u64 {
    let (result, is_stopped) = MACHINE.with_borrow_mut(|machine| {
        let machine = machine.as_mut().unwrap();
        (machine.run(op), machine.is_stopped())
    });
    if is_stopped {
        std::panic::resume_unwind(Box::new(Stop));
    }
    result
}

fn note(note: Note) {
    MACHINE.with_borrow_mut(|machine| machine.as_mut().unwrap().note(note));
}

#[derive(Clone, Copy, Debug)]
pub struct Cell {
    cell: u8,
    guard: Option<Guard>,
}

impl Word for Cell {
    fn load(self) -> u64 {
        step(Op::Load(self.cell))
    }

    fn swap_if(self, old: u64, new: u64) -> bool {
        step(Op::Swap(self.cell, old, new, self.guard)) != 0
    }

    fn add(self, n: u64) -> u64 {
        step(Op::Add(self.cell, n, self.guard))
    }
}

/// The record of an inode, and who is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    pub inode: u8,
    slot: u8,
    id: u64,
    pub releaser: Option<u32>,
}

/// A pointer to a stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    element: u8,
    generation: u64,
    pub tgid: u32,
    key: u64,
}

impl Pointer {
    fn stake(self) -> Stake<Cell> {
        let cell = element_cell(self.element);
        Stake {
            word: Cell {
                cell,
                guard: Some(Guard {
                    cell: cell + 1,
                    value: self.key,
                }),
            },
            generation: self.generation,
            tgid: self.tgid,
        }
    }
}

fn key(inode_id: u64, tgid: u32) -> u64 {
    inode_id << 8 | u64::from(tgid)
}

impl Books for Inode {
    type Word = Cell;
    const LEAST: u64 = 1;

    fn words(self) -> Words<Cell> {
        let guard = Some(Guard {
            cell: id_cell(self.slot),
            value: self.id,
        });
        let cell = |n| Cell {
            cell: slot_cell(self.slot, n),
            guard,
        };
        Words {
            word: cell(0),
            owners: cell(1),
            unowned: cell(2),
            owed: cell(3),
            // Unguarded: a batch that comes too late is seen by whoever opened it.
            batch: Cell {
                cell: slot_cell(self.slot, 4),
                guard: None,
            },
            id: self.id,
        }
    }

    fn stake(self, tgid: u32) -> Option<Stake<Cell>> {
        self.find(tgid).map(Pointer::stake)
    }

    fn pinned(self) {
        note(Note::Pinned(1));
    }

    fn unpinned(self) {
        note(Note::Pinned(-1));
    }

    fn dropped(self, stake: Stake<Cell>, change: Change) {
        if change.is(Change::AT_REST) {
            note(Note::Rest);
        }
        if change.is(Change::LAST) {
            self.bury_stake(stake);
        }
    }

    fn releaser(self) -> Option<u32> {
        self.releaser
    }

    fn pay_all(self) {
        for element in 0..ELEMENTS as u8 {
            let cell = element_cell(element);
            if word::generation(step(Op::Load(cell))).is_none() {
                continue;
            }
            let key = step(Op::Load(cell + 1));
            if key >> 8 == self.id {
                books::pay(self, (key & 0xff) as u32);
            }
        }
    }
}

impl Inode {
    pub fn find_record(inode: u8) -> Option<Self> {
        let number = step(Op::FindInode(inode));
        if number == 0 {
            return None;
        }
        let found = Self {
            inode,
            slot: (number % SLOTS as u64) as u8,
            id: number / SLOTS as u64,
            releaser: None,
        };
        word::is_of(found.words().word.load(), books::generation(found.id)).then_some(found)
    }

    fn find_or_make(inode: u8) -> Option<Self> {
        for _ in 0..AGAIN {
            if let Some(found) = Self::find_record(inode).or_else(|| Self::make(inode)) {
                return Some(found);
            }
        }
        None
    }

    fn make(inode: u8) -> Option<Self> {
        let slot = step(Op::TakeSlot).checked_sub(1)? as u8;
        let id = step(Op::Add(IDS, 1, None));
        let generation = books::generation(id);
        step(Op::Store(id_cell(slot), id));
        for n in 1..4 {
            step(Op::Store(slot_cell(slot, n), tagged::fresh(generation)));
        }
        step(Op::Store(slot_cell(slot, 4), 0));
        step(Op::Store(slot_cell(slot, 0), word::fresh(generation)));
        if step(Op::InsertInode(inode, id * SLOTS as u64 + u64::from(slot))) == 0 {
            step(Op::Store(slot_cell(slot, 0), 0));
            step(Op::PutSlot(slot));
            return None;
        }
        Some(Self {
            inode,
            slot,
            id,
            releaser: None,
        })
    }

    fn forget_if_empty(self) -> bool {
        let buried = word::bury(self.words().word, books::generation(self.id));
        if buried {
            step(Op::RemoveInode(self.inode));
            step(Op::PutSlot(self.slot));
        }
        buried
    }

    pub fn find(self, tgid: u32) -> Option<Pointer> {
        let key = key(self.id, tgid);
        let element = step(Op::Find(key)).checked_sub(1)? as u8;
        let cell = element_cell(element);
        let generation = word::generation(step(Op::Load(cell)))?;
        (step(Op::Load(cell + 1)) == key).then_some(Pointer {
            element,
            generation,
            tgid,
            key,
        })
    }

    /// `Err` if there is no memory for it.
    fn find_or_make_stake(self, tgid: u32) -> Result<Option<Pointer>, ()> {
        if let Some(found) = self.find(tgid) {
            return Ok(Some(found));
        }
        let key = key(self.id, tgid);
        let element = match step(Op::Insert(key)) {
            0 => return Err(()),
            TAKEN => return Ok(None),
            element => element as u8 - 1,
        };
        let cell = element_cell(element);
        step(Op::Store(cell + 1, key));
        let generation = step(Op::Add(GENERATIONS, 1, None));
        if step(Op::Swap(cell, 0, word::fresh(generation), None)) == 0 {
            note(Note::Wrong("an unborn stake was changed"));
        }
        Ok(Some(Pointer {
            element,
            generation,
            tgid,
            key,
        }))
    }

    /// A stake, found or made, in which `change` was made; `None` if there is no room.
    fn change_stake(self, tgid: u32, change: impl Fn(Stake<Cell>) -> Change) -> Option<Change> {
        for _ in 0..AGAIN {
            let Some(found) = self.find_or_make_stake(tgid).ok()? else {
                continue;
            };
            let made = change(found.stake());
            if made.is_made() {
                return Some(made);
            }
            if made.is(Change::FULL) {
                self.bury_stake(found.stake());
                return None;
            }
        }
        None
    }

    fn bury_stake(self, stake: Stake<Cell>) {
        if word::bury(stake.word, stake.generation) {
            step(Op::Remove(key(self.id, stake.tgid)));
        }
    }

    }

/// `n` pins were let go of, so many of them had never been counted.
fn uncounted(inode: u8, n: u64, uncounted: u64) {
    note(Note::Counted(inode, uncounted as i32 - n as i32));
    note(Note::Uncounted(uncounted as i32));
}

/// The record of an inode with `n` pins more.
fn enter(inode: u8, n: u64) -> Option<Inode> {
    for _ in 0..AGAIN {
        let found = Inode::find_or_make(inode)?;
        let change = books::enter(found, n);
        if change.is_made() {
            note(Note::Counted(inode, n as i32));
            return Some(found);
        }
    }
    None
}

pub fn pin(inode: u8, tgid: u32, n: u64) {
    let Some(found) = enter(inode, n) else {
        note(Note::Lost(n as i32));
        return;
    };
    close_batch(found);
    if found.change_stake(tgid, |stake| books::give(found, stake, n)).is_none() {
        books::leave_unowned(found, n);
    }
    close_batch(found);
    settle(found);
    found.forget_if_empty();
}

/// Pins through a pointer from before.
pub fn give_stale(record: Inode, pointer: Pointer, n: u64) {
    if !books::enter(record, n).is_made() {
        note(Note::Lost(n as i32));
        return;
    }
    note(Note::Counted(record.inode, n as i32));
    close_batch(record);
    if !books::give(record, pointer.stake(), n).is_made() {
        books::leave_unowned(record, n);
    }
    close_batch(record);
    settle(record);
    record.forget_if_empty();
}

pub fn pin_lost(n: u64) {
    note(Note::Lost(n as i32));
}

fn close_batch(inode: Inode) {
    uncounted(inode.inode, 0, books::close_batch(inode));
}

fn settle(inode: Inode) {
    uncounted(inode.inode, 0, books::settle(inode));
}

pub fn pin_short(inode: u8, n: u64) {
    let found = Inode::find_record(inode).filter(|found| books::enter(*found, n).is_made());
    let Some(found) = found else {
        note(Note::Lost(n as i32));
        return;
    };
    note(Note::Counted(inode, n as i32));
    books::leave_unowned(found, n);
    close_batch(found);
    settle(found);
}

pub fn unpin(inode: u8, n: u64, term: Term, releaser: Option<u32>) {
    let found = Inode::find_record(inode).filter(|found| word::pins(found.words().word.load()) > 0);
    let Some(mut found) = found else {
        note(Note::Uncounted(n as i32));
        return;
    };
    found.releaser = releaser;
    if !matches!(term, Term::Short) && drop_by_batch(found, n) {
        note(Note::Counted(inode, -(n as i32)));
        return;
    }
    uncounted(inode, n, books::release(found, n, term));
    if !found.forget_if_empty() {
        books::open_batch(found);
    }
}

fn drop_by_batch(inode: Inode, n: u64) -> bool {
    let words = inode.words();
    for _ in 0..word::TRIES {
        let there = words.batch.load();
        if !batch::is_of(there, words.id) {
            return false;
        }
        let Some(less) = batch::less(there, n) else {
            return false;
        };
        if words.batch.swap_if(there, less) {
            return true;
        }
    }
    false
}

/// Whether it was counted.
pub fn lease(inode: u8, tgid: u32) -> bool {
    for _ in 0..AGAIN {
        let Some(found) = Inode::find_or_make(inode) else {
            break;
        };
        let generation = books::generation(found.id);
        if !word::lease(found.words().word, generation).is_made() {
            continue;
        }
        let made = found.change_stake(tgid, |stake| word::lease(stake.word, stake.generation));
        if made.is_none() {
            word::unlease(found.words().word, generation);
            found.forget_if_empty();
            break;
        }
        return true;
    }
    false
}

/// A lease in an innocent's stake would be found in the end; here it must fail, or be taken out again.
pub fn lease_stale(record: Inode, pointer: Pointer) {
    let generation = books::generation(record.id);
    if !word::lease(record.words().word, generation).is_made() {
        return;
    }
    let stake = pointer.stake();
    if word::lease(stake.word, stake.generation).is_made() {
        if word::unlease(stake.word, stake.generation).is(Change::NO_LEASE) {
            note(Note::Wrong("a lease went away"));
        }
        record.bury_stake(stake);
    }
    word::unlease(record.words().word, generation);
    record.forget_if_empty();
}

/// What the end of a lease must be seen as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    Breach,
    Clean,
    Either,
}

pub fn lease_end(inode: u8, tgid: u32, expected: Seen) {
    let Some(found) = Inode::find_record(inode) else {
        note(Note::Wrong("an inode with a lease has no record"));
        return;
    };
    close_batch(found);
    settle(found);
    let Some(pointer) = found.find(tgid) else {
        note(Note::Wrong("a lease has no stake"));
        return;
    };
    let stake = pointer.stake();
    let change = word::lease_end(stake.word, stake.generation);
    if !change.is_made() || change.is(Change::NO_LEASE) {
        note(Note::Wrong("a lease is not counted"));
    }
    if change.is(Change::ZOMBIE) {
        note(Note::Born);
    }
    match expected {
        Seen::Breach if !change.is(Change::BREACH) => note(Note::Wrong("a breach was not seen")),
        Seen::Clean if change.is(Change::BREACH) => note(Note::Wrong("no breach, but one was seen")),
        _ => {}
    }
    let change = word::unlease(found.words().word, books::generation(found.id));
    if !change.is_made() || change.is(Change::NO_LEASE) {
        note(Note::Wrong("a lease is not counted in the inode"));
    }
    found.bury_stake(stake);
    found.forget_if_empty();
}

