//! The last reference to a lease is in a message that nobody receives.

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, assert_released_by, expect_rest, expect_zombie,
    expect_zombie_with, leases_on, open_lease_and_pin, text,
};

/// The receiver ends with the message in flight: it is the one who let go, and the sender, who
/// still has the pins, is the zombie.
#[test]
fn its_receiver_is_killed() {
    for (end, cause) in [
        ("child: kill-self KILL", "killed"),
        ("child: exit 0", "exit"),
    ] {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::start();
        let parent = Actor::start();
        let file = open_lease_and_pin(&parent, &scratch.file("f"));
        let child = parent.fork("child");
        parent.all(&["child: close f", "child: munmap m", "child: close ring"]);
        parent.all(&["munmap m", "send-fd f child", "close f"]);
        monitor.barrier();
        monitor.none_for(parent.pid(), "lease-end");
        assert_eq!(leases_on(&file).len(), 1, "the message holds the lease");
        parent.ok(end);
        let zombie = expect_zombie_with(&monitor, parent.pid(), &file, cause, PAGES, "io_uring");
        assert_released_by(&zombie, child);
        assert_ne!(zombie["ends_by_itself"], true, "{zombie}");
        parent.ok("close ring");
        expect_rest(&monitor, parent.pid(), &file);
        pinned.assert_balanced();
    }
}

/// The socket that it waits in is closed.
#[test]
fn its_socket_is_closed() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&[
        "socketpair a b",
        "send-fd f a",
        "munmap m",
        "close f",
        "close a",
    ]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-end");
    actor.ok("close b");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "close");
    assert_released_by(&zombie, actor.pid());
}

/// A socket that is in flight in its own queue is garbage, with all that waits there. Whoever
/// collects it lets go of the lease: from 6.9 on a kworker, before it the next who closes a socket.
#[test]
fn its_socket_is_collected_as_garbage() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&[
        "socketpair a b",
        "send-fd f a",
        "send-fd b a",
        "munmap m",
        "close f",
    ]);
    actor.ok("close b");
    monitor.barrier();
    monitor.none_for(actor.pid(), "lease-end");
    assert_eq!(leases_on(&file).len(), 1, "the queue holds the lease");
    actor.ok("close a");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    if zombie["releaser"]["pid"] == actor.pid() {
        assert_eq!(zombie["cause"], "close", "{zombie}");
    } else {
        assert_eq!(zombie["cause"], "other", "{zombie}");
        assert!(
            text(&zombie["releaser"], "comm").starts_with("kworker/"),
            "{zombie}"
        );
    }
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}
