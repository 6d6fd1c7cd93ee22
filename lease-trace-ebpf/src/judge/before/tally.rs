//! References to files that one system call is about to drop, counted one by one: whether they are all
//! that a file has. One look at each reference, however many there are to a file, and however many files.

use crate::{
    bpf::loops,
    judge::last_cover,
    kernel::{File, current},
    state::maps::{TALLY, TallyKey},
};

/// Of one look at one call.
pub struct Tally {
    begun_ns: u64,
    /// The file met last that does not matter: of many references to it only the first is looked at.
    passed: u64,
    /// Leases listed that may be looked at yet.
    left: u64,
}

impl Tally {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            begun_ns: current::now(),
            passed: loops::zero(),
            left: last_cover::MOST_LISTED,
        }
    }

    /// Counts a reference to this file. Whether it has no other than those counted, and the end of its lease would
    /// leave pins of the current process uncovered.
    #[inline(always)]
    pub fn is_last(&mut self, file: File) -> bool {
        if file.0 == self.passed {
            return false;
        }
        if !last_cover::is_own_among(file, &mut self.left) {
            loops::keep(&mut self.passed, file.0);
            return false;
        }
        judge_tally(self.begun_ns, file.0) == file.references()
    }
}

/// How many references to this file the look has met, with this one. A global function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_tally(begun_ns: u64, file: u64) -> i64 {
    let key = TallyKey {
        begun_ns,
        thread: current::pid_tgid(),
        file,
    };
    if let Some(met) = TALLY.get_ptr_mut(key) {
        // SAFETY: a live map value, of this look alone.
        unsafe {
            *met += 1;
            return *met as i64;
        }
    }
    _ = TALLY.insert(key, 1, 0);
    1
}
