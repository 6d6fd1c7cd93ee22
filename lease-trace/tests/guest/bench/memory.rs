//! Memory: of the kernel's maps, and of the monitor.

use std::fs;

use super::figure::{By, figure};
use super::programs::bpftool;
use super::release::hold;
use crate::harness::{Actor, Monitor, Scratch};

/// How many stakes and leases are made for their size.
const MANY: u32 = 1000;
const LEASES: u32 = 10_000;

/// The size of a lease and of a stake, and what the monitor has resident with many leases, and once it
/// has told of many zombies.
pub fn of_kernel(monitor: &Monitor, long: bool) {
    let scratch = Scratch::new();
    let empty = maps();
    figure("maps", By::LeaseTrace, empty);
    let idle = Actor::start();
    let directory = scratch.file("idle");
    fs::create_dir(&directory).expect("a directory in the scratch directory");
    idle.ok(&format!("open-files {}", LEASES + 100));
    idle.ok(&format!("lease-each {LEASES} {directory}"));
    let grown = maps() - empty;
    figure("bytes-idle", By::LeaseTrace, grown / f64::from(LEASES));
    drop(idle);

    let empty = maps();
    let others = hold(&scratch, LEASES);
    let grown = maps() - empty;
    figure("bytes-lease", By::LeaseTrace, grown / f64::from(LEASES));
    figure("resident", By::LeaseTrace, resident(monitor));
    drop(others);

    let before = maps();
    let crowd = Actor::start();
    crowd.ok(&format!("open-files {}", 2 * MANY));
    let directory = scratch.file("crowd");
    fs::create_dir(&directory).expect("a directory in the scratch directory");
    crowd.ok(&format!("crowd c {MANY} 1 {directory}"));
    let grown = maps() - before;
    figure("bytes-stake", By::LeaseTrace, grown / f64::from(MANY));
    crowd.ok("crowd-unlock c");
    crowd.ok("crowd-end c");
    drop(crowd);
    figure("resident-zombies", By::LeaseTrace, resident(monitor));

    if long {
        figure("bytes-gib", By::LeaseTrace, of_a_gib(&scratch));
    }
}

/// What the maps grow by when a process that has one page of a file pinned pins 1 GiB of it.
fn of_a_gib(scratch: &Scratch) -> f64 {
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("gib")));
    actor.all(&["write-all f 1024M", "setlease f w"]);
    actor.all(&["mmap m f 1024M shared rw", "mmap one f 4K shared rw"]);
    actor.all(&["uring r", "uring first", "register-buffers first one"]);
    let before = maps();
    actor.ok("register-buffers r m");
    let grown = maps() - before;
    actor.all(&["unregister-buffers r", "unregister-buffers first"]);
    grown
}

/// Bytes of all maps there are, as the kernel counts them: nobody else has any.
fn maps() -> f64 {
    let maps = bpftool("map");
    let maps = maps.as_array().expect("a list of maps").iter();
    maps.filter_map(|map| map["bytes_memlock"].as_f64()).sum()
}

/// VmRSS in bytes.
fn resident(monitor: &Monitor) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", monitor.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.expect("VmRSS in kB") * 1024.0
}
