//! Through what pins live, and who broke the lease.

use std::fs;

use serde_json::Value;

use crate::harness::{
    Actor, Monitor, Scratch, Setting, Tool, cannot, eventually, expect_zombie, open_lease_and_pin,
};

/// The actor's descriptor of its only ring.
fn ring_of(pid: i64) -> i64 {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process");
    let rings = descriptors.flatten().filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.ends_with("anon_inode:[io_uring]"))
    });
    let mut numbers = rings.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.next().expect("a ring")
}

fn row(list: &str, pid: i64) -> Value {
    let report = Tool::run(&["report", list, "-J"]);
    let rows = report.rows(list, pid);
    assert_eq!(rows.len(), 1, "{report}");
    rows[0].clone()
}

#[test]
fn a_ring_is_named_by_its_descriptor() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let fd = ring_of(actor.pid());
    let covered = row("stakes", actor.pid());
    assert_eq!(covered["context_fd"], fd, "{covered}");
    assert_eq!(covered["context"], "[io_uring]", "{covered}");
    actor.ok("setlease f u");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "unlock");
    assert_eq!(zombie["context_fd"], fd, "{zombie}");
    assert_eq!(zombie["context"], "[io_uring]", "{zombie}");
    let table = Tool::run(&["report", "-r", "-n", "-o", "PID,CONTEXT"]).exits(1);
    let expected = format!("{} {fd}\\x20[io_uring]", actor.pid());
    let mut lines = table.stdout.lines();
    assert!(lines.any(|line| line == expected), "{expected}\n{table}");
    // Pins of another call have another context.
    actor.all(&["unregister-buffers ring", "uring other"]);
    monitor.expect_of("at-rest", actor.pid());
    actor.ok("register-buffers other m");
    let bare = monitor.expect_of("bare-pin", actor.pid());
    assert_eq!(bare["context"], "[io_uring]", "{bare}");
    assert_ne!(bare["context_fd"], fd, "{bare}");
}

/// A thread may register its ring with itself, and then names it by its place there.
#[test]
fn a_registered_ring_has_no_descriptor() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&["write-all f 1M", "mmap m f 1M shared rw"]);
    let place = actor.ok("register-ring ring");
    if let Err(refusal) = actor.attempt(&format!("register-buffers-at {place} m")) {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        return cannot("io_uring_register(2) on a registered ring", refusal.errno);
    }
    let bare = monitor.expect_of("bare-pin", actor.pid());
    assert_eq!(bare["context"], "[io_uring]", "{bare}");
    assert!(bare["context_fd"].is_null(), "{bare}");
}

const CONTAINER: &str = "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899a";

/// Processes of a unit and of a container. They end, and their cgroups are removed, while their pins
/// live on in a ring that somebody outside has.
#[test]
fn the_unit_and_the_container_are_named() {
    for (name, unit, container) in [
        ("db.service".to_owned(), "db.service", None),
        (
            format!("docker-{CONTAINER}.scope"),
            &*format!("docker-{CONTAINER}.scope"),
            Some(CONTAINER),
        ),
    ] {
        let scratch = Scratch::new();
        let monitor = Monitor::start();
        let outside = Actor::start();
        outside.ok("uring ring");
        let owner = outside.fork("owner");
        let group = format!("/sys/fs/cgroup/lease-trace-{}.slice", std::process::id());
        let inner = format!("{group}/{name}");
        fs::create_dir_all(&inner).expect("cgroups");
        fs::write(format!("{inner}/cgroup.procs"), owner.to_string()).expect("moved into it");
        for command in [
            &format!("open f {} rw,creat", scratch.file("f")),
            "write-all f 1M",
            "setlease f w",
            "mmap m f 1M shared rw",
            "register-buffers ring m",
        ] {
            outside.ok(&format!("owner: {command}"));
        }
        let is_told = |record: &Value| {
            assert_eq!(
                record["cgroup"],
                inner["/sys/fs/cgroup".len()..],
                "{record}"
            );
            assert_eq!(record["unit"], unit, "{record}");
            assert_eq!(record["container"].as_str(), container, "{record}");
        };
        is_told(&row("stakes", owner));
        assert_eq!(outside.ok("owner: exit 0"), "exited 0");
        is_told(&monitor.expect_of("zombie", owner));
        for directory in [&inner, &group] {
            assert!(
                eventually(|| fs::remove_dir(directory).is_ok()),
                "{directory} stays"
            );
        }
        outside.ok("close ring");
        is_told(&monitor.expect_of("at-rest", owner));
    }
}

/// Whoever wants the lease first is who breaks it, whatever ends it.
#[test]
fn the_breaker_of_a_lease_is_named() {
    let _short = Setting::set("fs/lease-break-time", "2");
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let (holder, other, late) = (Actor::start(), Actor::start(), Actor::start());
    let file = open_lease_and_pin(&holder, &scratch.file("f"));
    let open = format!("open g {} rw,nonblock", file.path);

    // An unlock that nobody asked for has no breaker.
    holder.ok("setlease f u");
    let zombie = expect_zombie(&monitor, holder.pid(), &file, "unlock");
    assert!(zombie["breaker"].is_null(), "{zombie}");
    monitor.expect_of("lease-end", holder.pid());
    holder.all(&[
        "unregister-buffers ring",
        "setlease f w",
        "register-buffers ring m",
    ]);

    // The holder obeys.
    other.ok("comm wants-it");
    other.err(&open, libc::EWOULDBLOCK);
    let breaking = row("stakes", holder.pid());
    assert_eq!(breaking["breaking"], true, "{breaking}");
    assert_eq!(breaking["breaker"]["pid"], other.pid(), "{breaking}");
    holder.ok("setlease f u");
    for event in ["zombie", "lease-end"] {
        let told = monitor.expect_of(event, holder.pid());
        assert_eq!(told["cause"], "unlock", "{told}");
        assert_eq!(told["breaker"]["pid"], other.pid(), "{told}");
        assert_eq!(told["breaker"]["comm"], "wants-it", "{told}");
    }
    let zombie = row("zombies", holder.pid());
    assert_eq!(zombie["breaker"]["comm"], "wants-it", "{zombie}");

    // The holder ignores it; who comes last ends it.
    holder.all(&[
        "unregister-buffers ring",
        "setlease f w",
        "register-buffers ring m",
    ]);
    other.err(&open, libc::EWOULDBLOCK);
    late.err(&open, libc::EWOULDBLOCK);
    late.ok("sleep 2500");
    assert!(eventually(|| late.attempt(&open).is_ok()), "it never ended");
    let zombie = monitor.expect_of("zombie", holder.pid());
    assert_eq!(zombie["cause"], "break-timeout", "{zombie}");
    assert_eq!(zombie["breaker"]["pid"], other.pid(), "{zombie}");
    assert_eq!(zombie["releaser"]["pid"], late.pid(), "{zombie}");
}
