//! The real thing: processes that do the steps, and what the product and the kernel say afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::model::{Answer, Model};
use super::op::{FILES, Op, PROCESSES, name};
use super::told::{Row, Told};
use crate::harness::{
    Actor, Follower, Monitor, Pinned, Scratch, Sentinel, Setting, eventually, is_hook_missed,
    leases_in,
};

/// Room for all that there can be; each report goes through it.
const CAPACITY: &str = "1024";
/// How long the kernel's worker may take to take a ring down.
const WORKER: Duration = Duration::from_secs(5);
/// An orphaned pin is told so late at most, behind the moment that it was one.
const ORPHAN: Duration = Duration::from_secs(5);

/// Everything that one sequence after the other is run with.
pub struct World {
    dev: String,
    monitor: Monitor,
    follower: Follower,
    /// Makes new processes; it holds nothing that they could inherit but the ends of a socket.
    seed: Actor,
    actors: [Option<Actor>; PROCESSES],
    /// A leased file of the test's own: its lease, set and released, shows that nothing is pending.
    sentinel: Sentinel,
    pinned: Pinned,
    /// When a stake was last an orphaned pin, by pid and inode number.
    orphaned: BTreeMap<(i64, i64), Instant>,
    /// Orphaned pins that were told and have not ended.
    told_orphaned: BTreeSet<(i64, i64)>,
    /// An event, or a loss, that nothing accounts for.
    unexpected: Option<Value>,
    /// The product said that the kernel missed hooks: from then on it may be wrong.
    pub missed_by: bool,
    /// By event, how many were told and agreed with; by state, how many rows.
    pub agreed: BTreeMap<String, u64>,
    /// What the kernel is told for as long as this is there.
    _settings: [Setting; 2],
    /// Goes last: the others have files in it.
    scratch: Scratch,
}

/// How long holders have to react, s; 0: for ever.
fn break_time(seconds: &str) -> Setting {
    Setting::set("fs/lease-break-time", seconds)
}

/// What the product and the kernel say at one moment.
struct Seen {
    /// In the stream, since the last time.
    told: Vec<Told>,
    rows: Vec<Row>,
    pinned: i64,
    locks: Vec<(i64, i64, String)>,
}

/// The stake that an event is about: pid and inode number.
fn key(event: &Value) -> (i64, i64) {
    let number = |member: &str| event[member].as_i64().unwrap_or_default();
    (number("pid"), number("ino"))
}

