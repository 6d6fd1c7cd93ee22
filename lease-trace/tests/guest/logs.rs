//! What the programs log: the losses that a counter has, one by one, with what each is about.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{Actor, Monitor, Scratch, Tool, eventually, integer, text};

/// Leases beyond what there is room for: not more than the ring of the log has room for.
const BEYOND: i64 = 6;
const CAPACITY: i64 = 1024;

/// Each line of a loss says how many; together they are what was counted.
#[test]
fn each_loss_is_logged_with_what_it_is_about() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.file("files")).expect("a folder");
    let monitor = Monitor::that_logs(&["--capacity", &CAPACITY.to_string()]);
    let actor = Actor::start();
    actor.ok("open-files 4096");
    let crowd = format!("crowd c 1 {} {}", CAPACITY + BEYOND, scratch.file("files"));
    actor.ok(&crowd);
    let report = Tool::beside(&["report", "stakes", "-J"]).finish().exits(0);
    let report = report.json();
    let counted: BTreeMap<String, i64> = report["lost"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|lost| (text(lost, "what").to_owned(), integer(lost, "count")))
        // The kernel counts these, and nobody sees them.
        .filter(|(what, _)| !what.starts_with("hooks were missed"))
        .collect();
    assert!(
        counted.keys().any(|what| what.contains("no room in the")),
        "{counted:?}"
    );
    assert!(
        eventually(|| logged(&monitor) == counted),
        "logged {:?}, counted {counted:?}",
        logged(&monitor)
    );
    let about = format!("thread {0} of process {0}", crowd_pid(&monitor));
    assert!(monitor.talk().contains(&about), "{}", monitor.talk());
    actor.ok("crowd-end c");
}

/// How many of what is in the log.
fn logged(monitor: &Monitor) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for line in monitor.talk().lines() {
        let Some((_, message)) = line.split_once("lease_trace::programs] ") else {
            continue;
        };
        let mut parts = message.splitn(3, ": ");
        let n: i64 = parts.next().and_then(|n| n.parse().ok()).expect("a number");
        let what = parts.next().expect("what it is");
        assert!(
            parts.next().is_some_and(|subject| subject.contains(" 0x")),
            "{line}"
        );
        *sums.entry(what.to_owned()).or_insert(0) += n;
    }
    sums
}

/// The process that lost something, by the log.
fn crowd_pid(monitor: &Monitor) -> i64 {
    let talk = monitor.talk();
    let (_, behind) = talk.rsplit_once("of process ").expect("a process");
    let end = behind
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(behind.len());
    behind[..end].parse().expect("a pid")
}
