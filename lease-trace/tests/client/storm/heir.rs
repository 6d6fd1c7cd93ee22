//! An heir of a storm: a child that has pins under its parent's lease, by two threads, each with a ring of its own,
//! which pin and unpin one page as fast as they can. So one of them drops the child's last pin while the other takes
//! its next first one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use super::board::{Board, Figure, shared_zeroes};
use super::chance::Chance;
use super::child;
use super::pages::{Buffers, Files};
use crate::reply::Failure;
use crate::sys;

const POLL: Duration = Duration::from_micros(200);
/// How long the pins of an heir that was killed may still be there: a ring's end is a kworker's job.
const RING_END: Duration = Duration::from_secs(1);

/// What both threads are told, each order after the one before it. At first they pin and unpin.
#[derive(Clone, Copy)]
pub enum Order {
    /// One of them keeps a pin that it has.
    Keep = 1,
    /// The other ends, without pins.
    Rest,
    /// What was kept is dropped.
    Drop,
}

/// How far they have come.
#[derive(Clone, Copy)]
pub enum Step {
    /// How many have pinned.
    Begun,
    /// Whether the one has kept a pin.
    Kept,
    /// Whether the other has ended.
    Rested,
    /// Whether what was kept is dropped.
    Dropped,
}

/// What a parent and its heir share. Zeroed, it is an heir's that has not begun.
struct Shared {
    order: AtomicU32,
    steps: [AtomicU32; 4],
}

/// A parent and the heir that it has, or will have.
#[derive(Clone, Copy)]
pub struct Family {
    pub board: Board,
    shared: &'static Shared,
}

impl Family {
    pub fn new(board: Board) -> Result<Self, Failure> {
        // SAFETY: it is made of atomics.
        let shared = unsafe { shared_zeroes() }?;
        Ok(Self { board, shared })
    }

    /// The next heir has not begun. The last one is gone.
    pub fn begin(self) {
        let Shared { order, steps } = self.shared;
        for number in steps.iter().chain([order]) {
            number.store(0, Ordering::SeqCst);
        }
    }

    fn is_told(self, order: Order) -> bool {
        self.shared.order.load(Ordering::SeqCst) >= order as u32
    }

    fn come_to(self, step: Step) {
        self.shared.steps[step as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn have_come_to(self, step: Step, count: u32) -> bool {
        self.shared.steps[step as usize].load(Ordering::SeqCst) >= count
    }

    /// What the heir does, until it is to drop what it kept.
    pub fn pin_by_two(self, files: &Files, seed: u64) {
        let (first, second) = (Chance::new(seed, 0, 0), Chance::new(seed, 0, 1));
        let others = files.clone();
        scope(|scope| {
            scope.spawn(move || self.or_end(self.pin(&others, second, false)));
            self.or_end(self.pin(files, first, true));
        });
    }

    /// The heir ends at once if it cannot go on: its parent must not wait for the other thread.
    pub fn or_end<T>(self, done: Result<T, Failure>) -> T {
        done.unwrap_or_else(|failure| {
            self.board.failed(&failure);
            std::process::exit(1)
        })
    }

    fn pin(self, files: &Files, mut chance: Chance, keeps: bool) -> Result<(), Failure> {
        let ring = sys::io_uring_setup(1)?;
        let mut is_first = true;
        loop {
            Buffers::page(files, &mut chance).register(ring)?;
            self.board.count(Figure::HeirsRegistered, 1);
            if is_first {
                self.come_to(Step::Begun);
            }
            is_first = false;
            if keeps && self.is_told(Order::Keep) {
                self.come_to(Step::Kept);
                break;
            }
            Buffers::unregister(ring)?;
            if !keeps && self.is_told(Order::Rest) {
                self.come_to(Step::Rested);
                return sys::close(ring);
            }
        }
        while !self.is_told(Order::Drop) {
            sleep(POLL);
        }
        Buffers::unregister(ring)?;
        self.come_to(Step::Dropped);
        sys::close(ring)
    }
}

/// An heir, as its parent knows it.
pub struct Heir {
    family: Family,
    /// Nothing once it has ended.
    pid: Option<i32>,
}

impl Heir {
    pub const fn new(family: Family, pid: i32) -> Self {
        let pid = Some(pid);
        Self { family, pid }
    }

    pub const fn is_there(&self) -> bool {
        self.pid.is_some()
    }

    pub fn tell(&self, order: Order) {
        let shared = self.family.shared;
        shared.order.store(order as u32, Ordering::SeqCst);
    }

    /// Waits until so many of its threads have come so far, or there is no heir any more.
    pub fn wait_for(&mut self, step: Step, count: u32) -> Result<(), Failure> {
        while self.is_there() && !self.family.have_come_to(step, count) {
            self.look()?;
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits until it has ended.
    pub fn end(mut self) -> Result<(), Failure> {
        while self.is_there() {
            self.look()?;
            sleep(POLL);
        }
        Ok(())
    }

    /// Counts how it ended, if it did. What made it end by itself it has counted.
    fn look(&mut self) -> Result<(), Failure> {
        let Some(fate) = self.pid.map(child::fate).transpose()?.flatten() else {
            return Ok(());
        };
        self.pid = None;
        match fate {
            Figure::Killed => self.family.board.count(Figure::HeirsKilled, 1),
            Figure::Stopped => self.family.board.count(Figure::HeirsStopped, 1),
            _ => {}
        }
        if !self.family.have_come_to(Step::Dropped, 1) {
            sleep(RING_END);
        }
        Ok(())
    }
}
