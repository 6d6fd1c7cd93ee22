//! A running `lease-trace monitor -o json`, and what it has said so far.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::end::{interrupt, wait};
use super::shared::Shared;
use super::{Actor, PATIENCE, START_PATIENCE, Scratch, Tool, schema};

/// `LEASE_TRACE_LOG` for what the programs log, and for nothing else.
pub const PROGRAMS_LOG: &str = "lease_trace::programs=debug";

/// A monitor that has attached and can be asked what it said. Dropped, it is stopped.
pub struct Monitor {
    process: Child,
    lines: Receiver<String>,
    /// Every event so far, and whether a scenario has claimed it.
    seen: RefCell<Vec<(Value, bool)>>,
    talk: Arc<Mutex<String>>,
    /// The `start` event.
    pub start: Value,
}

/// How a monitor ended.
#[derive(Debug)]
pub struct Stopped {
    /// The `end` event.
    pub summary: Value,
    /// All `lost` events.
    pub lost: Vec<Value>,
    pub status: ExitStatus,
}

impl Stopped {
    /// Everything was told. That the kernel passes a program by while it runs is nothing the monitor
    /// can help.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let mut lost = self.lost.iter().filter(|lost| !is_hook_missed(lost));
        assert!(lost.next().is_none(), "{self:?}");
    }
}

/// Whether a loss is that of hooks which were missed.
pub fn is_hook_missed(lost: &Value) -> bool {
    lost["what"]
        .as_str()
        .is_some_and(|what| what.starts_with("hooks were missed"))
}

impl Monitor {
    /// The shared one, which sees everything of everybody.
    pub fn start() -> Shared {
        Shared::borrow()
    }

    /// One of the scenario's own, which sees the same.
    pub fn alone() -> Self {
        Self::with(&["--all-events"])
    }

    /// With these arguments after `monitor -o json`, ready when it returns.
    pub fn with(arguments: &[&str]) -> Self {
        Self::of(Tool::new(&[&["monitor", "-o", "json"], arguments].concat()))
    }

    /// The same, and the programs log.
    pub fn that_logs(arguments: &[&str]) -> Self {
        let tool = Tool::new(&[&["monitor", "-o", "json"], arguments].concat());
        Self::of(tool.env("LEASE_TRACE_LOG", PROGRAMS_LOG))
    }

    /// One that takes over the enforcement in place, and sees everything of everybody.
    pub fn of_enforcement() -> Self {
        Self::of(Self::beside_enforcement())
    }

    /// The same, and it shows what the programs log.
    pub fn that_shows_logs() -> Self {
        Self::of(Self::beside_enforcement().env("LEASE_TRACE_LOG", PROGRAMS_LOG))
    }

    fn beside_enforcement() -> Tool {
        Tool::beside(&["monitor", "-o", "json", "--all-events"])
    }

    /// One of the scenario's own, which tells of bare pins as all do. There are very many, and nobody keeps those
    /// that are not of heirs.
    pub fn of_storm() -> Self {
        let tool = Tool::new(&["monitor", "-o", "json"]);
        Self::of_heard(tool, |line| {
            !line.contains("\"event\":\"bare-pin") || line.contains("/heirs/")
        })
    }

    fn of(tool: Tool) -> Self {
        Self::of_heard(tool, |_| true)
    }

