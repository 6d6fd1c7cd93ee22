//! Enforcement in place, handed on from scenario to scenario.
//!
//! To attach takes seconds in a guest, to replace a policy does not. So a scenario puts its own
//! policy in force in the place of the last one's. Whoever wants the machine without any retires
//! it, as it does the shared monitor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use serde_json::{Map, Value};

use super::monitor::PROGRAMS_LOG;
use super::{Monitor, Ran, Scratch, Tool, shared};

/// Links are pinned and no scenario has them now.
static IDLE: AtomicBool = AtomicBool::new(false);

/// A policy in force for one scenario.
pub struct Enforcement {
    directory: Scratch,
    /// Its status when the scenario began: a rule of an earlier one's may have had the same name.
    before: Value,
}

impl Enforcement {
    /// With this policy, in the place of whatever is in force.
    pub fn start(policy: &str) -> Self {
        Self::started(policy, Tool::new)
    }

    /// One of the scenario's own, with programs that log, and these arguments after `enforce start`.
    pub fn that_logs(policy: &str, more: &[&str]) -> Self {
        shared::retire();
        retire();
        Self::started(policy, |arguments| {
            Tool::new(&[arguments, more].concat()).env("LEASE_TRACE_LOG", PROGRAMS_LOG)
        })
    }

    fn started(policy: &str, tool: impl Fn(&[&str]) -> Tool) -> Self {
        if !IDLE.load(Ordering::Relaxed) {
            shared::retire();
        }
        let mut enforcement = Self {
            directory: Scratch::new(),
            before: Value::Null,
        };
        enforcement.put_in_force(policy, tool);
        enforcement.before = enforcement.status();
        shared::at_exit();
        IDLE.store(false, Ordering::Relaxed);
        enforcement
    }

    /// Puts another policy in force.
    #[track_caller]
    pub fn replace(&self, policy: &str) -> Ran {
        self.put_in_force(policy, Tool::new)
    }

    #[track_caller]
    fn put_in_force(&self, policy: &str, tool: impl Fn(&[&str]) -> Tool) -> Ran {
        let path = self.directory.file("policy.toml");
        fs::write(&path, policy).expect("writes the policy");
        let arguments = ["enforce", "start", "--policy", &path];
        tool(&arguments).finish().exits(0)
    }

    /// A monitor that takes over, sees everything, and holds what is to be held.
    #[allow(
        clippy::unused_self,
        reason = "only who has put enforcement in place may"
    )]
    pub fn monitor(&self) -> Monitor {
        Monitor::of_enforcement()
    }

    /// `enforce status -J`
    #[track_caller]
    #[allow(
        clippy::unused_self,
        reason = "only who has put enforcement in place may"
    )]
    pub fn status(&self) -> Value {
        Tool::run(&["enforce", "status", "-J"]).exits(0).json()
    }

    /// What a rule came to in this scenario, whatever policies were in force.
    #[track_caller]
    pub fn hits(&self, rule: &str) -> Value {
        let status = self.status();
        let now = hits_of(&status, rule).unwrap_or_else(|| panic!("no rule {rule}: {status}"));
        let before = hits_of(&self.before, rule).cloned().unwrap_or_default();
        let count = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
        let grown = now
            .iter()
            .map(|(what, hits)| (what.clone(), count(Some(hits)) - count(before.get(what))));
        grown
            .filter(|(_, hits)| *hits > 0)
            .map(|(what, hits)| (what, hits.into()))
            .collect::<Map<String, Value>>()
            .into()
    }

    /// The release paths that can be denied now.
    pub fn deniable(&self) -> Vec<String> {
        let status = self.status();
        let ways = status["deniable"].as_array().expect("a list");
        let names = ways.iter().map(|way| way.as_str().expect("a word"));
        names.map(str::to_owned).collect()
    }
}

fn hits_of<'a>(status: &'a Value, rule: &str) -> Option<&'a Map<String, Value>> {
    let mut rules = status["rules"].as_array()?.iter();
    rules.find(|found| found["name"] == rule)?["hits"].as_object()
}

impl Drop for Enforcement {
    fn drop(&mut self) {
        // After a failure nobody knows what state it is in.
        IDLE.store(true, Ordering::Relaxed);
        if thread::panicking() {
            retire();
        }
    }
}

/// Removes the one that no scenario has now.
pub fn retire() {
    if IDLE.swap(false, Ordering::Relaxed) {
        let ran = Tool::run(&["enforce", "stop"]);
        if ran.code != Some(0) {
            eprintln!("{ran}");
        }
    }
}

/// What the kernels of the test runs let be denied, as docs/kernels.md has it.
///
/// Known by release and not asked: a hook that is lost without a word would be missing from any
/// answer, too.
pub fn deniable_here() -> Vec<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let version = (
        numbers.next().and_then(Result::ok),
        numbers.next().and_then(Result::ok),
    );
    let ways: &[&str] = match version {
        (Some(6), Some(1 | 12)) => &["unlock"],
        _ => &["unlock", "close", "dup2", "close_range", "munmap"],
    };
    ways.iter().map(|way| (*way).to_owned()).collect()
}
