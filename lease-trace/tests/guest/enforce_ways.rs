//! Each action at each release path, on real leases and pins: what the process sees, what becomes of
//! the lease, and what is told and counted.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use crate::harness::{Enforcement, Holder, Outcome, Scratch, Trial, deniable_here, release_paths};

/// The rules: name and action, `fallback`.
pub const RULES: [(&str, &str); 5] = [
    ("report", "report"),
    ("deny", "kill"),
    ("hold", "report"),
    ("stop", "report"),
    ("kill", "report"),
];

/// Each action for the files of one directory that has its name.
pub fn policy(mode: &str, directory_of: impl Fn(&str) -> String) -> String {
    let rules = RULES.iter().map(|(action, fallback)| {
        let directory = directory_of(action);
        let fallback = match *action {
            "deny" | "hold" => format!("fallback = \"{fallback}\"\n"),
            _ => String::new(),
        };
        format!(
            "[[rule]]\nname = \"{action}\"\naction = \"{action}\"\nmatch.path = \"{directory}\"\n\
             match.cause = {ALL}\n{fallback}"
        )
    });
    let rules: Vec<String> = rules.collect();
    format!("mode = \"{mode}\"\n{}", rules.concat())
}

/// A break that is not answered is a breach only under a rule that says so.
const ALL: &str = "[\"unlock\", \"close\", \"dup2\", \"close_range\", \"munmap\", \"exec\", \"exit\", \
                   \"killed\", \"io_uring\", \"break-timeout\", \"other\", \"thread-exit\"]";

/// All release paths under one action.
pub fn every_way(
    mode: &str,
    action: &'static str,
    holder: Holder,
    directory_of: &dyn Fn(&str) -> String,
) {
    for (rule, _) in RULES {
        fs::create_dir(directory_of(rule)).expect("a directory for each rule");
    }
    let fallback = RULES
        .iter()
        .find(|(rule, _)| *rule == action)
        .expect("a rule")
        .1;
    let enforcement = Enforcement::start(&policy(mode, directory_of));
    let deniable = enforcement.deniable();
    assert_eq!(
        deniable,
        deniable_here(),
        "a hook is missing, or a new one is there"
    );
    let monitor = enforcement.monitor();
    let enforces = mode == "enforce";
    let mut trial = Trial {
        monitor: &monitor,
        rule: action,
        holder,
        holds: enforces && action == "hold",
        hits: BTreeMap::new(),
    };
    for (number, way) in release_paths().iter().enumerate() {
        let expected = Outcome::of(action, fallback, way, &deniable);
        let expected = if enforces { expected } else { expected.would() };
        trial.run(way, &format!("{}/{number}", directory_of(action)), expected);
    }
    let hits = enforcement.hits(action);
    if hits != json!(trial.hits) {
        eprintln!("{}", monitor.account());
    }
    assert_eq!(hits, json!(trial.hits));
    let stopped = monitor.stop();
    stopped.assert_nothing_lost();
}

fn with_rings(mode: &str, action: &'static str) {
    let scratch = Scratch::new();
    every_way(mode, action, Holder::Ring, &|rule| scratch.file(rule));
}

#[test]
fn report() {
    with_rings("enforce", "report");
}

#[test]
fn deny_fallback_kill() {
    with_rings("enforce", "deny");
}

#[test]
fn hold_fallback_report() {
    with_rings("enforce", "hold");
}

#[test]
fn stop() {
    with_rings("enforce", "stop");
}

#[test]
fn kill() {
    with_rings("enforce", "kill");
}

#[test]
fn audit_mode_only_reports() {
    for action in ["deny", "hold", "stop", "kill"] {
        with_rings("audit", action);
    }
}
