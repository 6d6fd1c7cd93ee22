//! Orphaned pins: their owner has dropped its last reference to a lease that others keep alive.

use crate::harness::{
    Actor, Monitor, PAGES, Scratch, Tool, assert_about, expect_rest, expect_zombie, integer,
    leases_on, open_lease_and_pin,
};

#[track_caller]
fn assert_state(pid: i64, state: &str) {
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", pid);
    assert_eq!(rows.len(), 1, "{report}");
    assert_eq!(rows[0]["state"], state, "{report}");
    assert_eq!(rows[0]["leases"], 1, "{report}");
}

/// The lease ends in the end, and the orphan is a zombie.
#[test]
fn an_orphan_becomes_a_zombie() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let child = parent.fork("child");
    parent.all(&["child: munmap m", "munmap m"]);
    assert_state(parent.pid(), "covered");
    parent.ok("close f");
    let orphan = monitor.expect_of("orphaned-pin", parent.pid());
    assert_about(&orphan, parent.pid(), &file);
    assert_eq!(orphan["pins"], PAGES, "{orphan}");
    assert_eq!(orphan["consumer"], "io_uring", "{orphan}");
    assert_eq!(orphan["context"], "[io_uring]", "{orphan}");
    assert_eq!(orphan["lease"]["mode"], "write", "{orphan}");
    assert_eq!(orphan["holders"][0]["pid"], child, "{orphan}");
    assert_state(parent.pid(), "orphaned-pin");
    assert_eq!(leases_on(&file).len(), 1);
    monitor.barrier();
    monitor.none_for(parent.pid(), "zombie");

    parent.ok("child: close f");
    expect_zombie(&monitor, parent.pid(), &file, "close");
    parent.ok("unregister-buffers ring");
    expect_rest(&monitor, parent.pid(), &file);
    parent.ok("sleep 1200");
    monitor.barrier();
    monitor.none_for(parent.pid(), "orphan-end");
    assert_eq!(monitor.count(parent.pid(), "orphaned-pin"), 1);
}

/// Other ways for it to end, and what is no orphan: a mapping or a registered file is a reference.
#[test]
fn an_orphan_ends_with_its_pins_or_with_a_reference() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let (parent, mapped, fixed) = (Actor::start(), Actor::start(), Actor::start());
    open_lease_and_pin(&parent, &scratch.file("parent"));
    open_lease_and_pin(&mapped, &scratch.file("mapped"));
    open_lease_and_pin(&fixed, &scratch.file("fixed"));
    fixed.all(&[
        "uring files",
        "register-files files f",
        "munmap m",
        "close f",
    ]);
    mapped.fork("child");
    mapped.ok("close f");
    let child = parent.fork("child");
    parent.all(&["child: munmap m", "munmap m", "close f"]);
    monitor.expect_of("orphaned-pin", parent.pid());
    parent.all(&["child: send-fd f parent", "recv-fd f child"]);
    let end = monitor.expect_of("orphan-end", parent.pid());
    assert_eq!(end["outcome"], "covered", "{end}");
    assert_eq!(end["pins"], PAGES, "{end}");
    assert!(integer(&end, "orphaned_ms") > 0, "{end}");
    assert_state(parent.pid(), "covered");

    parent.ok("close f");
    monitor.expect_of("orphaned-pin", parent.pid());
    parent.ok("unregister-buffers ring");
    let end = monitor.expect_of("orphan-end", parent.pid());
    assert_eq!(end["outcome"], "pins-gone", "{end}");
    parent.ok("child: close f");
    monitor.expect_of("lease-end", parent.pid());
    monitor.barrier();
    for actor in [&mapped, &fixed] {
        monitor.none_for(actor.pid(), "orphaned-pin");
        assert_state(actor.pid(), "covered");
    }
    for pid in [parent.pid(), child] {
        monitor.none_for(pid, "zombie");
    }
}
