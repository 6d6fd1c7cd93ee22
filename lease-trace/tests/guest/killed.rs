//! Processes that end with lease and pins in their hands. The kernel clears both away, in that
//! order, so these zombies end by themselves.

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, Subject, Tool, assert_about, expect_rest,
    expect_zombie, open_lease_and_pin,
};

#[track_caller]
fn end_with_everything(command: &str, cause: &str) {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let mut actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.end(command);
    let zombie = expect_zombie(&monitor, actor.pid(), &file, cause);
    assert_eq!(zombie["comm"], "client", "{zombie}");
    assert_eq!(zombie["ends_by_itself"], true, "{zombie}");
    let rest = expect_rest(&monitor, actor.pid(), &file);
    assert_eq!(rest["comm"], "client", "{rest}");
    pinned.assert_balanced();
    monitor.exactly_one(actor.pid(), "zombie");
    monitor.exactly_one(actor.pid(), "at-rest");
    let report = Tool::run(&["report", "-J"]);
    assert!(report.rows("zombies", actor.pid()).is_empty(), "{report}");
}

#[test]
fn by_sigkill() {
    end_with_everything("kill-self KILL", "killed");
}

#[test]
fn by_a_signal_it_did_not_handle() {
    end_with_everything("kill-self TERM", "killed");
}

/// A worker thread of io_uring may be the last of the process to end, with an exit code of its own.
#[test]
fn by_sigkill_with_a_rings_worker_about() {
    for _ in 0..3 {
        let scratch = Scratch::new();
        let monitor = Monitor::start();
        let mut actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file("f"));
        actor.all(&["memfd other 4K", "uring-close other worker"]);
        actor.end("kill-self KILL");
        expect_zombie(&monitor, actor.pid(), &file, "killed");
    }
}

#[test]
fn by_its_own_exit() {
    end_with_everything("exit 3", "exit");
}

/// The owner is gone and so is its lease, but its pins live on in a ring that another process has.
#[test]
fn pins_may_outlive_their_owner() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let parent = Actor::start();
    parent.ok("uring ring");
    let owner = parent.fork("owner");
    parent.ok(&format!("owner: open f {} rw,creat", scratch.file("f")));
    parent.all(&[
        "owner: write-all f 1M",
        "owner: setlease f w",
        "owner: mmap m f 1M shared rw",
        "owner: register-buffers ring m",
    ]);
    let file = Subject::at(&scratch.file("f"));
    assert_eq!(parent.ok("owner: kill-self KILL"), "killed SIGKILL");
    let zombie = monitor.expect_of("zombie", owner);
    assert_about(&zombie, owner, &file);
    assert_eq!(zombie["cause"], "killed", "{zombie}");
    assert_eq!(pinned.since(), PAGES);
    let report = Tool::run(&["report", "-J"]).exits(1);
    let rows = report.rows("zombies", owner);
    assert_eq!(rows.len(), 1, "{report}");
    assert_about(&rows[0], owner, &file);
    assert_eq!(rows[0]["comm"], "client", "{report}");

    parent.ok("close ring");
    expect_rest(&monitor, owner, &file);
    let report = Tool::run(&["report", "-J"]);
    assert!(report.rows("zombies", owner).is_empty(), "{report}");
    pinned.assert_balanced();
}
