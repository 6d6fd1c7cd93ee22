//! What the kernel and the books say while all hold what they have: pins of several files, leases, both, and breaches
//! that go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    PROCESSES,
    quiet::{violations, words},
};
use crate::harness::{Pinned, Tool, integer, leases_in, text};

/// How long what the kernel puts off may take, and what a monitor needs to put right what was missed.
const SETTLE: Duration = Duration::from_secs(10);

const STEADY: Duration = Duration::from_millis(500);

/// What may be missing in shared files: a transfer of 64 pages that each process had under way when a file's first pins
/// came, which is not counted, and is taken for these when it drops its own.
const MOST_MISSING: i64 = 64 * PROCESSES as i64;

/// A process and an inode.
type Who = (i64, i64);

/// Where it is: the file system, and the inodes of the files that all share.
pub struct Place {
    pub dev: String,
    pub shared: BTreeSet<i64>,
}

/// One look at all that is held.
pub struct Held {
    /// Pins by the kernel's own count.
    kernel_pins: i64,
    pins: i64,
    files: usize,
    leases: usize,
    zombies: usize,
    /// Stakes whose counts are marked as doubtful.
    doubtful: usize,
    /// Pins that the kernel has in shared files and the books have not: pins of short term that were not counted are
    /// taken for them when they are dropped.
    missing: i64,
    /// What is wrong, a line each.
    pub differences: Vec<String>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kernel_pins,
            pins,
            files,
            leases,
            zombies,
            doubtful,
            missing,
            differences,
        } = self;
        write!(
            f,
            "held: {kernel_pins} pins and {leases} leases; books: {pins} pins in {files} files, {zombies} zombies, \
             {doubtful} stakes doubtful, {missing} pins missing"
        )?;
        differences
            .iter()
            .try_for_each(|difference| write!(f, "\n        {difference}"))
    }
}

/// Waits until what is held is in the books as the kernel has it, or for longer than that takes.
pub fn compare(place: &Place, pinned: Pinned) -> Held {
    let deadline = Instant::now() + SETTLE;
    loop {
        // Rings of children that have ended go one by one, and a look takes longer than this.
        let before = pinned.since();
        std::thread::sleep(STEADY);
        let is_late = Instant::now() > deadline;
        if pinned.since() != before && !is_late {
            continue;
        }
        let held = look(place, pinned);
        if held.differences.is_empty() || is_late {
            return held;
        }
    }
}

fn look(place: &Place, pinned: Pinned) -> Held {
    let kernel_pins = pinned.since();
    // Nobody changes anything meanwhile.
    let (stakes, survey, violations) = std::thread::scope(|scope| {
        let stakes = scope.spawn(|| place.stakes());
        let survey = scope.spawn(|| Survey::take(place));
        let violations = violations();
        let failed = "a command failed";
        (
            stakes.join().expect(failed),
            survey.join().expect(failed),
            violations,
        )
    });
    let locks: Vec<Who> = leases_in(&place.dev)
        .iter()
        .map(|lock| (lock.pid, lock.ino))
        .collect();
    let (mut differences, mut missing) = survey.held_against(&stakes, place);
    let now = pinned.since();
    if now != kernel_pins {
        differences.push(format!("{kernel_pins} pins became {now}"));
    }
    for violation in &violations {
        // Pages that have left a file are not the survey's of that file: that fewer pins are counted than are on
        // these is told here.
        if violation["rule"] == "folios" {
            missing += integer(violation, "found") - integer(violation, "expected");
        } else {
            differences.push(words(violation));
        }
    }
    if missing > MOST_MISSING {
        differences.push(format!(
            "{missing} pins in shared files are not counted, and {MOST_MISSING} may be"
        ));
    }
    differences.extend(unknown_leases(&stakes, &locks));
    differences.extend(stakes.iter().filter_map(|row| wrong_state(row, &locks)));
    let files: BTreeSet<i64> = stakes.iter().map(|row| who(row).1).collect();
    Held {
        kernel_pins,
        pins: stakes.iter().map(|row| integer(row, "pins")).sum(),
        files: files.len(),
        leases: locks.len(),
        zombies: stakes.iter().filter(|row| row["state"] == "zombie").count(),
        doubtful: stakes.iter().filter(|row| is_doubtful(row)).count(),
        missing,
        differences,
    }
}

impl Place {
    /// The rows of the report about files here. Leases without pins are among them; that of leases shows those of
    /// /proc/locks, too, whether they are in the books or not.
    fn stakes(&self) -> Vec<Value> {
        let report = Tool::run(&["report", "stakes", "-J"]).json();
        let rows = report["stakes"].as_array().expect("a list").iter();
        rows.filter(|row| row["dev"] == self.dev.as_str())
            .cloned()
            .collect()
    }

