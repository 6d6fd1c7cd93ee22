//! Several processes and one open file description: who is the zombie, and who let go.

use crate::harness::{
    Actor, Monitor, PAGES, Scratch, assert_about, assert_released_by, expect_rest, expect_zombie,
    leases_on, open_lease_and_pin,
};

#[test]
fn a_childs_unlock_makes_the_parent_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let child = parent.fork("child");
    parent.all(&["child: comm releaser", "child: setlease f u"]);
    let zombie = expect_zombie(&monitor, parent.pid(), &file, "unlock");
    assert_eq!(zombie["releaser"]["pid"], child, "{zombie}");
    assert_eq!(zombie["releaser"]["comm"], "releaser", "{zombie}");
    monitor.exactly_one(parent.pid(), "zombie");
    monitor.none_for(child, "zombie");
}

#[test]
fn two_that_pin_under_one_lease_both_become_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let child = parent.fork("child");
    parent.all(&["child: uring own", "child: register-buffers own m"]);
    monitor.barrier();
    monitor.none_for(child, "bare-pin");
    parent.ok("setlease f u");
    for pid in [parent.pid(), child] {
        let zombie = expect_zombie(&monitor, pid, &file, "unlock");
        assert_released_by(&zombie, parent.pid());
        monitor.exactly_one(pid, "zombie");
    }
    parent.ok("child: unregister-buffers own");
    expect_rest(&monitor, child, &file);
    monitor.none_for(parent.pid(), "at-rest");
    parent.ok("unregister-buffers ring");
    expect_rest(&monitor, parent.pid(), &file);
}

/// The child inherits the reference, so the parent's close is not the lease's end.
#[test]
fn a_child_that_holds_the_lease_ends_it() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    parent.ok("munmap m");
    let child = parent.fork("child");
    parent.ok("close f");
    monitor.barrier();
    monitor.none_for(parent.pid(), "lease-end");
    monitor.none_for(parent.pid(), "zombie");
    assert_eq!(leases_on(&file).len(), 1, "the child holds the lease");
    parent.ok("child: close f");
    let zombie = expect_zombie(&monitor, parent.pid(), &file, "close");
    assert_released_by(&zombie, child);
}

/// A child's exit is the end of what it inherited, but the parent is not dying: its pins do not end
/// by themselves.
#[test]
fn a_childs_exit_may_end_the_parents_lease() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    parent.ok("munmap m");
    let child = parent.fork("child");
    parent.ok("close f");
    assert_eq!(parent.ok("child: exit 0"), "exited 0");
    let zombie = monitor.expect_of("zombie", parent.pid());
    assert_about(&zombie, parent.pid(), &file);
    assert_eq!(zombie["cause"], "exit", "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert_released_by(&zombie, child);
    assert_ne!(
        zombie["ends_by_itself"], true,
        "the owner of the pins lives on: {zombie}"
    );
}

/// A descriptor on its way holds the open file description as one in a table does.
#[test]
fn a_descriptor_in_a_message_holds_the_lease() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    parent.ok("munmap m");
    let child = parent.fork("child");
    parent.all(&["child: close f", "send-fd f child", "close f"]);
    monitor.barrier();
    monitor.none_for(parent.pid(), "zombie");
    assert_eq!(leases_on(&file).len(), 1, "the message holds the lease");
    parent.all(&["child: recv-fd g parent", "child: close g"]);
    let zombie = expect_zombie(&monitor, parent.pid(), &file, "close");
    assert_released_by(&zombie, child);
}

/// A ring is a descriptor, too: the child's close of it drops the parent's pins.
#[test]
fn pins_are_their_owners_whoever_drops_them() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let child = parent.fork("child");
    parent.all(&["close ring", "setlease f u"]);
    expect_zombie(&monitor, parent.pid(), &file, "unlock");
    monitor.barrier();
    monitor.none_for(parent.pid(), "at-rest");
    parent.ok("child: close ring");
    expect_rest(&monitor, parent.pid(), &file);
    monitor.none_for(child, "at-rest");
}
