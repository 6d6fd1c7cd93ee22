//! Mount and user namespaces, and overlayfs: where a file is known by another name or number.

use std::fs;

use crate::harness::{
    Actor, Monitor, Overlay, PAGES, Pinned, Scratch, Subject, Tool, assert_about, expect_rest,
    expect_zombie, expect_zombie_with, open_lease_and_pin,
};

/// A file on a mount that exists in the actor's own mount namespace only: its path is the one it has
/// there.
#[test]
fn a_mount_of_its_own() {
    for unshare in ["unshare mount", "unshare user"] {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::start();
        let actor = Actor::start();
        fs::create_dir(scratch.file("private")).expect("a directory");
        let uid = if unshare == "unshare user" { 1000 } else { 0 };
        if uid != 0 {
            actor.ok(&format!("setuid {uid}"));
        }
        actor.ok(unshare);
        actor.ok(&format!("mount-tmpfs {}", scratch.file("private")));
        let path = scratch.file("private/f");
        let outside = format!("/proc/{}/root{path}", actor.pid());
        actor.ok("uring ring");
        actor.ok(&format!("open f {path} rw,creat"));
        actor.all(&[
            "write-all f 1M",
            "setlease f w",
            "mmap m f 1M shared rw",
            "register-buffers ring m",
        ]);
        let file = Subject {
            path,
            ..Subject::at(&outside)
        };
        actor.ok("setlease f u");
        let zombie = expect_zombie_with(&monitor, actor.pid(), &file, "unlock", PAGES, "io_uring");
        assert_eq!(
            zombie["uid"], uid,
            "as the first user namespace has it: {zombie}"
        );
        actor.ok("close ring");
        expect_rest(&monitor, actor.pid(), &file);
        pinned.assert_balanced();
    }
}

/// The lease is on overlayfs' inode, the pages are those of the file beneath: one stake, with the
/// path and the numbers that the file has on overlayfs.
#[test]
fn on_overlayfs() {
    let scratch = Scratch::new();
    let overlay = Overlay::over(&scratch);
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &overlay.file("f"));
    assert_ne!(file.dev, Subject::at(&scratch.file("upper/f")).dev);
    assert_eq!(pinned.since(), PAGES);
    let set = monitor.expect_of("lease-set", actor.pid());
    assert_about(&set, actor.pid(), &file);
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{report}");
    assert_about(&rows[0], actor.pid(), &file);
    let report = Tool::run(&["report", "leases", "-J"]).exits(0);
    assert_eq!(report.rows("leases", actor.pid()).len(), 1, "{report}");

    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    monitor.none_for(actor.pid(), "bare-pin");

    // A mapping keeps only the file beneath: the last descriptor ends the lease.
    actor.all(&["setlease f w", "register-buffers ring m", "close f"]);
    expect_zombie(&monitor, actor.pid(), &file, "close");
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    assert!(report.rows("stakes", actor.pid()).is_empty(), "{report}");
}
