//! VFIO: memory mapped for a device behind an IOMMU, pinned by `pin_user_pages_remote`.

use serde_json::Value;

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, Subject, VfioGroup, assert_released_by, expect_rest,
    expect_zombie_with, leases_on,
};

/// A container with a device's group in it: slots `c` and `g`, opened before any file so that they
/// are closed after it when the process ends.
pub fn open_container(actor: &Actor) {
    let VfioGroup { path } = VfioGroup::ready();
    actor.ok(&format!("open c {} rw,cloexec", VfioGroup::CONTAINER));
    actor.ok(&format!("open g {path} rw,cloexec"));
    actor.ok("vfio-attach c g");
}

/// A new file with a write lease, and a mapping of it: slots `f` and `m`.
fn lease_and_map(actor: &Actor, path: &str, mode: &str) -> Subject {
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&["write-all f 1M", "setlease f w"]);
    actor.ok(&format!("mmap m f 1M shared {mode}"));
    Subject::at(path)
}

#[track_caller]
fn expect_vfio_zombie(monitor: &Monitor, pid: i64, file: &Subject, cause: &str) -> Value {
    let zombie = expect_zombie_with(monitor, pid, file, cause, PAGES, "vfio");
    // A process that is gone has no descriptors any more.
    if cause != "killed" {
        assert_eq!(zombie["context"], VfioGroup::CONTAINER, "{zombie}");
        assert!(zombie["context_fd"].is_number(), "{zombie}");
    }
    zombie
}

/// For a device that writes there, and for one that only reads.
#[test]
fn it_is_pinned_until_it_is_unmapped_or_the_container_goes() {
    for mode in ["rw", "ro"] {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::start();
        let actor = Actor::start();
        open_container(&actor);
        let file = lease_and_map(&actor, &scratch.file("f"), mode);
        actor.ok(&format!("vfio-map c 1M m {mode}"));
        assert_eq!(pinned.since(), PAGES, "{mode}");
        actor.ok("setlease f u");
        assert!(leases_on(&file).is_empty());
        let zombie = expect_vfio_zombie(&monitor, actor.pid(), &file, "unlock");
        assert_released_by(&zombie, actor.pid());
        actor.ok("vfio-unmap c 1M 1M");
        expect_rest(&monitor, actor.pid(), &file);
        pinned.assert_balanced();

        actor.ok("setlease f w");
        actor.ok(&format!("vfio-map c 1M m {mode}"));
        actor.all(&["munmap m", "close f"]);
        expect_vfio_zombie(&monitor, actor.pid(), &file, "close");
        actor.all(&["close g", "close c"]);
        expect_rest(&monitor, actor.pid(), &file);
        pinned.assert_balanced();
        monitor.barrier();
        assert_eq!(monitor.count(actor.pid(), "zombie"), 2, "{mode}");
    }
}

/// Two ranges of the device's addresses, one page of the file in both of them pinned twice.
#[test]
fn each_range_counts_its_own_pages() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    open_container(&actor);
    let file = lease_and_map(&actor, &scratch.file("f"), "rw");
    actor.all(&[
        "vfio-map c 1M m rw 64K 128K",
        "vfio-map c 2M m rw 128K 128K",
        "setlease f u",
    ]);
    expect_zombie_with(&monitor, actor.pid(), &file, "unlock", 64, "vfio");
    assert_eq!(pinned.since(), 64);
    actor.ok("vfio-unmap c 1M 128K");
    assert_eq!(pinned.since(), 32);
    monitor.barrier();
    monitor.none_for(actor.pid(), "at-rest");
    actor.ok("vfio-unmap c 2M 128K");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// The right order, and pins that no lease ever covered.
#[test]
fn unmapped_before_the_lease_goes_there_is_none() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    open_container(&actor);
    lease_and_map(&actor, &scratch.file("f"), "rw");
    actor.all(&["vfio-map c 1M m rw", "vfio-unmap c 1M 1M", "setlease f u"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "bare-pin");
    actor.ok("vfio-map c 1M m rw");
    let bare = monitor.expect_of("bare-pin", actor.pid());
    assert_eq!(bare["pins"], PAGES, "{bare}");
    assert_eq!(bare["consumer"], "vfio", "{bare}");
}

/// A child has the container, too, and takes away what its parent has mapped.
#[test]
fn another_process_may_unmap_it() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let parent = Actor::start();
    open_container(&parent);
    let file = lease_and_map(&parent, &scratch.file("f"), "rw");
    parent.ok("vfio-map c 1M m rw");
    let child = parent.fork("child");
    parent.ok("setlease f u");
    expect_vfio_zombie(&monitor, parent.pid(), &file, "unlock");
    parent.ok("child: vfio-unmap c 1M 1M");
    expect_rest(&monitor, parent.pid(), &file);
    pinned.assert_balanced();
    monitor.none_for(child, "zombie");
}

#[test]
fn sigkill_lays_it_to_rest_by_itself() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let mut actor = Actor::start();
    open_container(&actor);
    let file = lease_and_map(&actor, &scratch.file("f"), "rw");
    actor.ok("vfio-map c 1M m rw");
    actor.end("kill-self KILL");
    let zombie = expect_vfio_zombie(&monitor, actor.pid(), &file, "killed");
    assert_eq!(zombie["ends_by_itself"], true, "{zombie}");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}
