//! O_DIRECT: the pages of the buffer are pinned for a short time, while the device is at work. With
//! `--pins all` they count.

use std::fs;

use crate::harness::{
    Actor, Enforcement, Monitor, PAGES, Pinned, Scratch, SlowDisk, Subject, Tool, eventually,
    expect_rest, expect_zombie, expect_zombie_with, open_lease_and_pin,
};

/// A write lease on the new file, and its pages on their way to the disk or from there, held back:
/// slots `d`, `f`, `m` and `io`. Says whether the kernel pins them.
fn lease_and_begin(actor: &Actor, disk: &SlowDisk, path: &str, operation: &str) -> bool {
    let pinned = Pinned::now();
    actor.ok(&format!("open d {} rw,direct", SlowDisk::PATH));
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "touch m",
    ]);
    disk.hold_back(actor);
    actor.ok(&format!("direct-begin io d m {operation}"));
    assert_eq!(actor.ok("direct-done io"), "no", "it was not held back");
    let pins = pinned.since();
    assert_eq!(pins > 0, pins_direct_io(), "{pins} pins");
    if pins == 0 {
        eprintln!(
            "O_DIRECT takes plain references here, no pins: iov_iter_extract_pages is missing"
        );
        return false;
    }
    assert_eq!(pins, PAGES);
    true
}

/// Block devices pin what they read into since they ask this function for the pages; before, they
/// took references like everybody (FOLL_GET).
fn pins_direct_io() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("kallsyms");
    symbols
        .lines()
        .any(|line| line.split(' ').nth(2) == Some("iov_iter_extract_pages"))
}

/// Lets the lease go while the disk is at work with the pages of the file.
#[track_caller]
pub fn released_while_under_way(path_of: impl Fn(&str) -> String) {
    for operation in ["read", "write"] {
        let disk = SlowDisk::new();
        let pinned = Pinned::now();
        let monitor = Monitor::with(&["--all-events", "--pins", "all"]);
        let actor = Actor::start();
        let path = path_of(operation);
        let pins = lease_and_begin(&actor, &disk, &path, operation);
        let file = Subject::as_mounted(&path);
        actor.ok("setlease f u");
        if pins {
            let zombie =
                expect_zombie_with(&monitor, actor.pid(), &file, "unlock", PAGES, "direct-io");
            assert_eq!(zombie["context"], "[io_uring]", "{zombie}");
        }
        monitor.barrier();
        monitor.none_for(actor.pid(), "at-rest");
        assert_eq!(actor.ok("direct-done io"), "no", "it ended by itself");
        disk.let_go();
        assert_eq!(actor.ok("direct-wait io"), "1048576");
        if pins {
            expect_rest(&monitor, actor.pid(), &file);
        }
        pinned.assert_balanced();

        // The right order.
        actor.all(&["setlease f w", "direct-begin io d m read", "direct-wait io"]);
        actor.ok("setlease f u");
        monitor.barrier();
        assert_eq!(
            monitor.count(actor.pid(), "zombie"),
            usize::from(pins),
            "{}",
            monitor.account()
        );
        monitor.none_for(actor.pid(), "bare-pin");
    }
}

#[test]
fn a_lease_released_while_it_is_under_way_is_a_zombie() {
    let scratch = Scratch::new();
    released_while_under_way(|name| scratch.file(name));
}

/// Unless asked for, short-term pins are left alone.
#[test]
fn without_being_asked_for_it_is_none() {
    let (scratch, disk) = (Scratch::new(), SlowDisk::new());
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    lease_and_begin(&actor, &disk, &scratch.file("f"), "read");
    actor.ok("setlease f u");
    disk.let_go();
    actor.ok("direct-wait io");
    pinned.assert_balanced();
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "bare-pin");
}

/// A transfer into a file that two processes have pinned: what one of them drops meanwhile is his own, not the
/// transfer's, and the transfer's end takes nothing from the other.
#[test]
fn what_is_dropped_meanwhile_is_its_owners() {
    let (scratch, disk) = (Scratch::new(), SlowDisk::new());
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let child = actor.fork("child");
    actor.all(&["child: uring own", "child: register-buffers own m"]);
    actor.ok(&format!("open d {} rw,direct", SlowDisk::PATH));
    disk.hold_back(&actor);
    actor.ok("direct-begin io d m read");
    let under_way = if pins_direct_io() { PAGES } else { 0 };
    assert_eq!(pinned.since(), 2 * PAGES + under_way);
    actor.ok("child: unregister-buffers own");
    disk.let_go();
    actor.ok("direct-wait io");
    assert!(eventually(|| pinned.since() == PAGES));
    actor.ok("setlease f u");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "unlock");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert!(zombie.get("doubtful").is_none(), "{zombie}");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    monitor.barrier();
    monitor.none_for(child, "zombie");
    pinned.assert_balanced();
}

/// A request of the owner's ends while a transfer of another's is under way, and drops the last pins of a buffer that has
/// left its ring's table: by no call that tells whose they are. He has given back all he had, and is not refused.
#[test]
fn what_ends_with_a_request_meanwhile_is_not_held_against_its_owner() {
    const DENY: &str = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\n\
                        fallback = \"kill\"\n";
    let (scratch, disk) = (Scratch::new(), SlowDisk::new());
    let pinned = Pinned::now();
    let enforcement = Enforcement::start(DENY);
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    actor.ok(&format!("open d {} rw,direct", SlowDisk::PATH));
    actor.ok(&format!("open f {} rw,creat,cloexec", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "mmap m f 1M shared rw",
        "touch m",
        "pipe in out",
    ]);
    disk.hold_back(&actor);
    actor.fork("child");
    actor.all(&["child: close f", "setlease f w", "close out"]);
    actor.all(&["fixed-begin io in m", "fixed-empty io"]);
    assert_eq!(pinned.since(), PAGES);
    actor.ok("child: direct-begin transfer d m read");
    let under_way = if pins_direct_io() { PAGES } else { 0 };
    assert_eq!(pinned.since(), PAGES + under_way);
    actor.ok("child: close out");
    assert!(
        eventually(|| pinned.since() == under_way),
        "{}",
        pinned.since()
    );
    assert_eq!(actor.ok("child: direct-done transfer"), "no");
    actor.ok("setlease f u");
    disk.let_go();
    actor.ok("child: direct-wait transfer");
    actor.ok("direct-wait io");
    pinned.assert_balanced();
    let stakes = || {
        let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
        report.rows("stakes", actor.pid())
    };
    assert!(eventually(|| stakes().is_empty()), "{:?}", stakes());
    monitor.barrier();
    let hits = enforcement.hits("r");
    assert!(
        hits["denied"].is_null() && hits["killed"].is_null(),
        "{hits}"
    );
    actor.ok("write-all f 2M");
}
