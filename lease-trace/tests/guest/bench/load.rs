//! The loads: the same work, done alone and under a tracer.

use std::fs;
use std::path::PathBuf;

use super::figure::{By, figure};
use crate::harness::{Actor, MemoryDisk, Rxe, Scratch};

/// Pages of one buffer.
const PAGES: f64 = 256.0;
/// Bytes registered with the RDMA device.
const REGION: &str = "64M";
/// A load is run so often, and the least counts: a tick of the timer is in the others.
const BATCHES: u32 = 5;

/// Files and devices for the loads.
pub struct Loads {
    scratch: Scratch,
    disk: MemoryDisk,
}

impl Loads {
    pub fn ready() -> Self {
        Rxe::ready();
        Self {
            scratch: Scratch::new(),
            disk: MemoryDisk::in_memory(),
        }
    }

    /// A file of its own for somebody.
    pub fn file(&self, name: &str) -> String {
        self.scratch.file(name)
    }

    /// Runs every load. The processes are new ones, so that what traces has seen them from the start.
    pub fn measure(&self, by: By) {
        self.pins(by);
        self.rdma(by);
        self.cheap(by);
        let actor = Actor::start();
        actor.ok(&format!("open f {} rw,creat", self.file("leased")));
        figure("lease", by, each(&actor, "time-lease f", 100));
    }

    /// Pages pinned and unpinned, one by one.
    pub fn pins(&self, by: By) {
        const TIMES: u32 = 20;
        let actor = Actor::start();
        actor.ok(&format!("open f {} rw,creat", self.file("pinned")));
        actor.all(&["write-all f 1M", "setlease f w", "mmap m f 1M shared rw"]);
        actor.all(&["mmap-anon a 1M private", "uring r"]);
        actor.all(&["touch m", "touch a"]);
        let of = |map: &str| each(&actor, &format!("time-buffers r {map}"), TIMES) / PAGES;
        figure("pins-file", by, of("m"));
        figure("pins-anonymous", by, of("a"));
    }

    /// A region over a file on a file system without a disk, which all kernels let a device write to.
    fn rdma(&self, by: By) {
        let actor = Actor::start();
        actor.ok(&format!("rdma-open d {}", Rxe::DEVICE));
        actor.ok(&format!("open f {} rw,creat", self.file("region")));
        actor.ok(&format!("write-all f {REGION}"));
        actor.ok(&format!("mmap m f {REGION} shared rw"));
        actor.all(&["setlease f w", "touch m"]);
        let once = || time(&actor, "time 1 reg-mr mr d m rw ; dereg-mr mr");
        once();
        figure("rdma", by, once().min(once()));
    }

    /// What is not tracked.
    pub fn cheap(&self, by: By) {
        let actor = Actor::start();
        let path = self.disk.file("read");
        if !PathBuf::from(&path).exists() {
            fs::write(&path, vec![0x5a; 4096]).expect("a file on the disk in memory");
        }
        actor.ok(&format!("open d {path} ro,direct"));
        actor.all(&["mmap-anon a 4K private", "touch a"]);
        figure("read", by, each(&actor, "time-read d a", 100));
        let plain = self.file("plain");
        actor.ok(&format!("open p {plain} rw,creat"));
        figure(
            "close",
            by,
            each(&actor, &format!("time-close {plain}"), 500),
        );
        figure("fcntl", by, each(&actor, "time-fcntl p", 500));
        figure("ioctl", by, each(&actor, "time-ioctl p", 500));
    }
}

/// What one of so many rounds of a load takes, at best.
pub fn each(actor: &Actor, load: &str, times: u32) -> f64 {
    let command = format!("{load} {times}");
    // Once for what happens only the first time.
    time(actor, &command);
    let batches = (0..BATCHES).map(|_| time(actor, &command));
    batches.fold(f64::INFINITY, f64::min) / f64::from(times)
}

/// What a load says it took.
pub fn time(actor: &Actor, command: &str) -> f64 {
    actor.ok(command).parse().expect("a number")
}
