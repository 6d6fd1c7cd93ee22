//! `lease-trace policy check`: what a policy comes to on this kernel.

use std::fs;

use crate::harness::{Leftovers, Ran, Scratch, Tool};

fn check(text: &str) -> Ran {
    let scratch = Scratch::new();
    let path = scratch.file("policy.toml");
    fs::write(&path, text).expect("writes the policy");
    Tool::run(&["policy", "check", &path])
}

/// Asserts that stdout has each of these.
#[track_caller]
fn shows(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(ran.stdout.contains(word), "stdout lacks `{word}`\n{ran}");
    }
}

fn deny(cause: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nmatch.cause = \"{cause}\"\naction = \"deny\"\n")
}

/// `doctor` has tried it; `policy check` refuses what it says cannot be had.
#[test]
fn what_can_be_denied_is_what_doctor_says() {
    let leftovers = Leftovers::before();
    let doctor = Tool::run(&["doctor", "-J"]).exits(0).json();
    let rows = doctor["enforcement"].as_array().expect("a table");
    assert_eq!(rows.len(), 12, "{doctor}");
    for row in rows {
        let way = row["way"].as_str().expect("a word");
        match row["deny"]["can"].as_str() {
            Some("yes") => shows(&check(&deny(way)).exits(0), &["can be used"]),
            Some("no") if row["deny"]["why"] == "no kernel lets this be denied" => {
                check(&deny(way)).exits(2).says(&["refused", way]);
            }
            Some("no") => {
                check(&deny(way)).exits(3).says(&["refused", way]);
            }
            Some("ends") => shows(&check(&deny(way)).exits(0), &["the process is ending"]),
            other => panic!("{other:?}: {row}"),
        }
    }
    leftovers.assert_none();
}

#[test]
fn an_unlock_can_be_denied_on_every_kernel() {
    shows(&check(&deny("unlock")).exits(0), &["denied", "unlock"]);
}

#[test]
fn the_fallback_covers_what_this_kernel_cannot() {
    let text = "[[rule]]\nname = \"r\"\naction = \"deny\"\nfallback = \"kill\"\n";
    shows(&check(text).exits(0), &["killed", "thread-exit"]);
}

#[test]
fn consumers_have_their_code_found() {
    let text = "[[rule]]\nname = \"r\"\nmatch.consumer = \"io_uring\"\naction = \"kill\"\n";
    let ran = check(text).exits(0);
    shows(&ran, &["Consumers named: io_uring; all"]);
    assert!(!ran.stdout.contains("in 0 text ranges"), "{ran}");
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let ran = check("mode = \"enforce\"\n[[rule]]\nname = \"r\"\nactoin = \"kill\"\n").exits(2);
    assert!(ran.stderr.contains("policy.toml:4:1: unknown key"), "{ran}");
    assert_eq!(ran.stdout, "", "{ran}");
}

#[test]
fn without_privileges_the_rest_is_checked() {
    let scratch = Scratch::new();
    let path = scratch.file("policy.toml");
    let check = |cause: &str| {
        fs::write(&path, deny(cause)).expect("writes the policy");
        Tool::new(&["policy", "check", &path]).user(65534).finish()
    };
    shows(&check("close").exits(0), &["unknown", "CAP_BPF"]);
    check("exec").exits(2);
}
