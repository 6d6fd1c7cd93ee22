//! The same with memory regions of an RDMA device over files on ext4.

use crate::enforce_ways::every_way;
use crate::harness::{Filesystem, Holder, LoopMount, Rxe};

fn with_regions(action: &'static str) {
    Rxe::ready();
    let mount = LoopMount::new(Filesystem::Ext4);
    every_way("enforce", action, Holder::Region, &|rule| mount.file(rule));
}

#[test]
fn report() {
    with_regions("report");
}

#[test]
fn deny_otherwise_kill() {
    with_regions("deny");
}

#[test]
fn hold_otherwise_report() {
    with_regions("hold");
}

#[test]
fn stop() {
    with_regions("stop");
}

#[test]
fn kill() {
    with_regions("kill");
}