impl World {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::with(&["--all-events", "--capacity", CAPACITY]);
        monitor.forget();
        let sentinel = Sentinel::new(&scratch);
        let seed = Actor::start();
        seed.all(&[
            "signals ignore CHLD",
            "socketpair near far",
            "cloexec near off",
            "cloexec far off",
        ]);
        Self {
            dev: sentinel.dev.clone(),
            follower: Follower::of("stakes"),
            monitor,
            seed,
            actors: Default::default(),
            sentinel,
            pinned,
            orphaned: BTreeMap::new(),
            told_orphaned: BTreeSet::new(),
            unexpected: None,
            missed_by: false,
            agreed: BTreeMap::new(),
            _settings: [
                break_time("0"),
                // /proc/locks is not written before all CPUs have been waited for.
                Setting::of_sysfs("kernel/rcu_expedited", "1"),
            ],
            scratch,
        }
    }

    /// Another one with what this has agreed on, where the product may be wrong from now on.
    pub fn renew(mut self) -> Self {
        self.end_all();
        let agreed = std::mem::take(&mut self.agreed);
        drop(self);
        Self {
            agreed,
            ..Self::new()
        }
    }

    fn end_all(&mut self) {
        for actor in self.actors.iter_mut().filter_map(Option::take) {
            actor.end_apart(None);
        }
    }

    /// Ends everything that a sequence has left.
    pub fn clear(&mut self) {
        self.end_all();
        for file in 0..FILES {
            let _ = fs::remove_file(self.path(file));
        }
        self.pinned.assert_balanced();
        let is_clear = eventually(|| {
            let seen = self.look();
            seen.rows.is_empty() && seen.locks.is_empty()
        });
        assert!(is_clear, "stakes or leases without a process");
        // What was told of that is no part of what comes now.
        self.look();
        self.unexpected = None;
        self.orphaned.clear();
        self.told_orphaned.clear();
    }

    /// Does a step. An error: the kernel refused what it must not refuse, or the other way round.
    pub fn perform(&mut self, op: Op, model: &Model) -> Result<Answer, String> {
        let mut answer = Answer {
            done: true,
            ..Answer::default()
        };
        match op {
            Op::Spawn { p } => answer.pid = self.fork(None, p),
            Op::Fork { p, child } => answer.pid = self.fork(Some(p), child),
            Op::Exit { p } => self.take(p).end_apart(Some("exit 0")),
            Op::Kill { p } => self.take(p).end_apart(None),
            Op::Unlink { file } => fs::remove_file(self.path(file)).expect("it is there"),
            _ => {}
        }
        let (path, is_new) = match op {
            Op::Open { file, .. } | Op::Break { file, .. } | Op::Outwait { file, .. } => {
                (self.path(file), model.is_new(op))
            }
            _ => (String::new(), false),
        };
        let _short = matches!(op, Op::Outwait { .. }).then(|| break_time("1"));
        for (number, (p, command)) in op
            .commands(&path, is_new, model.is_writable(op))
            .into_iter()
            .enumerate()
        {
            let actor = self.actors[p].as_ref().expect("alive");
            if let Err(refusal) = actor.attempt(&command) {
                if number > 0 || !model.may_be_refused(op) {
                    return Err(format!("`{command}` was refused: {refusal}"));
                }
                answer.done = false;
            }
        }
        if answer.done && model.must_be_refused(op) {
            return Err("the kernel did not refuse it".to_owned());
        }
        if is_new {
            answer.ino = fs::metadata(&path).expect("just made").ino() as i64;
        }
        Ok(answer)
    }

    /// Holds what the product and the kernel say against the model, after a step of which it
    /// expects `told`. An error: how they differ.
    pub fn compare(&mut self, op: Op, model: &Model, told: Vec<Told>) -> Result<(), String> {
        let mut wanted = told;
        wanted.sort_unstable();
        // A ring that was closed may still have what another one shares.
        let is_late = matches!(
            op,
            Op::CloseRing { .. }
                | Op::Unpin { .. }
                | Op::UringClose { worker: true, .. }
                | Op::Exit { .. }
                | Op::Kill { .. }
        );
        if is_late {
            self.wait_for_workers(model);
        }
        let mut seen = self.look();
        if seen.told.iter().any(|told| self.is_by_monitor(told)) {
            // It looks through descriptors now and then, and may be the last to let go: later than
            // the step was done.
            std::thread::sleep(Duration::from_millis(200));
            let again = self.look();
            seen.told.extend(again.told);
            seen = Seen {
                told: seen.told,
                ..again
            };
            self.excuse_the_monitor(&wanted, &mut seen.told);
        }
        self.check(&wanted, seen, model)?;
        for Told { event, cause, .. } in wanted {
            self.count(event.to_owned());
            if event == "lease-end" {
                self.count(format!("{event} by {cause}"));
            }
        }
        for row in model.rows() {
            self.count(format!("{} row", row.state));
            if row.breaking {
                self.count("breaking row".to_owned());
            }
        }
        Ok(())
    }

    fn count(&mut self, what: String) {
        *self.agreed.entry(what).or_default() += 1;
    }

    fn check(&mut self, wanted: &[Told], seen: Seen, model: &Model) -> Result<(), String> {
        let Seen {
            mut told,
            rows,
            pinned,
            locks,
        } = seen;
        told.sort_unstable();
        if let Some(unexpected) = self.unexpected.take() {
            return Err(format!("unexpected: {unexpected}"));
        }
        if told != wanted {
            return Err(format!("the stream has {told:#?}\nnot {wanted:#?}"));
        }
        if pinned != model.pins() {
            return Err(format!("vmstat has {pinned} pins, not {}", model.pins()));
        }
        if locks != model.locks() {
            let predicted = model.locks();
            return Err(format!("/proc/locks has {locks:?}, not {predicted:?}"));
        }
        let predicted = model.rows();
        let same = rows.len() == predicted.len()
            && predicted
                .iter()
                .zip(&rows)
                .all(|(row, seen)| row.admits(seen));
        if !same {
            return Err(format!("the report has {rows:#?}\nnot {predicted:#?}"));
        }
        self.note_orphans(&rows);
        Ok(())
    }

    /// All that is said now. The report is made while the kernel's figures are read, which takes as
    /// long.
    fn look(&mut self) -> Seen {
        let sentinel = self.sentinel.step();
        self.follower.begin();
        let (pinned, locks) = (self.pinned.since(), self.locks());
        Seen {
            told: self.told_until(sentinel),
            rows: self.rows(),
            pinned,
            locks,
        }
    }

    fn is_by_monitor(&self, told: &Told) -> bool {
        told.releaser == self.monitor.pid()
    }

    /// Where the monitor held the last reference, because it was just looking at the descriptor, it
    /// is the one who let go (docs/verification.md).
    fn excuse_the_monitor(&self, wanted: &[Told], seen: &mut [Told]) {
        for told in seen {
            if self.is_by_monitor(told)
                && let Some(meant) = wanted.iter().find(|wanted| {
                    (wanted.event, wanted.pid, wanted.ino, wanted.pins)
                        == (told.event, told.pid, told.ino, told.pins)
                })
            {
                *told = meant.clone();
            }
        }
    }

    /// What was told about the files here before the sentinel moved.
    fn told_until(&mut self, sentinel: &str) -> Vec<Told> {
        let taken = self.sentinel.told_until(&self.monitor, sentinel);
        let mut told = Vec::new();
        for value in &taken {
            // It takes the orphan's place, and may be at rest before any report has it.
            if value["event"] == "zombie" {
                self.told_orphaned.remove(&key(value));
            }
            match Told::read(value) {
                Some(read) => told.push(read),
                None => self.check_late(value),
            }
        }
        told
    }

    /// Events of orphaned pins come late: each must have been one a short time ago, and each end must
    /// follow a beginning. No others are expected.
    fn check_late(&mut self, value: &Value) {
        let key = key(value);
        let is_right = match value["event"].as_str() {
            Some("orphaned-pin") => {
                let since = self.orphaned.get(&key).map(Instant::elapsed);
                self.count("orphaned-pin told".to_owned());
                let is_first = self.told_orphaned.insert(key);
                if !is_first {
                    eprintln!("told before, without an end since: {value}");
                }
                is_first && since.is_some_and(|since| since < ORPHAN)
            }
            Some("orphan-end") => self.told_orphaned.remove(&key),
            Some("lost") => return self.check_loss(value),
            _ => false,
        };
        if !is_right {
            self.unexpected = Some(value.clone());
        }
    }

    fn check_loss(&mut self, lost: &Value) {
        if is_hook_missed(lost) {
            self.missed_by = true;
        } else {
            self.unexpected = Some(lost.clone());
        }
    }

    fn note_orphans(&mut self, rows: &[Row]) {
        for row in rows {
            let key = (row.pid, row.ino);
            match row.state.as_str() {
                "orphaned-pin" => _ = self.orphaned.insert(key, Instant::now()),
                // Takes the orphan's place, without an event of its own.
                "zombie" => _ = self.told_orphaned.remove(&key),
                _ => {}
            }
        }
    }

    /// The rows about the files here in the report that was asked for.
    fn rows(&mut self) -> Vec<Row> {
        let report = self.follower.answer();
        for lost in report["lost"].as_array().expect("a list") {
            self.check_loss(lost);
        }
        let rows = report["stakes"].as_array().expect("a list").iter();
        let mut rows: Vec<Row> = rows
            .filter(|row| row["dev"] == self.dev.as_str() && row["ino"] != self.sentinel.ino)
            .map(Row::read)
            .collect();
        rows.sort_by_key(|row| (row.pid, row.ino));
        rows
    }

    fn locks(&self) -> Vec<(i64, i64, String)> {
        let listed = leases_in(&self.dev).into_iter();
        let mut locks: Vec<_> = listed
            .filter(|listed| listed.ino != self.sentinel.ino)
            .map(|listed| (listed.ino, listed.pid, listed.access))
            .collect();
        locks.sort_unstable();
        locks
    }

    /// Pins are dropped, and files closed, by the kernel's workers.
    fn wait_for_workers(&self, model: &Model) {
        let (pins, locks) = (model.pins(), model.locks());
        let deadline = Instant::now() + WORKER;
        while (self.pinned.since() != pins || self.locks() != locks) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn fork(&mut self, parent: Option<usize>, child: usize) -> i64 {
        let parent = parent.map_or(&self.seed, |p| self.actors[p].as_ref().expect("alive"));
        let forked = parent.fork_apart(&self.scratch);
        let pid = forked.pid();
        self.actors[child] = Some(forked);
        pid
    }

    fn take(&mut self, p: usize) -> Actor {
        self.actors[p].take().expect("alive")
    }

    fn path(&self, file: usize) -> String {
        self.scratch.file(name(file))
    }
}
