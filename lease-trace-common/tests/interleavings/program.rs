//! Programs: what each thread does, and what must hold when all have ended.

use std::fmt;

use lease_trace_common::{
    batch,
    books::{self, Term},
    tagged,
    word,
};

use crate::{
    layer::{self, Inode, Pointer, Seen},
    memory::{ELEMENTS, Memory, SLOTS, element_cell, id_cell, slot_cell},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Pin(u32, u64),
    PinShort(u64),
    /// By a thread of this process.
    Unpin(u32, u64),
    /// By a thread that tells nothing: a kernel thread's, or an interrupt. Whose they are is for the
    /// model's books alone.
    UnpinUnseen(u32, u64),
    UnpinShort(u64),
    /// Pins that were taken before anybody counted.
    UnpinOld(u64),
    Lease(u32),
    EndLease(u32, Seen),
    /// Keeps a pointer to the process's stake.
    Look(u32),
    GiveStale(u64),
    LeaseStale,
}
use Step::*;

pub type Placed = (u8, Step);

/// What a thread keeps from one step to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept {
    stale: Option<(Inode, Pointer)>,
    /// Leases that were not counted, since somebody stopped while he deleted the record: their end is
    /// not counted either.
    lost_leases: u8,
}

pub fn run((inode, step): Placed, kept: &mut Kept) {
    match step {
        Pin(tgid, n) => layer::pin(inode, tgid, n),
        PinShort(n) => layer::pin_short(inode, n),
        Unpin(tgid, n) => layer::unpin(inode, n, Term::Long, Some(tgid)),
        UnpinUnseen(_, n) => layer::unpin(inode, n, Term::Unknown, None),
        UnpinShort(n) => layer::unpin(inode, n, Term::Short, None),
        UnpinOld(n) => layer::unpin(inode, n, Term::Unknown, None),
        Lease(tgid) => kept.lost_leases += u8::from(!layer::lease(inode, tgid)),
        EndLease(..) if kept.lost_leases > 0 => kept.lost_leases -= 1,
        EndLease(tgid, seen) => layer::lease_end(inode, tgid, seen),
        Look(tgid) => {
            kept.stale = Inode::find_record(inode)
                .and_then(|found| found.find(tgid).map(|pointer| (found, pointer)));
        }
        GiveStale(n) => match kept.stale {
            Some((record, pointer)) => layer::give_stale(record, pointer, n),
            None => layer::pin_lost(n),
        },
        LeaseStale => {
            if let Some((record, pointer)) = kept.stale {
                layer::lease_stale(record, pointer);
            }
        }
    }
}

/// Before the threads start, `first` is done by one of its own.
pub struct Program {
    pub elements: u8,
    pub first: Vec<Placed>,
    pub threads: Vec<Vec<Placed>>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} elements; first {:?}", self.elements, self.first)?;
        for (n, thread) in self.threads.iter().enumerate() {
            writeln!(f, "  thread {n}: {thread:?}")?;
        }
        Ok(())
    }
}

impl Program {
    fn steps(&self) -> impl Iterator<Item = Placed> {
        self.first.iter().chain(self.threads.iter().flatten()).copied()
    }

    /// All that is still held, let go of one by one; `seen` says whether it is told who lets go.
    pub fn rest(&self, seen: bool) -> Vec<Placed> {
        let mut rest = Vec::new();
        for inode in 0..2 {
            let steps = || self.steps().filter(move |(at, _)| *at == inode).map(|(_, step)| step);
            let held = |of: u32| {
                steps().fold(0_i64, |held, step| match step {
                    Pin(tgid, n) if tgid == of => held + n as i64,
                    Unpin(tgid, n) | UnpinUnseen(tgid, n) if tgid == of => held - n as i64,
                    GiveStale(n) if of == 1 => held + n as i64,
                    _ => held,
                })
            };
            for tgid in 1..=3 {
                let one = if seen { Unpin(tgid, 1) } else { UnpinUnseen(tgid, 1) };
                rest.extend((0..held(tgid)).map(|_| (inode, one)));
            }
            let short = steps().fold(0_i64, |held, step| match step {
                PinShort(n) => held + n as i64,
                UnpinShort(n) => held - n as i64,
                _ => held,
            });
            rest.extend((0..short).map(|_| (inode, UnpinShort(1))));
            for of in 1..=3 {
                let leases = steps().fold(0_i64, |held, step| match step {
                    Lease(tgid) if tgid == of => held + 1,
                    EndLease(tgid, _) if tgid == of => held - 1,
                    _ => held,
                });
                rest.extend((0..leases).map(|_| (inode, EndLease(of, Seen::Clean))));
            }
        }
        rest
    }

