//! The same with memory regions of an RDMA device over files on ext4.

use crate::enforce_attack::dies_with_everything;
use crate::enforce_ways::every_way;
use crate::harness::{Filesystem, Holder, LoopMount, Rxe};

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
