//! Threads come and go: a lease and its pins are the process's.

use crate::harness::{
    Actor, Monitor, Pinned, Scratch, expect_rest, expect_zombie, leases_on, open_lease_and_pin,
};

/// The end of a thread is the end of nothing, not even that of the thread the process began with.
#[test]
fn the_end_of_one_is_no_end_of_a_lease() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "thread pid", "end-first-thread", "pid"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-end");
    assert_eq!(leases_on(&file).len(), 1);
    actor.ok("close f");
    expect_zombie(&monitor, actor.pid(), &file, "close");
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// A thread with descriptors of its own may have the last one; its end is not that of its process, which lives on
/// with its pins.
#[test]
fn one_with_a_table_of_its_own_may_let_go() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "begin-own-table t", "close f"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-end");
    assert_eq!(leases_on(&file).len(), 1);
    actor.ok("finish t");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "thread-exit");
    assert_ne!(zombie["ends_by_itself"], true, "{zombie}");
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}