    /// Releases that may find nothing counted.
    fn may_be_uncounted(&self, memory: &Memory) -> i32 {
        let old = self.steps().map(|(_, step)| match step {
            UnpinOld(n) => n as i32,
            _ => 0,
        });
        old.sum::<i32>() + memory.lost
    }

    /// What is wrong while nobody is at work.
    pub fn judge(&self, memory: &Memory) -> Result<(), String> {
        let cell = |n: u8| memory.cells[usize::from(n)];
        let mut pinned = 0;
        for inode in 0..2_u8 {
            let number = memory.inodes[usize::from(inode)];
            let counted = memory.counted[usize::from(inode)];
            if number == 0 {
                self.same_held(memory, counted, 0)?;
                continue;
            }
            let (slot, id) = ((number % SLOTS as u64) as u8, number / SLOTS as u64);
            let generation = books::generation(id);
            same("id of the record", id, cell(id_cell(slot)))?;
            let [word, owners, unowned, owed, batch] = [0, 1, 2, 3, 4].map(|n| cell(slot_cell(slot, n)));
            same("generation of the word", Some(generation), word::generation(word))?;
            let [owners, unowned, owed] =
                [owners, unowned, owed].map(|count| tagged::value(count, generation).unwrap());
            let (mut pins, mut leases, mut number, mut sum) = (0, 0, 0, 0);
            for element in 0..ELEMENTS {
                let key = memory.keys[element];
                if key >> 8 != id {
                    continue;
                }
                let stake = cell(element_cell(element as u8));
                if word::pins(stake) + word::leases(stake) == 0 {
                    return Err("an empty stake was left".into());
                }
                pins += word::pins(stake);
                leases += word::leases(stake);
                if word::pins(stake) > 0 {
                    number += 1;
                    sum += key & 0xff;
                }
            }
            same("pins of stakes and of nobody", word::pins(word), pins + unowned)?;
            same("leases of stakes", word::leases(word), leases)?;
            same("number and sum of owners", number << 24 | sum, owners)?;
            let dropped = if batch::is_of(batch, id) {
                batch::dropped(batch)
            } else {
                0
            };
            let held = word::pins(word) as i64 - owed as i64 - dropped as i64;
            self.same_held(memory, counted, held as i32)?;
            if word::pins(word) + word::leases(word) == 0 {
                return Err("an empty inode was left".into());
            }
            pinned += i32::from(word::pins(word) > 0);
        }
        same("pinned inodes", pinned, memory.pinned)?;
        if let Some(wrong) = memory.wrong {
            return Err(wrong.into());
        }
        if memory.uncounted > self.may_be_uncounted(memory) {
            return Err(format!("{} releases were not counted", memory.uncounted));
        }
        Ok(())
    }

    /// A release of a pin that was never counted is forgiven if it was owed when the last pin went.
    fn same_held(&self, memory: &Memory, counted: i32, held: i32) -> Result<(), String> {
        let forgiven = held - counted;
        if (0..=self.may_be_uncounted(memory)).contains(&forgiven) {
            return Ok(());
        }
        same("pins that are held", counted, held)
    }

    /// What is wrong when nothing is held any more.
    pub fn judge_empty(&self, memory: &Memory) -> Result<(), String> {
        self.judge(memory)?;
        same("records of inodes", [0; 2], memory.inodes)?;
        same("stakes", [0; ELEMENTS], memory.keys)?;
        same("zombies that are not at rest", 0, memory.zombies)
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, expected: T, found: T) -> Result<(), String> {
    if expected == found {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, found {found:?}"))
    }
}
