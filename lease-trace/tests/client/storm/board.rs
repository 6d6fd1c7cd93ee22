//! What the processes of a storm share: the phase, who is quiet, and what was done.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::reply::Failure;
use crate::sys;

/// The most there can be.
pub const PROCESSES: usize = 16;
/// Work that is done in some rounds only.
pub const WRONG: u64 = 1;
pub const FORK: u64 = 2;
pub const CUT: u64 = 4;
/// Nothing else is done than what parents and heirs do: they have the processors for themselves.
pub const ALONE: u64 = 8;
pub const KINDS: [(&str, u64); 4] = [
    ("wrong", WRONG),
    ("fork", FORK),
    ("cut", CUT),
    ("alone", ALONE),
];

/// What is counted, in the order of [`NAMES`].
#[derive(Clone, Copy)]
pub enum Figure {
    /// Registrations that worked.
    Registered,
    /// Pages in them.
    Pages,
    /// Registrations that the kernel refused: pages were cut off.
    Unregistrable,
    /// Short-term pins.
    Short,
    /// Those that the kernel refused: pages were cut off.
    ShortFailed,
    /// Leases that were not to be had.
    Unleasable,
    /// Leases that ended in the right order.
    Right,
    /// Leases that were refused to end in the right order.
    RightRefused,
    /// Leases that ended while their pages were pinned.
    Wrong,
    /// Leases that were refused to end while their pages were pinned.
    WrongRefused,
    /// Children that were forked, and ended in any way.
    Forked,
    /// Heirs that lived, see `heirs.rs`.
    Heirs,
    /// What they registered.
    HeirsRegistered,
    /// Leases that ended while an heir had pins.
    HeirsWrong,
    /// Heirs that a signal ended, and that were stopped.
    HeirsKilled,
    HeirsStopped,
    /// Holes and truncations.
    Cut,
    /// Anything else that the kernel refused.
    Errors,
    /// Processes that a signal ended, that were stopped, and that ended by themselves.
    Killed,
    Stopped,
    Exited,
}

const NAMES: [&str; 21] = [
    "registered",
    "pages",
    "unregistrable",
    "short",
    "short-failed",
    "unleasable",
    "right",
    "right-refused",
    "wrong",
    "wrong-refused",
    "forked",
    "heirs",
    "heirs-registered",
    "heirs-wrong",
    "heirs-killed",
    "heirs-stopped",
    "cut",
    "errors",
    "killed",
    "stopped",
    "exited",
];

const END: u64 = u64::MAX;

/// Zeroed, it is a storm that has not begun.
struct Shared {
    /// Odd while there is work; [`END`] at the end.
    phase: AtomicU64,
    kinds: AtomicU64,
    /// The last round whose holdings may be given back.
    released: AtomicU64,
    /// How many threads each process has that work.
    threads: [AtomicU64; PROCESSES],
    /// How many threads of each process hold what they have, and are quiet, since the last round.
    holding: [AtomicU64; PROCESSES],
    quiet: [AtomicU64; PROCESSES],
    /// How many children of each process have ever held what they have.
    children: [AtomicU64; PROCESSES],
    figures: [AtomicU64; NAMES.len()],
    /// The errno of the last error.
    errno: AtomicU64,
}

/// Memory that a process shares with those that it forks.
///
/// # Safety
/// Zeroes are a value of a `T`, as they are of atomics.
pub unsafe fn shared_zeroes<T: Sync>() -> Result<&'static T, Failure> {
    let (access, sharing) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    let memory = sys::mmap(size_of::<T>(), access, sharing, -1)?;
    // SAFETY: the kernel just made this mapping, on a page's boundary and full of zeros; nobody ever unmaps it. That
    // they are a value is up to the caller.
    Ok(unsafe { &*memory.cast::<T>() })
}