    /// Whose pins are compared: in a file that all share those of all together, since pins of short term come and go
    /// there, which the books do not tell from those of others.
    fn key(&self, (pid, ino): Who) -> Who {
        let pid = if self.shared.contains(&ino) { 0 } else { pid };
        (pid, ino)
    }
}

fn who(row: &Value) -> Who {
    (pid(row), integer(row, "ino"))
}

/// 0 of a process that is gone and left something.
fn pid(row: &Value) -> i64 {
    row["pid"].as_i64().unwrap_or_default()
}

fn is_doubtful(row: &Value) -> bool {
    row["doubtful"] == true
}

/// What rings have pinned, read from the rings.
struct Survey {
    in_files: BTreeMap<Who, i64>,
    /// On pages that have left their file: one of those that all share, as the others are not cut.
    left: i64,
    not_found: i64,
}

impl Survey {
    fn take(place: &Place) -> Self {
        let pins = Tool::run(&["pins", "-J", "--all-memory"]).json();
        let mut survey = Self {
            in_files: BTreeMap::new(),
            left: 0,
            not_found: integer(&pins, "not_found"),
        };
        let rows = pins["pins"].as_array().expect("a list").iter();
        for row in rows.filter(|row| row["shared"] != true) {
            let count = integer(row, "pins");
            if row["dev"] == place.dev.as_str() {
                let key = place.key(who(row));
                *survey.in_files.entry(key).or_default() += count;
            } else if row["memory"] == "detached" {
                survey.left += count;
            }
        }
        survey
    }

    /// What the stakes count wrongly, and how many pins they lack in shared files. Those that are doubtful may count too
    /// many.
    fn held_against(&self, stakes: &[Value], place: &Place) -> (Vec<String>, i64) {
        let mut differences = Vec::new();
        if self.not_found != 0 {
            differences.push(format!("of {} pins no owner is found", self.not_found));
        }
        let none = (0, false);
        let mut counted: BTreeMap<Who, (i64, bool)> =
            self.in_files.keys().map(|key| (*key, none)).collect();
        for row in stakes {
            let (pins, has_doubt) = counted.entry(place.key(who(row))).or_insert(none);
            *pins += integer(row, "pins");
            *has_doubt |= is_doubtful(row);
        }
        let (mut over, mut missing) = (0, 0);
        for (key @ (pid, ino), (counted, has_doubt)) in &counted {
            let there = self.in_files.get(key).copied().unwrap_or(0);
            if place.shared.contains(ino) {
                missing += (there - counted).max(0);
                if !has_doubt {
                    over += (counted - there).max(0);
                }
            } else if !has_doubt && *counted != there {
                differences.push(format!(
                    "process {pid} counts {counted} pins in inode {ino}, and has {there}"
                ));
            }
        }
        if over > self.left {
            differences.push(format!(
                "{over} pins are counted that are in no file, and {} are on pages that left one",
                self.left
            ));
        }
        (differences, missing)
    }
}

/// Leases that the kernel has, and whoever has set them has no stake in the file.
fn unknown_leases(stakes: &[Value], locks: &[Who]) -> Vec<String> {
    let known: BTreeSet<Who> = stakes.iter().map(who).collect();
    let unknown = locks.iter().filter(|lock| !known.contains(lock));
    unknown
        .map(|(pid, ino)| format!("process {pid} has a lease on inode {ino}, and no stake"))
        .collect()
}

/// A stake that counts other leases than there are on its file, which its process has all inherited that it has not
/// set; or whose state is not what follows from leases and pins.
fn wrong_state(row: &Value, locks: &[Who]) -> Option<String> {
    if is_doubtful(row) {
        return None;
    }
    let (pid, ino) = who(row);
    let (pins, leases) = (integer(row, "pins"), integer(row, "leases"));
    let there = locks.iter().filter(|(_, on)| *on == ino).count() as i64;
    let path = row["path"].as_str().unwrap_or_default();
    let expected = match (pins > 0, there > 0) {
        (true, true) => "covered",
        (true, false) if path.contains("/wrong-") => "zombie",
        (true, false) => "bare-pin",
        (false, _) => "leased",
    };
    let state = text(row, "state");
    (leases != there || state != expected).then(|| {
        format!(
            "process {pid}, {path}: {state} with {pins} pins and {leases} leases; {there} in /proc/locks"
        )
    })
}
