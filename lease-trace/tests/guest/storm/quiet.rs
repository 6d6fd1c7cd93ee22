//! What the kernel and the books say while all are quiet.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Pinned, Tool, integer, leases_in};

/// How long what the kernel puts off may take: a ring's end is a kworker's job.
const SETTLE: Duration = Duration::from_secs(10);

/// How long a monitor may take to put right what was missed, with some time for an emulated processor.
const HEALED: Duration = Duration::from_secs(5);

/// What is left when nothing is to be.
pub struct Books {
    /// Pins by the kernel's own count.
    pub kernel_pins: i64,
    /// Leases in /proc/locks.
    pub locks: usize,
    /// Stakes in the books, their pins and their leases.
    pub stakes: usize,
    pub pins: i64,
    pub leases: i64,
    /// Of the stakes, zombies.
    pub zombies: usize,
    /// What `doctor --check` says of the books, a line each.
    pub violations: Vec<String>,
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kernel_pins,
            locks,
            stakes,
            pins,
            leases,
            zombies,
            violations,
        } = self;
        write!(
            f,
            "kernel: {kernel_pins} pins, {locks} leases; books: {pins} pins and {leases} leases \
             in {stakes} stakes, {zombies} zombies"
        )?;
        violations
            .iter()
            .try_for_each(|violation| write!(f, "\n        {violation}"))
    }
}

impl Books {
    pub fn are_clear(&self) -> bool {
        (self.stakes, self.pins, self.leases, self.zombies) == (0, 0, 0, 0)
            && self.violations.is_empty()
    }
}

/// Waits until the kernel's count is even, and then until the books are, for no longer than they may take.
pub fn compare(dev: &str, pinned: Pinned) -> Books {
    let deadline = Instant::now() + SETTLE;
    while pinned.since() != 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let deadline = Instant::now() + HEALED;
    loop {
        let books = look(dev, pinned);
        if books.are_clear() || Instant::now() > deadline {
            return books;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn look(dev: &str, pinned: Pinned) -> Books {
    let report = Tool::run(&["report", "stakes", "-J"]).json();
    let rows: Vec<&Value> = report["stakes"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    let here = || rows.iter().filter(|row| row["dev"] == dev);
    Books {
        kernel_pins: pinned.since(),
        locks: leases_in(dev).len(),
        stakes: here().count(),
        pins: here().map(|row| integer(row, "pins")).sum(),
        leases: here().map(|row| integer(row, "leases")).sum(),
        zombies: here().filter(|row| row["state"] == "zombie").count(),
        violations: violations().iter().map(words).collect(),
    }
}

/// What `doctor --check` says of the books.
pub fn violations() -> Vec<Value> {
    let check = Tool::run(&["doctor", "--check", "-J"]).json();
    check["violations"].as_array().expect("a list").clone()
}

/// In words.
pub fn words(violation: &Value) -> String {
    violation["text"].as_str().expect("a text").to_owned()
}