    fn of_heard(tool: Tool, is_heard: fn(&str) -> bool) -> Self {
        let mut process = tool.stdout(Stdio::piped()).spawn();
        let stdout = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let mut stderr = BufReader::new(process.stderr.take().expect("stderr is a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if is_heard(&line) && sender.send(line).is_err() {
                    break;
                }
            }
        });
        let talk = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&talk);
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|length| length > 0) {
                heard.lock().expect("nobody panics with it").push_str(&line);
                line.clear();
            }
            let _ = stderr.read_to_string(&mut line);
        });
        let seen = RefCell::default();
        let mut monitor = Self {
            process,
            lines,
            seen,
            talk,
            start: Value::Null,
        };
        monitor.start = monitor.expect_within(START_PATIENCE, "start", |_| true);
        monitor
    }

    pub fn pid(&self) -> i64 {
        i64::from(self.process.id())
    }

    /// Sends it a signal that does not end it.
    pub fn signal(&self, signal: libc::c_int) {
        interrupt(&self.process, signal);
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/fd/0", self.pid())).exists()
    }

    /// Drops what was heard, for a scenario that begins.
    pub fn forget(&self) {
        self.seen.borrow_mut().clear();
    }

    /// What it said on stderr so far.
    pub fn talk(&self) -> String {
        self.talk.lock().expect("nobody panics with it").clone()
    }

    /// Waits for an event that nobody claimed yet, and claims it.
    #[track_caller]
    pub fn expect(&self, event: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.expect_within(PATIENCE, event, matches)
    }

    #[track_caller]
    fn expect_within(
        &self,
        patience: Duration,
        event: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Value {
        let wanted = |value: &Value| value["event"] == event && matches(value);
        let deadline = Instant::now() + patience;
        let mut looked_at = 0;
        loop {
            let mut seen = self.seen.borrow_mut();
            if let Some((value, claimed)) = seen[looked_at..]
                .iter_mut()
                .find(|(value, claimed)| !claimed && wanted(value))
            {
                *claimed = true;
                return value.clone();
            }
            looked_at = seen.len();
            drop(seen);
            if let Err(reason) = self.hear(deadline) {
                panic!("no `{event}` as expected: {reason}\n{}", self.account());
            }
        }
    }

    /// Waits for such an event, and takes it and all that came before it.
    #[track_caller]
    pub fn take_through(&self, matches: impl Fn(&Value) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut looked_at = 0;
        loop {
            let mut seen = self.seen.borrow_mut();
            let found = seen[looked_at..]
                .iter()
                .position(|(value, _)| matches(value));
            if let Some(place) = found {
                let taken = seen.drain(..=looked_at + place);
                return taken.map(|(value, _)| value).collect();
            }
            looked_at = seen.len();
            drop(seen);
            if let Err(reason) = self.hear(deadline) {
                panic!("no event as expected: {reason}\n{}", self.account());
            }
        }
    }

    /// Waits for an event about this process.
    #[track_caller]
    pub fn expect_of(&self, event: &str, pid: i64) -> Value {
        self.expect(event, |value| value["pid"] == pid)
    }

    /// Asserts that no such event came about this process. Meaningful behind a `barrier`.
    #[track_caller]
    pub fn none_for(&self, pid: i64, event: &str) {
        assert_eq!(
            self.count(pid, event),
            0,
            "`{event}` about {pid}\n{}",
            self.account()
        );
    }

    /// All such events so far.
    pub fn all(&self, event: &str) -> Vec<Value> {
        let seen = self.seen.borrow();
        let all = seen.iter().map(|(value, _)| value);
        all.filter(|value| value["event"] == event)
            .cloned()
            .collect()
    }

    /// How many such events came about this process, claimed or not.
    pub fn count(&self, pid: i64, event: &str) -> usize {
        let seen = self.seen.borrow();
        seen.iter()
            .filter(|(value, _)| value["event"] == event && value["pid"] == pid)
            .count()
    }

    /// Proves that nothing is pending: a lease set and released now, and its end seen. Needs
    /// `--all-events` and no filter.
    #[track_caller]
    pub fn barrier(&self) {
        let scratch = Scratch::new();
        let sentinel = Actor::start();
        let file = scratch.file("sentinel");
        sentinel.ok(&format!("open f {file} rw,creat"));
        sentinel.all(&["setlease f w", "setlease f u"]);
        self.expect_of("lease-end", sentinel.pid());
    }

    /// Asserts that behind a barrier there is exactly one such event about this process.
    #[track_caller]
    pub fn exactly_one(&self, pid: i64, event: &str) {
        self.barrier();
        assert_eq!(
            self.count(pid, event),
            1,
            "`{event}` about {pid}\n{}",
            self.account()
        );
    }

    /// Ends it as a user would, and waits for its summary.
    #[track_caller]
    pub fn stop(self) -> Stopped {
        self.stop_by(libc::SIGINT)
    }

    #[track_caller]
    pub fn stop_by(mut self, signal: libc::c_int) -> Stopped {
        interrupt(&self.process, signal);
        self.ended()
    }

    /// Waits for an end that nobody asked for now.
    #[track_caller]
    pub fn ended(&mut self) -> Stopped {
        let summary = self.expect("end", |_| true);
        let status = wait(&mut self.process, PATIENCE);
        let status = status.unwrap_or_else(|| panic!("still there\n{}", self.account()));
        let seen = self.seen.borrow();
        let lost = seen.iter().map(|(value, _)| value);
        let lost = lost.filter(|value| value["event"] == "lost");
        Stopped {
            summary,
            lost: lost.cloned().collect(),
            status,
        }
    }

    /// SIGKILL: no summary, no clearing up.
    pub fn kill(mut self) {
        interrupt(&self.process, libc::SIGKILL);
        let _ = self.process.wait();
    }

    /// All that was heard, for a failure's message.
    pub fn account(&self) -> String {
        let mut account = String::from("--- events\n");
        for (value, _) in &*self.seen.borrow() {
            let _ = writeln!(account, "{value}");
        }
        let _ = write!(account, "--- stderr\n{}", self.talk());
        account
    }

    fn hear(&self, deadline: Instant) -> Result<(), String> {
        let patience = deadline.saturating_duration_since(Instant::now());
        match self
            .lines
            .recv_timeout(patience.max(Duration::from_millis(1)))
        {
            Ok(line) => {
                let value = serde_json::from_str(&line);
                let value: Value = value.map_err(|error| format!("{error} in {line}"))?;
                schema::check_event(&value)?;
                self.seen.borrow_mut().push((value, false));
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err("time is up".to_owned()),
            Err(RecvTimeoutError::Disconnected) => Err("the monitor closed stdout".to_owned()),
        }
    }
}

impl Drop for Monitor {
    /// After a failure it says whether something came between that docs/verification.md names: the
    /// kernel missed hooks, or a walk of the monitor's own held the last reference to a file. The
    /// scenario is then run again.
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            interrupt(&self.process, libc::SIGINT);
            if wait(&mut self.process, PATIENCE).is_none() {
                interrupt(&self.process, libc::SIGKILL);
                let _ = self.process.wait();
            }
        }
        if thread::panicking() {
            let until = Instant::now() + PATIENCE;
            while self.hear(until).is_ok() {}
            let seen = self.seen.borrow();
            let came_between = |(event, _): &(Value, bool)| {
                event["event"] == "lost" && is_hook_missed(event)
                    || event["releaser"]["pid"] == self.pid()
            };
            if seen.iter().any(came_between) {
                // Its reader is `xtask/src/test/e2e.rs`; libtest names its threads after the tests.
                let scenario = thread::current();
                println!("@@ once-more {}", scenario.name().unwrap_or_default());
            }
        }
    }
}

/// A field that must be text.
#[track_caller]
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("`{field}` is not text in {value}"))
}

/// A field that must be a number.
#[track_caller]
pub fn integer(value: &Value, field: &str) -> i64 {
    value[field]
        .as_i64()
        .unwrap_or_else(|| panic!("`{field}` is not a number in {value}"))
}