/// The memory, which lasts as long as any of the processes.
#[derive(Clone, Copy)]
pub struct Board(&'static Shared);

impl Board {
    pub fn new() -> Result<Self, Failure> {
        // SAFETY: it is made of atomics.
        Ok(Self(unsafe { shared_zeroes() }?))
    }

    /// A process that is to come has so many threads that work.
    pub fn expect(self, process: usize, threads: u64) {
        self.0.threads[process].store(threads, Ordering::SeqCst);
    }

    /// Whether it is all of them.
    fn are_all(self, process: usize, count: &AtomicU64) -> bool {
        count.load(Ordering::SeqCst) == self.0.threads[process].load(Ordering::SeqCst)
    }

    pub fn begin(self, kinds: u64) {
        for count in self.0.quiet.iter().chain(&self.0.holding) {
            count.store(0, Ordering::SeqCst);
        }
        self.0.kinds.store(kinds, Ordering::SeqCst);
        self.0.phase.fetch_add(1, Ordering::SeqCst);
    }

    pub fn hush(self) {
        self.0.phase.fetch_add(1, Ordering::SeqCst);
    }

    /// What is held may be given back, in this round and in those before.
    pub fn release(self) {
        let round = self.0.phase.load(Ordering::SeqCst) - 1;
        self.0.released.store(round, Ordering::SeqCst);
    }

    pub fn is_holding(self, process: usize) -> bool {
        self.are_all(process, &self.0.holding[process])
    }

    /// A thread does nothing more, and keeps what it has until it may give it back.
    pub fn hold(self, process: usize, round: u64) {
        self.0.holding[process].fetch_add(1, Ordering::SeqCst);
        self.wait_for_release(round);
    }

    /// The same of a child, which is no thread of the process.
    pub fn hold_as_child(self, process: usize, round: u64) {
        self.0.children[process].fetch_add(1, Ordering::SeqCst);
        self.wait_for_release(round);
    }

    pub fn children(self, process: usize) -> u64 {
        self.0.children[process].load(Ordering::SeqCst)
    }

    fn wait_for_release(self, round: u64) {
        while self.0.released.load(Ordering::SeqCst) < round {
            sleep(Duration::from_millis(2));
        }
    }

    pub fn end(self) {
        self.0.phase.store(END, Ordering::SeqCst);
    }

    pub fn is_quiet(self, process: usize) -> bool {
        self.are_all(process, &self.0.quiet[process])
    }

    /// A thread has given back all that it had.
    pub fn calm(self, process: usize) {
        self.0.quiet[process].fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for a round after the one given; nothing when there are no more.
    pub fn wait(self, last: u64) -> Option<u64> {
        loop {
            match self.0.phase.load(Ordering::SeqCst) {
                END => return None,
                phase if phase % 2 == 1 && phase != last => return Some(phase),
                _ => sleep(Duration::from_millis(1)),
            }
        }
    }

    pub fn is_on(self, round: u64) -> bool {
        self.0.phase.load(Ordering::Relaxed) == round
    }

    /// Whether this round has work of the kind; work of no kind, 0, is always there.
    pub fn has(self, kind: u64) -> bool {
        self.0.kinds.load(Ordering::SeqCst) & kind == kind
    }

    pub fn count(self, figure: Figure, number: u64) {
        self.0.figures[figure as usize].fetch_add(number, Ordering::Relaxed);
    }

    pub fn failed(self, failure: &Failure) {
        let errno = match failure {
            Failure::Kernel { errno, .. } => *errno,
            Failure::Usage(_) => 0,
        };
        self.count(Figure::Errors, 1);
        let errno = u64::from(errno.cast_unsigned());
        self.0.errno.store(errno, Ordering::Relaxed);
    }

    /// `NAME=NUMBER` of all, since the storm was gathered.
    pub fn figures(self) -> String {
        let mut text = format!("errno={}", self.0.errno.load(Ordering::Relaxed));
        for (name, figure) in NAMES.iter().zip(&self.0.figures) {
            let _ = write!(text, " {name}={}", figure.load(Ordering::Relaxed));
        }
        text
    }
}
