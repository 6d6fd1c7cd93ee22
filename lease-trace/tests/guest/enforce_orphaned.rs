//! Rules in force, and an owner of pins who drops his own last reference to a lease that others keep: he is in breach
//! then, though the lease goes on.

use std::fs;

use serde_json::json;

use crate::harness::{
    Actor, Enforcement, Fate, Monitor, PAGES, Scratch, Subject, assert_about, leases_on,
    open_lease_and_pin, text,
};

const USER: u32 = 1000;

fn policy(scratch: &Scratch, mode: &str, rule: &str) -> String {
    let directory = scratch.directory().display();
    format!("mode = \"{mode}\"\n[[rule]]\nname = \"r\"\nmatch.path = \"{directory}\"\n{rule}\n")
}

/// A user's process with a lease and pins, and a child of it that has nothing but the leased file.
fn parent_and_child(scratch: &Scratch, name: &str) -> (Actor, Subject, i64) {
    let parent = Actor::start();
    let path = scratch.file(name);
    fs::File::create(&path).expect("a file");
    std::os::unix::fs::chown(&path, Some(USER), None).expect("its owner");
    parent.ok(&format!("setuid {USER}"));
    let file = open_lease_and_pin(&parent, &path);
    let child = parent.fork("child");
    parent.all(&["child: munmap m", "child: close ring", "munmap m"]);
    (parent, file, child)
}

/// Nothing was done to this process, which is the actor's or a child's, and it was told of.
fn is_told_only(monitor: &Monitor, actor: &Actor, pid: i64) {
    monitor.expect_of("orphaned-pin", pid);
    // Longer than it takes to find out more.
    actor.ok("sleep 3000");
    monitor.barrier();
    for event in ["killed", "would-kill", "failed", "spared"] {
        monitor.none_for(pid, event);
    }
}

/// He is killed, or would be; the child that keeps the lease is not.
#[test]
fn the_owner_is_in_breach_when_his_last_reference_goes() {
    let scratch = Scratch::new();
    for (mode, rule, event) in [
        ("audit", "action = \"kill\"", "would-kill"),
        ("enforce", "action = \"report\"", "reported"),
        (
            "enforce",
            "action = \"deny\"\nfallback = \"kill\"",
            "killed",
        ),
        (
            "enforce",
            "match.cause = \"orphaned\"\naction = \"stop\"",
            "stopped",
        ),
    ] {
        let enforcement = Enforcement::start(&policy(&scratch, mode, rule));
        let monitor = enforcement.monitor();
        let (mut parent, file, child) = parent_and_child(&scratch, event);
        parent.ok("close f");
        let told = monitor.expect_of(event, parent.pid());
        assert_about(&told, parent.pid(), &file);
        assert_eq!(text(&told, "cause"), "orphaned", "{told}");
        assert_eq!(told["releaser"]["pid"], parent.pid(), "{told}");
        assert_eq!(told["pins"], PAGES, "{told}");
        assert_eq!(text(&told, "rule"), "r", "{told}");
        if event != "killed" {
            // The child's, which ends with its parent.
            assert_eq!(leases_on(&file).len(), 1, "{told}");
        }
        monitor.none_for(child, event);
        match event {
            "killed" => {
                assert_eq!(parent.ends(), Fate::Killed(libc::SIGKILL), "{told}");
            }
            "stopped" => {
                assert_eq!(parent.fate("pid"), Fate::Stopped, "{told}");
                assert_eq!(
                    enforcement.hits("r"),
                    json!({"stopped-by-monitor": 1}),
                    "{told}"
                );
            }
            _ => assert_eq!(parent.ok("pid"), parent.pid().to_string(), "{told}"),
        }
    }
}

/// Where a reference is not found (a ring's registered file, a message under way), it may be his own.
#[test]
fn nobody_is_judged_by_what_a_walk_does_not_find() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&policy(&scratch, "enforce", "action = \"kill\""));
    for (name, keep) in [
        ("ring", ["uring files", "register-files files f"].as_slice()),
        ("message", &["send-fd f child"]),
    ] {
        // A new one: the time that one walk takes keeps the next one waiting.
        let monitor = enforcement.monitor();
        let (parent, _, _) = parent_and_child(&scratch, name);
        parent.all(keep);
        parent.ok("close f");
        is_told_only(&monitor, &parent, parent.pid());
        // When the parent ends its child is the one who lets go.
        let hits = enforcement.hits("r");
        assert!(hits.get("killed-by-monitor").is_none(), "{hits}");
    }
}

/// A rule that names other causes is about these.
#[test]
fn a_rule_about_calls_is_not_about_it() {
    let scratch = Scratch::new();
    let rule = "match.cause = [\"unlock\", \"close\"]\naction = \"kill\"";
    let enforcement = Enforcement::start(&policy(&scratch, "enforce", rule));
    let monitor = enforcement.monitor();
    let (parent, _, _) = parent_and_child(&scratch, "f");
    parent.ok("close f");
    is_told_only(&monitor, &parent, parent.pid());
}

/// Who had no lease of his own, but only what was sent or left to him, may drop that: his pins were never his lease's.
#[test]
fn what_others_have_leased_may_be_dropped() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&policy(&scratch, "enforce", "action = \"kill\""));
    let monitor = enforcement.monitor();
    let parent = Actor::start();
    open_lease_and_pin(&parent, &scratch.file("f"));
    let child = parent.fork("child");
    parent.all(&[
        "child: uring own",
        "child: register-buffers own m",
        "child: munmap m",
        "child: close ring",
        "child: close f",
    ]);
    is_told_only(&monitor, &parent, child);
    parent.all(&[
        "child: unregister-buffers own",
        "unregister-buffers ring",
        "setlease f u",
    ]);
    assert_eq!(enforcement.hits("r"), json!({}));
}
