//! What is kept for a thread goes with it.

use std::collections::BTreeSet;

use super::{Look, Subject, Violation, violation};

impl Look {
    /// `is_there` says whether there is a thread of this number.
    pub(super) fn threads_are_there(
        &self,
        is_there: impl Fn(u32) -> bool,
        found: &mut BTreeSet<Violation>,
    ) {
        for (rule, tid) in &self.threads {
            if !is_there(*tid) {
                found.insert(violation(*rule, Subject::Thread { tid: *tid }, 1, 0));
            }
        }
    }
}
