//! Rings that end: what a kworker takes down is its owner's all the same.

use serde_json::Value;

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, eventually, expect_rest, expect_zombie_with, leases_on,
    open_lease_and_pin, text,
};

/// A ring keeps a file open; its end lets go of the lease. The pins are in another ring.
#[test]
fn a_kworker_drops_the_last_reference() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&[
        "uring files",
        "register-files files f",
        "munmap m",
        "close f",
    ]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-end");
    assert_eq!(leases_on(&file).len(), 1, "the ring holds the lease");
    actor.ok("close files");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert_eq!(zombie["cause"], "other", "{zombie}");
    assert!(
        text(&zombie["releaser"], "comm").starts_with("kworker/"),
        "{zombie}"
    );
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// Two processes with pins in the same pages. A kworker takes down each one's ring, in either
/// order, and the pins that go are those of the ring's maker.
#[test]
fn of_two_owners_each_gets_its_own_back() {
    for parent_first in [true, false] {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::start();
        let parent = Actor::start();
        let file = open_lease_and_pin(&parent, &scratch.file("f"));
        let child = parent.fork("child");
        parent.all(&[
            "child: close ring",
            "child: uring own",
            "child: register-buffers own m",
        ]);
        parent.ok("setlease f u");
        for pid in [parent.pid(), child] {
            expect_zombie_with(&monitor, pid, &file, "unlock", PAGES, "io_uring");
        }
        let mut order = [(parent.pid(), "close ring"), (child, "child: close own")];
        if !parent_first {
            order.reverse();
        }
        let [first, last] = order;
        parent.ok(first.1);
        expect_rest(&monitor, first.0, &file);
        monitor.barrier();
        monitor.none_for(last.0, "at-rest");
        parent.ok(last.1);
        expect_rest(&monitor, last.0, &file);
        pinned.assert_balanced();
    }
}

/// A kworker takes down a ring, and there is no room to keep in whose name: afterwards it acts for nobody.
#[test]
fn a_teardown_that_finds_no_room_leaves_nothing() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::alone();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    let filler = Actor::start();
    let added = filler.ok("bpf-fill /sys/fs/bpf/lease-trace/CALLS");
    assert_ne!(added, "0");
    actor.ok("close ring");
    assert!(eventually(|| pinned.since() == 0));
    assert!(
        eventually(|| filler.ok("bpf-threads").is_empty()),
        "{}",
        filler.ok("bpf-threads")
    );
    let lost = monitor.stop().lost;
    let missed = |lost: &Value| text(lost, "what").contains("no room in the CALLS map");
    assert!(lost.iter().any(missed), "{lost:?}");
}

/// A child that is forked after the pinning has none of the pins; one forked before has only those
/// that it takes itself. Both end before the owner, whose pins stay.
#[test]
fn a_fork_takes_no_pins_along() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let before = parent.fork("before");
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let after = parent.fork("after");
    parent.ok("setlease f u");
    expect_zombie_with(&monitor, parent.pid(), &file, "unlock", PAGES, "io_uring");
    assert_eq!(parent.ok("after: exit 0"), "exited 0");
    assert_eq!(parent.ok("before: kill-self KILL"), "killed SIGKILL");
    monitor.barrier();
    for pid in [before, after] {
        monitor.none_for(pid, "zombie");
        monitor.none_for(pid, "bare-pin");
    }
    monitor.none_for(parent.pid(), "at-rest");
    assert_eq!(pinned.since(), PAGES);
    parent.ok("close ring");
    expect_rest(&monitor, parent.pid(), &file);
    pinned.assert_balanced();
}
