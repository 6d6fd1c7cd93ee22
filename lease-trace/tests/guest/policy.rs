//! `lease-trace policy check`: what a policy comes to on this kernel.

use std::fs;

use crate::harness::{Actor, Leftovers, Monitor, Ran, Scratch, Tool, open_lease_and_pin};

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
    assert_eq!(rows.len(), 13, "{doctor}");
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

/// What a monitor has told, held against a policy: the rule that would have matched, and a file that is none.
#[test]
fn recorded_breaches_are_held_against_rules() {
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", actor.pid());
    actor.ok("unregister-buffers ring");
    let rest = monitor.expect_of("at-rest", actor.pid());
    let events = scratch.file("events");
    fs::write(&events, format!("{zombie}\n{rest}\n{{\"event\"")).expect("writes the events");
    let policy = scratch.file("policy.toml");
    let rule = |name: &str, condition: &str| {
        format!("[[rule]]\nname = \"{name}\"\n{condition}\naction = \"kill\"\n")
    };
    let rules = [
        rule("other", "match.consumer = \"xdp\""),
        rule(
            "rings",
            &format!(
                "match = {{ path = \"{}\", consumer = \"io_uring\" }}",
                file.path
            ),
        ),
        rule("trial", "mode = \"audit\"\nmatch.cause = \"unlock\""),
    ];
    fs::write(&policy, format!("mode = \"enforce\"\n{}", rules.concat()))
        .expect("writes the policy");
    let ran = Tool::run(&["policy", "test", &policy, &events, "-J"]).exits(0);
    let tried = ran.says(&["1 line passed over", "EOF"]).json();
    assert_eq!(
        tried["breaches"].as_array().map(Vec::len),
        Some(1),
        "{tried}"
    );
    assert_eq!(
        tried["breaches"][0]["rules"],
        serde_json::json!([
            { "name": "rings", "mode": "enforce", "effect": "killed" },
            { "name": "trial", "mode": "monitor", "effect": "killed" },
        ])
    );
    fs::write(&events, "no event\n").expect("writes the events");
    let ran = Tool::run(&["policy", "test", &policy, &events]).exits(2);
    ran.says(&["no event of a monitor"]);
}
