//! Parents of a storm. Each sets a lease, lets a child have pins under it, which holds the leased file by the fork or
//! by a message, and lets the lease go, with the child's pins gone or not.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use super::board::{Board, Figure, WRONG};
use super::chance::Chance;
use super::heir::{Family, Heir, Order, Step};
use super::pages::Files;
use super::work::BREACH;
use crate::reply::Failure;
use crate::sys;

/// Threads of one parent.
pub const THREADS: u64 = 1;

/// The longest that both threads of an heir pin and unpin, in microseconds.
const WORK: usize = 10_000;

struct Parent {
    family: Family,
    process: usize,
    /// The round that it works in, and whether it has paused in that.
    round: u64,
    has_paused: bool,
    chance: Chance,
    directory: String,
    /// Descriptors go from the first to the second.
    socket: (OwnedFd, OwnedFd),
}

/// All that a parent does, until the storm is over.
pub fn all(board: Board, process: usize, seed: u64, directory: &str) -> Result<(), Failure> {
    let mut parent = Parent {
        family: Family::new(board)?,
        process,
        round: 0,
        has_paused: false,
        chance: Chance::new(seed, process, 0),
        directory: directory.to_owned(),
        socket: sys::pair()?,
    };
    while let Some(round) = board.wait(parent.round) {
        (parent.round, parent.has_paused) = (round, false);
        while board.is_on(round) {
            parent.live_or_fail();
        }
        if !parent.has_paused {
            parent.live_or_fail();
        }
        // Where it had nothing to hold.
        parent.pause();
        board.calm(process);
    }
    Ok(())
}

impl Parent {
    fn live_or_fail(&mut self) {
        if let Err(failure) = self.live() {
            self.family.board.failed(&failure);
        }
    }

    /// Once a round is over, keeps all that it and its heir have until it may be given back.
    fn pause(&mut self) {
        if !self.has_paused && !self.family.board.is_on(self.round) {
            self.has_paused = true;
            self.family.board.hold(self.process, self.round);
        }
    }

    /// One lease, and one heir that it covers.
    fn live(&mut self) -> Result<(), Failure> {
        let is_wrong = self.family.board.has(WRONG) && self.chance.below(2) == 0;
        let kind = if is_wrong { "wrong" } else { "right" };
        if is_wrong {
            sleep(BREACH);
        }
        let files = Files::one(&format!("{}/{kind}-{}", self.directory, self.process))?;
        if files.lease()? {
            let mut heir = self.bear(&files)?;
            self.let_go(&files, &mut heir, is_wrong)?;
            heir.end()?;
        } else {
            self.family.board.count(Figure::Unleasable, 1);
        }
        files.close()
    }

    /// An heir has the file as it is after a fork, or nothing of it but what a message brings.
    fn bear(&mut self, files: &Files) -> Result<Heir, Failure> {
        let family = self.family;
        let is_by_message = self.chance.below(2) == 0;
        let seed = self.chance.below(usize::MAX) as u64;
        family.begin();
        let pid = sys::fork()?;
        if pid == 0 {
            if is_by_message {
                family.or_end(files.clone().close());
                let fd = family.or_end(sys::receive_fd(self.socket.1.as_raw_fd()));
                family.pin_by_two(&family.or_end(Files::received(fd)), seed);
            } else {
                family.pin_by_two(files, seed);
            }
            std::process::exit(0)
        }
        family.board.count(Figure::Heirs, 1);
        if is_by_message {
            sys::send_fd(self.socket.0.as_raw_fd(), files.fd())?;
        }
        Ok(Heir::new(family, pid))
    }

    /// The lease goes: when the heir has no pins any more, or while it has, with or without its other thread at work.
    fn let_go(&mut self, files: &Files, heir: &mut Heir, is_wrong: bool) -> Result<(), Failure> {
        heir.wait_for(Step::Begun, 2)?;
        sleep(Duration::from_micros(self.chance.below(WORK) as u64));
        // Whoever takes another pin looks again for what covers it. So mostly nobody does beside the pin that is kept:
        // that one is as it was left when the other thread's last went.
        let is_beside = self.chance.below(4) == 0;
        if is_beside {
            heir.tell(Order::Keep);
            heir.wait_for(Step::Kept, 1)?;
        }
        let mut is_leased = true;
        if is_wrong && is_beside && heir.is_there() {
            is_leased = !self.unlock_wrongly(files)?;
        }
        heir.tell(Order::Rest);
        heir.wait_for(Step::Kept, 1)?;
        heir.wait_for(Step::Rested, 1)?;
        if is_wrong && !is_beside && heir.is_there() {
            is_leased = !self.unlock_wrongly(files)?;
        }
        self.pause();
        heir.tell(Order::Drop);
        heir.wait_for(Step::Dropped, 1)?;
        if is_leased {
            self.unlock(files, Figure::Right, Figure::RightRefused)?;
        }
        Ok(())
    }

    fn unlock_wrongly(&self, files: &Files) -> Result<bool, Failure> {
        self.unlock(files, Figure::HeirsWrong, Figure::WrongRefused)
    }

    /// Ends the lease, and says whether it could.
    fn unlock(&self, files: &Files, done: Figure, refused: Figure) -> Result<bool, Failure> {
        let is_done = files.unlock()?;
        let figure = if is_done { done } else { refused };
        self.family.board.count(figure, 1);
        Ok(is_done)
    }
}
