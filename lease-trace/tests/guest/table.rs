//! A ring's table of buffers: sparse, updated entry by entry, and shared with another ring.

use crate::harness::{
    Actor, Monitor, Pinned, Scratch, Subject, Tool, cannot, eventually, expect_rest,
    expect_zombie_with, open_lease_and_pin,
};

/// Waits until the tool, too, says that the process has so many pins.
#[track_caller]
fn expect_pins(actor: &Actor, pinned: Pinned, pins: i64) {
    assert!(
        eventually(|| pinned.since() == pins),
        "{} pins",
        pinned.since()
    );
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", actor.pid());
    let told: i64 = rows.iter().filter_map(|row| row["pins"].as_i64()).sum();
    assert_eq!(told, pins, "{report}");
}

/// A sparse table pins nothing. An entry that is filled, replaced by less, and emptied changes the
/// pins by exactly its own; the zombie that is left is at rest with the last entry.
#[test]
fn entries_are_pinned_and_dropped_one_by_one() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.all(&["uring ring", "sparse-buffers ring 4"]);
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&["write-all f 1M", "setlease f w", "mmap m f 1M shared rw"]);
    let file = Subject::at(&scratch.file("f"));
    expect_pins(&actor, pinned, 0);
    actor.ok("update-buffer ring 0 m 0 64K");
    expect_pins(&actor, pinned, 16);
    actor.ok("update-buffer ring 3 m 512K 256K");
    expect_pins(&actor, pinned, 80);
    // The same entry again: the new pins are taken before the old ones go.
    actor.ok("update-buffer ring 3 m 512K 128K");
    expect_pins(&actor, pinned, 48);
    actor.ok("setlease f u");
    expect_zombie_with(&monitor, actor.pid(), &file, "unlock", 48, "io_uring");
    actor.ok("empty-buffer ring 0");
    expect_pins(&actor, pinned, 32);
    monitor.barrier();
    monitor.none_for(actor.pid(), "at-rest");
    actor.ok("empty-buffer ring 3");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
    monitor.none_for(actor.pid(), "bare-pin");
}

/// A child's ring that shares the parent's buffers: no pin is taken, so they stay the parent's, also
/// when the parent's own ring is gone and the child's drops them.
#[test]
fn a_share_in_another_process_is_the_owners() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let child = parent.fork("child");
    parent.ok("child: uring copy");
    if let Err(refusal) = parent.attempt("child: clone-buffers copy ring") {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        return cannot(
            "sharing registered buffers with another process",
            refusal.errno,
        );
    }
    parent.all(&["child: close ring", "setlease f u", "close ring"]);
    expect_zombie_with(&monitor, parent.pid(), &file, "unlock", 256, "io_uring");
    monitor.barrier();
    monitor.none_for(parent.pid(), "at-rest");
    monitor.none_for(child, "zombie");
    monitor.none_for(child, "bare-pin");
    parent.ok("child: close copy");
    expect_rest(&monitor, parent.pid(), &file);
    pinned.assert_balanced();
}
