//! What the threads of one process of a storm do.

use std::os::fd::RawFd;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use super::board::{ALONE, Board, CUT, FORK, Figure, WRONG};
use super::chance::Chance;
use super::child;
use super::pages::{Buffers, Files, MOST_BUFFERS};
use crate::reply::{Failure, usage};
use crate::sys;

/// How long what was pinned by a child may still be pinned when it is gone: a ring's end is a
/// kworker's job.
const RING_END: Duration = Duration::from_secs(10);
/// Between two breaches of one thread: each is told, and who is told must keep up.
pub const BREACH: Duration = Duration::from_millis(5);
const CUTS: Duration = Duration::from_millis(1);

/// One thread.
struct Worker {
    board: Board,
    process: usize,
    /// The round that it works in, and whether it has paused in that.
    round: u64,
    has_paused: bool,
    chance: Chance,
    /// Those that all share.
    files: Files,
    /// One of its own.
    own: Files,
    ring: RawFd,
    disk: Option<RawFd>,
    leased: bool,
}

/// Threads of one process.
pub const THREADS: usize = 8;

type Step = fn(&mut Worker) -> Result<(), Failure>;

/// What each thread does, and the kind of work that it is.
const WORK: [(&str, u64, Step); THREADS] = [
    ("pin", 0, Worker::pin),
    ("pin", 0, Worker::pin),
    ("pin", 0, Worker::pin),
    ("short", 0, Worker::pin_shortly),
    ("right", 0, Worker::lease_right),
    ("wrong", WRONG, Worker::lease_wrong),
    ("fork", FORK, Worker::fork),
    ("cut", CUT, Worker::cut),
];

/// All that a process does, until the storm is over.
pub fn all(
    board: Board,
    files: &Files,
    process: usize,
    seed: u64,
    directory: &str,
    disk: Option<&str>,
) -> Result<(), Failure> {
    let mut threads = Vec::new();
    for (number, (name, kind, step)) in (0..).zip(WORK) {
        let mut worker = Worker {
            board,
            process,
            round: 0,
            has_paused: false,
            chance: Chance::new(seed, process, number),
            files: files.clone(),
            own: Files::one(&format!("{directory}/{name}-{process}-{number}"))?,
            ring: sys::io_uring_setup(1)?,
            disk: disk
                .map(|disk| sys::open(disk, libc::O_RDONLY | libc::O_DIRECT))
                .transpose()?,
            leased: false,
        };
        let run = move || {
            while let Some(round) = board.wait(worker.round) {
                (worker.round, worker.has_paused) = (round, false);
                let has_work = board.has(kind) && !board.has(ALONE);
                while has_work && board.is_on(round) {
                    worker.or_error(step);
                }
                while board.is_on(round) {
                    sleep(CUTS);
                }
                if has_work && !worker.has_paused {
                    worker.or_error(step);
                }
                // Where it had nothing to hold.
                worker.pause();
                worker.or_error(Worker::calm);
                board.calm(process);
            }
        };
        let started = Builder::new().name(name.to_owned()).spawn(run);
        threads.push(started.map_err(|error| Failure::of(&error, "pthread_create"))?);
    }
    for thread in threads {
        if thread.join().is_err() {
            return usage("a thread of the storm panicked");
        }
    }
    Ok(())
}

impl Worker {
    fn or_error(&mut self, step: Step) {
        if let Err(failure) = step(self) {
            self.board.failed(&failure);
        }
    }

    /// Once a round is over, keeps all that it has until it may be given back.
    fn pause(&mut self) {
        if !self.has_paused && !self.board.is_on(self.round) {
            self.has_paused = true;
            self.board.hold(self.process, self.round);
        }
    }

