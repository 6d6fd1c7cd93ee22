//! AF_XDP: a umem's pages are pinned until its socket is gone, and a kworker lets them go.

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, Subject, expect_rest, expect_zombie_with,
};

/// A write lease on the new file and its pages in a umem: slots `f`, `m` and `x`.
fn lease_and_register(actor: &Actor, path: &str) -> Subject {
    actor.ok("xdp-socket x");
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "xdp-umem x m",
    ]);
    Subject::at(path)
}

#[test]
fn it_is_pinned_until_the_socket_goes() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = lease_and_register(&actor, &scratch.file("f"));
    assert_eq!(pinned.since(), PAGES);
    actor.ok("setlease f u");
    let zombie = expect_zombie_with(&monitor, actor.pid(), &file, "unlock", PAGES, "xdp");
    let fd = &zombie["context_fd"];
    let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", actor.pid()));
    let link = link.expect("the socket is open");
    let link = link.to_str().expect("ASCII");
    assert!(link.starts_with("socket:["), "{link}: {zombie}");
    assert_eq!(zombie["context"], link, "{zombie}");
    actor.ok("close x");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
    monitor.exactly_one(actor.pid(), "zombie");
}

/// A kworker drops a umem, and nothing says whose it was. With two owners that release is
/// nobody's; with the last of them, both are at rest.
#[test]
fn with_two_owners_they_come_to_rest_together() {
    for order in [["close x", "child: close y"], ["child: close y", "close x"]] {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::start();
        let parent = Actor::start();
        let file = lease_and_register(&parent, &scratch.file("f"));
        let child = parent.fork("child");
        parent.all(&[
            "child: close x",
            "child: xdp-socket y",
            "child: xdp-umem y m",
        ]);
        parent.ok("setlease f u");
        for pid in [parent.pid(), child] {
            expect_zombie_with(&monitor, pid, &file, "unlock", PAGES, "xdp");
        }
        let [first, last] = order;
        parent.ok(first);
        assert!(crate::harness::eventually(|| pinned.since() == PAGES));
        monitor.barrier();
        for pid in [parent.pid(), child] {
            monitor.none_for(pid, "at-rest");
        }
        parent.ok(last);
        for pid in [parent.pid(), child] {
            expect_rest(&monitor, pid, &file);
        }
        pinned.assert_balanced();
    }
}
