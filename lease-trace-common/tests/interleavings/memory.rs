//! The memory that the threads of a program share: words, the map of stakes and that of inodes. Each
//! [`Op`] is one step that nobody comes between.

use lease_trace_common::word;

pub const SLOTS: usize = 2;
pub const ELEMENTS: usize = 3;
const SLOT_WORDS: usize = 6;
const FIRST_ELEMENT: usize = SLOTS * SLOT_WORDS;
/// Counts the generations of stakes.
pub const GENERATIONS: u8 = (FIRST_ELEMENT + 2 * ELEMENTS) as u8;
/// Counts the ids of inodes.
pub const IDS: u8 = GENERATIONS + 1;
const CELLS: usize = IDS as usize + 1;

pub const fn slot_cell(slot: u8, word: u8) -> u8 {
    slot * SLOT_WORDS as u8 + word
}

/// Where the id of a slot's record is.
pub const fn id_cell(slot: u8) -> u8 {
    slot_cell(slot, 5)
}

/// The word of an element; its key is behind it.
pub const fn element_cell(element: u8) -> u8 {
    FIRST_ELEMENT as u8 + 2 * element
}

/// What must stand in a cell whenever a change is made through the pointer that carries this: by it a
/// change that lands in the wrong record is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guard {
    pub cell: u8,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Load(u8),
    Swap(u8, u64, u64, Option<Guard>),
    Add(u8, u64, Option<Guard>),
    Store(u8, u64),
    /// The element with this key, counted from 1; 0 if there is none.
    Find(u64),
    /// A new element for this key, its word 0; [`TAKEN`] or 0 if there is no memory.
    Insert(u64),
    Remove(u64),
    /// The number of an inode's record, 0 if there is none.
    FindInode(u8),
    /// Whether it was put in: 0 if there is one.
    InsertInode(u8, u64),
    RemoveInode(u8),
    /// A free slot, counted from 1; 0 if there is none.
    TakeSlot,
    PutSlot(u8),
}

/// There is an element with this key already.
pub const TAKEN: u64 = u64::MAX;

/// What a thread tells the model, in no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// Inodes with pins.
    Pinned(i32),
    /// Pins that are held and counted.
    Counted(u8, i32),
    /// Pins that were taken without being counted.
    Lost(i32),
    /// Releases that nothing was counted for.
    Uncounted(i32),
    Born,
    Rest,
    Wrong(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    pub cells: [u64; CELLS],
    /// The key of each element that is in the map; 0 if it is not.
    pub keys: [u64; ELEMENTS],
    /// Last freed, first used.
    free: Vec<u8>,
    pub inodes: [u64; 2],
    /// First freed, first used.
    slots: Vec<u8>,
    pub pinned: i32,
    pub counted: [i32; 2],
    pub lost: i32,
    pub uncounted: i32,
    pub zombies: i32,
    pub wrong: Option<&'static str>,
}

impl Memory {
    pub fn new(elements: u8) -> Self {
        let mut cells = [0; CELLS];
        cells[usize::from(IDS)] = 1;
        cells[usize::from(GENERATIONS)] = 1;
        Self {
            cells,
            keys: [0; ELEMENTS],
            free: (0..elements).rev().collect(),
            inodes: [0; 2],
            slots: (0..SLOTS as u8).collect(),
            pinned: 0,
            counted: [0; 2],
            lost: 0,
            uncounted: 0,
            zombies: 0,
            wrong: None,
        }
    }

    fn guard(&mut self, guard: Option<Guard>) {
        if let Some(Guard { cell, value }) = guard
            && self.cells[usize::from(cell)] != value
        {
            self.wrong = Some("a change landed in another record");
        }
    }

    pub fn run(&mut self, op: Op) -> u64 {
        match op {
            Op::Load(cell) => self.cells[usize::from(cell)],
            Op::Swap(cell, old, new, guard) => {
                if self.cells[usize::from(cell)] != old {
                    return 0;
                }
                self.guard(guard);
                self.cells[usize::from(cell)] = new;
                1
            }
            Op::Add(cell, n, guard) => {
                self.guard(guard);
                let old = self.cells[usize::from(cell)];
                self.cells[usize::from(cell)] = old.wrapping_add(n);
                old
            }
            Op::Store(cell, value) => {
                self.cells[usize::from(cell)] = value;
                0
            }
            Op::Find(key) => self.find(key).map_or(0, |at| at as u64 + 1),
            Op::Insert(key) => {
                if self.find(key).is_some() {
                    return TAKEN;
                }
                let Some(element) = self.free.pop() else {
                    return 0;
                };
                self.keys[usize::from(element)] = key;
                self.cells[usize::from(element_cell(element))] = 0;
                u64::from(element) + 1
            }
            Op::Remove(key) => {
                let Some(at) = self.find(key) else {
                    self.wrong = Some("a stake was removed twice");
                    return 0;
                };
                if self.cells[usize::from(element_cell(at as u8))] & word::LIVE != 0 {
                    self.wrong = Some("a living stake was removed");
                }
                self.keys[at] = 0;
                self.free.push(at as u8);
                0
            }
            Op::FindInode(inode) => self.inodes[usize::from(inode)],
            Op::InsertInode(inode, number) => {
                let there = &mut self.inodes[usize::from(inode)];
                if *there != 0 {
                    return 0;
                }
                *there = number;
                1
            }
            Op::RemoveInode(inode) => {
                self.inodes[usize::from(inode)] = 0;
                0
            }
            Op::TakeSlot if self.slots.is_empty() => 0,
            Op::TakeSlot => u64::from(self.slots.remove(0)) + 1,
            Op::PutSlot(slot) => {
                self.slots.push(slot);
                0
            }
        }
    }

    pub fn note(&mut self, note: Note) {
        match note {
            Note::Pinned(n) => self.pinned += n,
            Note::Counted(inode, n) => self.counted[usize::from(inode)] += n,
            Note::Lost(n) => self.lost += n,
            Note::Uncounted(n) => self.uncounted += n,
            Note::Born => self.zombies += 1,
            Note::Rest => self.zombies -= 1,
            Note::Wrong(what) => self.wrong = Some(what),
        }
    }

    fn find(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|there| *there == key)
    }
}
