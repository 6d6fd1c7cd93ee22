//! Leases as such: set, changed, ended, and older than the tool.

use std::fs::File;

use serde_json::json;

use crate::harness::{
    Actor, Monitor, PAGES, Scratch, Subject, Tool, assert_about, assert_released_by, cannot,
    expect_zombie, leases_on, pin_without_lease,
};

#[test]
fn set_and_end_are_told_with_all_events() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.ok("setlease f w");
    let file = Subject::at(&scratch.file("f"));
    let set = monitor.expect_of("lease-set", actor.pid());
    assert_about(&set, actor.pid(), &file);
    assert_eq!(set["lease"]["kind"], "lease", "{set}");
    assert_eq!(set["lease"]["mode"], "write", "{set}");
    for (end, cause) in [("setlease f u", "unlock"), ("close f", "close")] {
        actor.ok(end);
        let end = monitor.expect_of("lease-end", actor.pid());
        assert_about(&end, actor.pid(), &file);
        assert_released_by(&end, actor.pid());
        assert_eq!(end["cause"], cause, "{end}");
        if cause == "unlock" {
            actor.ok("setlease f w");
        }
    }
}

/// A directory has no pages that could be pinned: what is delegated of it is in no books.
#[test]
fn a_delegation_of_a_directory_is_not_told() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok(&format!("open d {} ro", scratch.directory().display()));
    if let Err(refusal) = actor.attempt("setdeleg d r") {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        return cannot("delegations of directories (F_SETDELEG)", refusal.errno);
    }
    let books = Tool::run(&["doctor", "--check", "-J"]).exits(0).json();
    assert_eq!((&books["leases"], &books["inodes"]), (&json!(0), &json!(0)));
    actor.all(&["setdeleg d u", "close d"]);
    monitor.barrier();
    for event in ["lease-set", "lease-end"] {
        monitor.none_for(actor.pid(), event);
    }
}

/// A refused F_SETLEASE sets nothing, and the tracepoint that fires for the attempt is no lease.
#[test]
fn a_refused_lease_is_not_told() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.err("setlease f r", libc::EAGAIN);
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-set");
    monitor.none_for(actor.pid(), "lease-end");
}

/// From write to read on the same descriptor: the lease goes on, and so does its cover.
#[test]
fn a_downgrade_is_not_an_end() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = pin_without_lease(&actor, &scratch.file("f"));
    actor.ok(&format!("open f {} ro", file.path));
    actor.all(&["setlease f w", "setlease f r"]);
    assert_eq!(actor.ok("getlease f"), "r");
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-end");
    monitor.none_for(actor.pid(), "zombie");

    actor.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), &file);
    assert_eq!(zombie["lease"]["mode"], "read", "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    monitor.exactly_one(actor.pid(), "zombie");
}

#[test]
fn one_that_is_older_than_the_tool_is_known() {
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&["write-all f 1M", "setlease f w", "mmap m f 1M shared rw"]);
    let file = Subject::at(&scratch.file("f"));
    let monitor = Monitor::alone();
    let report = Tool::run(&["report", "leases", "-J"]).exits(0);
    let rows = report.rows("leases", actor.pid());
    assert_eq!(rows.len(), 1, "{report}");
    assert_about(&rows[0], actor.pid(), &file);

    actor.all(&["register-buffers ring m", "setlease f u"]);
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), &file);
    assert_eq!(zombie["cause"], "unlock", "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    monitor.exactly_one(actor.pid(), "zombie");
}

/// One that a mapping alone keeps alive has no descriptor by which a walk could find it.
#[test]
fn one_that_is_older_and_held_by_a_mapping_is_known() {
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "close f",
    ]);
    let file = Subject::at(&scratch.file("f"));
    assert_eq!(leases_on(&file).len(), 1);
    let monitor = Monitor::alone();
    actor.all(&["register-buffers ring m", "munmap m"]);
    expect_zombie_of_old_lease(&monitor, &actor, &file);
}

#[track_caller]
fn expect_zombie_of_old_lease(monitor: &Monitor, actor: &Actor, file: &Subject) {
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), file);
    assert_eq!(zombie["cause"], "munmap", "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
}

/// Leases of several processes on one file are several leases.
#[test]
fn one_of_another_process_does_not_cover() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let (pinner, other) = (Actor::start(), Actor::start());
    let file = pin_without_lease(&pinner, &scratch.file("f"));
    for actor in [&pinner, &other] {
        actor.ok(&format!("open f {} ro", file.path));
        actor.ok("setlease f r");
    }
    assert_eq!(leases_on(&file).len(), 2);
    pinner.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", pinner.pid());
    assert_about(&zombie, pinner.pid(), &file);
    other.ok("setlease f u");
    monitor.exactly_one(pinner.pid(), "zombie");
    monitor.none_for(other.pid(), "zombie");
}

/// Two files, two stakes: the end of one lease says nothing about the other file's pins.
#[test]
fn one_covers_its_own_file_only() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let files = ["f", "g"].map(|slot| {
        let path = scratch.file(slot);
        File::create(&path)
            .and_then(|file| file.set_len(1 << 20))
            .expect("a file");
        actor.ok(&format!("uring ring-{slot}"));
        actor.ok(&format!("open {slot} {path} rw"));
        actor.ok(&format!("setlease {slot} w"));
        actor.ok(&format!("mmap m-{slot} {slot} 1M shared rw"));
        actor.ok(&format!("register-buffers ring-{slot} m-{slot}"));
        Subject::at(&path)
    });
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &files[0], "unlock");
    monitor.exactly_one(actor.pid(), "zombie");
    actor.ok("setlease g u");
    expect_zombie(&monitor, actor.pid(), &files[1], "unlock");
}