    /// Registers, and says whether it could.
    fn register(&self, buffers: &Buffers) -> Result<bool, Failure> {
        match buffers.register(self.ring) {
            Ok(()) => {
                self.board.count(Figure::Registered, 1);
                self.board.count(Figure::Pages, buffers.pages());
                Ok(true)
            }
            Err(Failure::Kernel {
                errno: libc::EFAULT,
                ..
            }) => {
                self.board.count(Figure::Unregistrable, 1);
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    fn pin(&mut self) -> Result<(), Failure> {
        let buffers = Buffers::choose(&[&self.files], MOST_BUFFERS, &mut self.chance);
        if self.register(&buffers)? {
            self.pause();
            Buffers::unregister(self.ring)?;
        }
        Ok(())
    }

    /// By process_vm_readv(2) or O_DIRECT: the pages are the same ones.
    fn pin_shortly(&mut self) -> Result<(), Failure> {
        let part = self.files.part(&mut self.chance);
        let done = match self.disk {
            Some(disk) if self.chance.below(2) == 0 => {
                sys::pread(disk, part.iov_base, part.iov_len)
            }
            _ => sys::vm_read(part.iov_base, part.iov_len),
        };
        let figure = match done {
            Ok(_) => Figure::Short,
            Err(Failure::Kernel {
                errno: libc::EFAULT,
                ..
            }) => Figure::ShortFailed,
            Err(failure) => return Err(failure),
        };
        self.board.count(figure, 1);
        Ok(())
    }

    /// Sets the lease, and says whether it could.
    fn lease(&mut self) -> Result<bool, Failure> {
        if self.own.lease()? {
            self.leased = true;
        } else {
            self.board.count(Figure::Unleasable, 1);
        }
        Ok(self.leased)
    }

    /// Ends the lease, and says whether it could.
    fn unlock(&mut self) -> Result<bool, Failure> {
        self.leased &= !self.own.unlock()?;
        Ok(!self.leased)
    }

    fn unlock_rightly(&mut self) -> Result<(), Failure> {
        let figure = if self.unlock()? {
            Figure::Right
        } else {
            Figure::RightRefused
        };
        self.board.count(figure, 1);
        Ok(())
    }

    /// Pins of its own file, and of those of all beside them.
    fn pin_own(&mut self) -> Result<bool, Failure> {
        let most = MOST_BUFFERS - 1;
        let both = [&self.own, &self.files];
        let mut buffers = Buffers::choose(&both, most, &mut self.chance);
        buffers.add(&self.own, &mut self.chance);
        self.register(&buffers)
    }

    /// Lease, pin, unpin, unlock; or the first two the other way round.
    fn lease_right(&mut self) -> Result<(), Failure> {
        let lease_first = self.chance.below(2) == 0;
        if lease_first && !self.lease()? {
            return Ok(());
        }
        let pinned = self.pin_own()?;
        if !lease_first {
            self.lease()?;
        }
        self.pause();
        if pinned {
            Buffers::unregister(self.ring)?;
        }
        if self.leased {
            self.unlock_rightly()?;
        }
        Ok(())
    }

    /// Lease, pin, unlock, unpin.
    fn lease_wrong(&mut self) -> Result<(), Failure> {
        sleep(BREACH);
        if !self.lease()? {
            return Ok(());
        }
        if self.pin_own()? {
            let figure = if self.unlock()? {
                Figure::Wrong
            } else {
                Figure::WrongRefused
            };
            self.board.count(figure, 1);
            self.pause();
            Buffers::unregister(self.ring)?;
        }
        if self.leased {
            self.unlock_rightly()?;
        }
        Ok(())
    }

    /// A lease that its children have, too; it ends when they are gone, in [`Self::calm`].
    fn fork(&mut self) -> Result<(), Failure> {
        if self.leased || self.lease()? {
            let part = child::Part {
                board: self.board,
                files: &self.files,
                own: &self.own,
            };
            if self.board.is_on(self.round) {
                part.fork(&mut self.chance)?;
            } else {
                let child = part.fork_holding(self.process, self.round, &mut self.chance)?;
                self.pause();
                sys::wait(child)?;
                self.board.count(Figure::Forked, 1);
            }
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Failure> {
        sleep(CUTS);
        self.files.cut(&mut self.chance)?;
        self.board.count(Figure::Cut, 1);
        Ok(())
    }

    /// Every step has unpinned what it pinned. A lease is left where children may have had pins, or
    /// where its end was refused: then it may take until the kernel has dropped them.
    fn calm(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + RING_END;
        while self.leased {
            if self.unlock()? {
                self.board.count(Figure::Right, 1);
            } else if Instant::now() > deadline {
                self.board.count(Figure::RightRefused, 1);
                break;
            } else {
                sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}
