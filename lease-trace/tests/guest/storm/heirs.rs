//! Heirs: what is told of children whose pins their parents' leases cover, and what rules come to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::found::Figures;
use crate::harness::{Enforcement, Monitor, Scratch, integer, text};

/// The directory of their files, which must be there when a policy names it.
pub fn directory(scratch: &Scratch) -> PathBuf {
    let directory = scratch.directory().join("heirs");
    if !directory.exists() {
        fs::create_dir(&directory).expect("a directory");
    }
    directory
}

/// What is never told of them: until their leases end they are covered, and then they take no first pin.
const NEVER: [&str; 4] = ["bare-pin", "bare-pin-end", "orphaned-pin", "orphan-end"];

/// Rules for their files, which come before those for all of the storm: one that denies an unlock, and finds each that
/// came too early, but refuses none, as the parent has no pins; and `action` for bare pins, of which there are none.
pub fn rules(scratch: &Scratch, action: &str) -> String {
    let directory = directory(scratch);
    let directory = directory.display();
    format!(
        "[[rule]]\nname = \"heirs\"\nmatch.path = \"{directory}\"\n\
         match.cause = \"unlock\"\naction = \"deny\"\n\
         [[rule]]\nname = \"bare-heirs\"\non = [\"bare-pin\"]\n\
         match.path = \"{directory}\"\naction = \"{action}\"\n"
    )
}

/// What the rules came to that was not to be: of each wrong release that its releaser is a bystander, and nothing else.
pub fn wrong_hits(enforcement: &Enforcement, done: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    let bare = enforcement.hits("bare-heirs");
    if bare != serde_json::json!({}) {
        wrong.push(format!(
            "pins of heirs were judged as bare, and leases cover them: {bare}"
        ));
    }
    let judged = enforcement.hits("heirs");
    let of_wrong = judged["bystander"].as_i64().unwrap_or_default();
    if of_wrong != done.heirs_wrong || judged.as_object().is_some_and(|hits| hits.len() > 1) {
        wrong.push(format!(
            "{} leases ended while their heirs had pins, and the rule came to {judged}",
            done.heirs_wrong
        ));
    }
    wrong
}

/// What was told of heirs that was not to be, or was not told; no more of each than hooks were missed.
pub fn wrong_events(
    monitor: &Monitor,
    scratch: &Scratch,
    done: &Figures,
    missed: i64,
) -> Vec<String> {
    let directory = directory(scratch);
    let told = |event: &str, kind: &str| -> Vec<Value> {
        let begin = format!("{}/{kind}", directory.display());
        let mut all = monitor.all(event);
        all.retain(|event| {
            event["path"]
                .as_str()
                .is_some_and(|path| path.starts_with(&begin))
        });
        all
    };
    let mut wrong = Vec::new();
    let mut too_many = |what: &str, events: &[Value]| {
        let times = events.len();
        if times as i64 > missed {
            wrong.push(format!("{times} times {what}, the first: {}", events[0]));
        }
    };
    for event in NEVER {
        too_many(
            &format!("`{event}` was told of an heir, and a lease covers it"),
            &told(event, ""),
        );
    }
    too_many(
        "`zombie` was told of an heir that had dropped its pins",
        &told("zombie", "right-"),
    );
    let zombies = told("zombie", "wrong-");
    let mut releasers: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for zombie in &zombies {
        let of_file = releasers.entry(text(zombie, "path")).or_default();
        of_file.insert(integer(&zombie["releaser"], "pid"));
    }
    let mistold = zombies.iter().filter(|zombie| {
        let releasers = &releasers[text(zombie, "path")];
        releasers.len() != 1
            || releasers.contains(&integer(zombie, "pid"))
            || zombie["cause"] != "unlock"
            || integer(zombie, "pins") < 1
    });
    let mistold: Vec<Value> = mistold.cloned().collect();
    too_many(
        "a zombie was told otherwise than that its parent unlocked",
        &mistold,
    );
    let at_rest = told("at-rest", "wrong-");
    for (what, number) in [("zombie", zombies.len()), ("at-rest", at_rest.len())] {
        if (number as i64 - done.heirs_wrong).abs() > missed {
            wrong.push(format!(
                "{} heirs had pins when their leases ended, and {number} times `{what}` was told",
                done.heirs_wrong
            ));
        }
    }
    wrong
}
