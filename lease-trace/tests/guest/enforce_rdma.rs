//! The same with memory regions of an RDMA device over files on ext4.

use crate::enforce_attack::dies_with_everything;
use crate::enforce_ways::every_way;
use crate::harness::{Actor, Enforcement, Filesystem, Holder, LoopMount, Rxe, Scratch, eventually};

fn with_regions(mode: &str, action: &'static str) {
    Rxe::ready();
    let mount = LoopMount::new(Filesystem::Ext4);
    every_way(mode, action, Holder::Region, &|rule| mount.file(rule));
}

#[test]
fn report() {
    with_regions("enforce", "report");
}

#[test]
fn deny_fallback_kill() {
    with_regions("enforce", "deny");
}

#[test]
fn hold_fallback_report() {
    with_regions("enforce", "hold");
}

#[test]
fn stop() {
    with_regions("enforce", "stop");
}

#[test]
fn kill() {
    with_regions("enforce", "kill");
}

#[test]
fn audit_mode_only_reports() {
    for action in ["deny", "hold", "stop", "kill"] {
        with_regions("audit", action);
    }
}

/// The lease's descriptor is closed before the device's, and the other way round.
#[test]
fn a_dying_holder_never_deadlocks() {
    Rxe::ready();
    let mount = LoopMount::new(Filesystem::Ext4);
    dies_with_everything(Holder::Region, &|name| mount.file(name));
}

/// A lease, and a region under it; whoever ends the lease first is in breach.
fn unlocked_under_a_region(path: &str) -> Actor {
    let actor = Actor::start();
    actor.all(&[
        &format!("rdma-open d {}", Rxe::DEVICE),
        &format!("open f {path} rw,creat"),
        "write-all f 64K",
        "setlease f w",
        "mmap m f 64K shared rw",
        "touch m",
        "reg-mr mr d m rw",
    ]);
    actor
}

/// The driver that a rule names is loaded after the policy: `enforce status` says that the rule misses it,
/// and a monitor looks it up anew, each time.
#[test]
fn a_driver_may_come_after_the_policy() {
    let scratch = Scratch::new();
    if std::path::Path::new("/sys/module/rdma_rxe").exists() {
        Rxe::unload();
    }
    let enforcement = Enforcement::start(
        "mode = \"enforce\"\n[[rule]]\nname = \"regions\"\nmatch.consumer = \"rdma_rxe\"\n\
         action = \"deny\"\nfallback = \"kill\"\n",
    );
    let moved = || enforcement.status()["consumers_moved"] == true;
    assert!(!moved());
    Rxe::ready();
    assert!(moved());
    let actor = unlocked_under_a_region(&scratch.file("before"));
    actor.all(&["setlease f u", "dereg-mr mr"]);
    drop(actor);
    let monitor = enforcement.monitor();
    for time in ["first", "second"] {
        assert!(eventually(|| !moved()), "{time}");
        let actor = unlocked_under_a_region(&scratch.file(time));
        actor.err("setlease f u", libc::EBUSY);
        actor.all(&["dereg-mr mr", "setlease f u"]);
        drop(actor);
        if time == "first" {
            Rxe::unload();
            Rxe::ready();
        }
    }
    drop(monitor);
}
