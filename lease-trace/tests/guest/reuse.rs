//! Numbers that come again: a pid, and an inode number.

use std::fs;

use crate::harness::{
    Actor, Filesystem, LoopMount, Monitor, PAGES, Pinned, Rxe, Scratch, Subject, Tool,
    assert_about, expect_rest, open_lease_and_pin,
};
use crate::rdma::{MODES, lease_and_register};

/// The next process of this pid namespace gets this pid, if nobody else is faster.
fn fork_as(seed: &Actor, pid: i64) -> String {
    for attempt in 0..50 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("as root");
        let name = format!("child{attempt}");
        if seed.fork(&name) == pid {
            return name;
        }
        seed.ok(&format!("{name}: exit 0"));
    }
    panic!("no process got the pid {pid}");
}

/// A process has ended and its pins live on in a ring that its child has. Pins of another process
/// with its pid, in the same file, join them: that is counted and told.
#[test]
fn a_pid_comes_again() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::that_logs(&["--all-events"]);
    let mut owner = Actor::start();
    let file = open_lease_and_pin(&owner, &scratch.file("f"));
    let heir = owner.fork_apart(&scratch);
    heir.all(&["munmap m", "close f"]);
    let first = owner.pid();
    owner.end("exit 0");
    let zombie = monitor.expect_of("zombie", first);
    assert_eq!(zombie["cause"], "exit", "{zombie}");
    monitor.none_for(first, "lost");

    let seed = Actor::start();
    let again = fork_as(&seed, first);
    for command in [
        "uring own",
        &format!("open f {} rw", file.path),
        "mmap m f 1M shared rw",
        "register-buffers own m",
    ] {
        seed.ok(&format!("{again}: {command}"));
    }
    let lost = monitor.expect("lost", |value| {
        let what = value["what"].as_str();
        what.is_some_and(|what| what.contains("of the same pid"))
    });
    assert_eq!(lost["count"], 1, "{lost}");
    monitor.expect_logged("of the same pid");
    let rows = Tool::beside(&["report", "stakes", "-J"])
        .finish()
        .exits(0)
        .rows("stakes", first);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["pins"], 2 * PAGES, "{rows:?}");
    seed.ok(&format!("{again}: close own"));
    heir.ok("close ring");
    expect_rest(&monitor, first, &file);
    pinned.assert_balanced();
}

/// A file is gone, but for its pinned pages. Another one gets its inode number: a stake of its own.
#[test]
fn an_inode_number_comes_again() {
    Rxe::ready();
    let mount = LoopMount::new(Filesystem::Ext4);
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let path = mount.file("f");
    let pin = || {
        let one_of_both = MODES.into_iter().find_map(|mode| {
            let actor = Actor::start();
            lease_and_register(&actor, &path, mode).then_some(actor)
        });
        let actor = one_of_both.expect("a region over a file of ext4");
        (actor, Subject::at(&path))
    };
    let (actor, file) = pin();
    actor.all(&["munmap m", "close f"]);
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), &file);
    fs::remove_file(&path).expect("it is there");

    let (other, again) = pin();
    assert_eq!(
        (again.ino, &again.dev),
        (file.ino, &file.dev),
        "it came again"
    );
    other.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", other.pid());
    assert_about(&zombie, other.pid(), &again);
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    let rows = |pid| {
        let report = Tool::beside(&["report", "stakes", "-J"]).finish();
        report.exits(0).rows("stakes", pid)
    };
    for pid in [actor.pid(), other.pid()] {
        let rows = rows(pid);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(
            (&rows[0]["ino"], &rows[0]["pins"]),
            (&file.ino.into(), &PAGES.into())
        );
    }
    monitor.exactly_one(actor.pid(), "zombie");
    for (actor, file) in [(actor, file), (other, again)] {
        monitor.none_for(actor.pid(), "at-rest");
        actor.ok("dereg-mr mr");
        expect_rest(&monitor, actor.pid(), &file);
    }
    pinned.assert_balanced();
}
