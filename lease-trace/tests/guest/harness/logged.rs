//! What the programs log beside their counters.

use std::collections::BTreeMap;

use super::{Monitor, Tool, eventually, integer, text};

/// What was lost, by the counters.
pub fn counted() -> BTreeMap<String, i64> {
    let report = Tool::beside(&["report", "stakes", "-J"]).finish().exits(0);
    let report = report.json();
    let lost = report["lost"].as_array().expect("a list");
    lost.iter()
        .map(|lost| (text(lost, "what").to_owned(), integer(lost, "count")))
        // The kernel counts these, and nobody sees them.
        .filter(|(what, _)| !what.starts_with("hooks were missed"))
        .collect()
}

impl Monitor {
    /// How many of what is in the log of one that logs, in lines with this end.
    pub fn logged(&self, with: &str) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for line in self.talk().lines().filter(|line| line.ends_with(with)) {
            let Some((_, message)) = line.split_once("lease_trace::programs] ") else {
                continue;
            };
            let (n, rest) = message.split_once(": ").expect("a number");
            let (what, subject) = rest.rsplit_once(": ").expect("what it is about");
            assert!(subject.contains(" 0x"), "{line}");
            let n: i64 = n.parse().expect("a number");
            *sums.entry(what.to_owned()).or_insert(0) += n;
        }
        sums
    }

    /// This loss is among those counted, and the log of one that logs has just as many of each: no doubt, and no
    /// correction of pins, is logged beside them.
    #[track_caller]
    pub fn expect_logged(&self, what: &str) {
        let counted = counted();
        assert!(
            counted.keys().any(|counted| counted.contains(what)),
            "{what}: {counted:?}"
        );
        assert!(
            eventually(|| self.logged("") == counted),
            "logged {:?}, counted {counted:?}",
            self.logged("")
        );
    }

    /// This loss is among those counted, and the log has just as many of it, in lines about this process; of others, and
    /// of doubts and corrections, it may have more or less.
    #[track_caller]
    pub fn expect_logged_of(&self, pid: i64, what: &str) {
        let counted = counted();
        let n = counted.get(what);
        assert!(n.is_some(), "{what}: {counted:?}");
        let of_process = format!("of process {pid}");
        let are_logged =
            || self.logged("").get(what) == n && self.logged(&of_process).get(what) == n;
        assert!(
            eventually(are_logged),
            "logged {:?}, counted {counted:?}",
            self.logged("")
        );
    }
}
