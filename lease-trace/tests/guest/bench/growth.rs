//! The cost of an event by how much there is: leases, pins, processes, pages of one call.

use std::fs;

use super::figure::{By, figure};
use super::load::{each, time};
use super::release::hold;
use crate::harness::{Actor, Monitor, Scratch};

pub fn measure() {
    let monitor = Monitor::with(&[]);
    by_leases();
    by_processes();
    by_pages();
    by_pins(&monitor);
    monitor.stop();
}

/// Somebody with a leased file, of which so much is mapped.
fn actor(scratch: &Scratch, length: &str) -> Actor {
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("own")));
    actor.ok(&format!("write-all f {length}"));
    actor.ok(&format!("mmap m f {length} shared rw"));
    actor.all(&["touch m", "uring r"]);
    actor
}

fn lease_and_pins(scratch: &Scratch, what: &str, number: u32) {
    let actor = actor(scratch, "1M");
    figure(
        &format!("lease-by-{what}"),
        By::Number(number),
        each(&actor, "time-lease f", 50),
    );
    actor.ok("setlease f w");
    figure(
        &format!("pins-by-{what}"),
        By::Number(number),
        each(&actor, "time-buffers r m", 10) / 256.0,
    );
}

/// While somebody else holds so many leases.
fn by_leases() {
    for leases in [1, 10, 100, 1000, 10_000] {
        let scratch = Scratch::new();
        let _others = hold(&scratch, leases);
        lease_and_pins(&scratch, "leases", leases);
    }
}

/// While so many other processes have a lease and a pin each.
fn by_processes() {
    for processes in [1, 10, 100, 1000] {
        let scratch = Scratch::new();
        let crowd = Actor::start();
        crowd.ok(&format!("open-files {}", 2 * processes + 2000));
        let directory = scratch.file("crowd");
        fs::create_dir(&directory).expect("a directory in the scratch directory");
        crowd.ok(&format!("crowd c {processes} 1 {directory}"));
        lease_and_pins(&scratch, "processes", processes);
        crowd.all(&["crowd-unlock c", "crowd-end c"]);
    }
}

/// Each page, of calls with so many.
fn by_pages() {
    for (length, pages) in [
        ("4K", 1),
        ("64K", 16),
        ("1M", 256),
        ("16M", 4096),
        ("64M", 16_384),
    ] {
        let scratch = Scratch::new();
        let actor = actor(&scratch, length);
        actor.ok("setlease f w");
        let times = if pages > 1000 { 1 } else { 10 };
        let took = each(&actor, "time-buffers r m", times);
        figure("pins-by-pages", By::Number(pages), took / f64::from(pages));
    }
}

/// The end of a lease under which so many pins remain. The monitor stands still, as for
/// [`super::release::checks`].
fn by_pins(monitor: &Monitor) {
    const PAGES: u32 = 16_384;
    monitor.signal(libc::SIGSTOP);
    for times in [1, 4, 16, 64] {
        let scratch = Scratch::new();
        let actor = actor(&scratch, "64M");
        actor.ok("setlease f w");
        actor.ok(&format!("register-again r m {times}"));
        let took = time(&actor, "time 1 setlease f u");
        figure("unlock-by-pins", By::Number(times * PAGES), took);
        actor.ok("unregister-buffers r");
    }
    monitor.signal(libc::SIGCONT);
}
