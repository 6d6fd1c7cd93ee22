//! The end of a lease, judged: with few and with many leases of others, with few and with many pins.

use super::figure::{By, figure};
use super::load::time;
use crate::harness::{Actor, Monitor, Scratch};

/// Pins of one round: 64 MiB, registered so often.
const REGION: &str = "64M";
const PAGES_OF_REGION: u32 = 16_384;

/// With 10 and 10,000 leases of others; with a page, and with as many pins as there is time for.
/// The monitor stands still, so that nobody takes the processor between the end of a lease and the
/// look at the clock.
pub fn checks(monitor: &Monitor, long: bool) {
    monitor.signal(libc::SIGSTOP);
    let scratch = Scratch::new();
    let many = if long { 64 } else { 4 };
    for leases in [10, 10_000] {
        let others = hold(&scratch, leases);
        figure("unlock", By::Number(leases), unlock(&scratch, leases));
        figure("zombie", By::Number(leases), zombie(&scratch, "4K", 1));
        drop(others);
    }
    let pins = many * PAGES_OF_REGION;
    figure("zombie-pins", By::Number(1), zombie(&scratch, "4K", 1));
    figure(
        "zombie-pins",
        By::Number(pins),
        zombie(&scratch, REGION, many),
    );
    monitor.signal(libc::SIGCONT);
}

/// So many leases, held by somebody else.
pub fn hold(scratch: &Scratch, leases: u32) -> Actor {
    let others = Actor::start();
    let directory = scratch.file(&leases.to_string());
    std::fs::create_dir(&directory).expect("a directory in the scratch directory");
    others.ok(&format!("open-files {}", leases + 100));
    others.ok(&format!("hoard-leases {leases} {directory}"));
    others
}

/// An unlock without pins, of many files: what one of them costs depends on its neighbours in the
/// maps, which are placed by a number that the kernel draws.
fn unlock(scratch: &Scratch, leases: u32) -> f64 {
    let actor = Actor::start();
    let directory = scratch.file(&format!("unlocked-{leases}"));
    std::fs::create_dir(&directory).expect("a directory in the scratch directory");
    super::load::each(&actor, &format!("time-unlock {directory}"), 200)
}

/// An unlock that leaves so many pins, at best.
fn zombie(scratch: &Scratch, length: &str, times: u32) -> f64 {
    const ROUNDS: u32 = 3;
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("pinned")));
    actor.ok(&format!("write-all f {length}"));
    actor.ok(&format!("mmap m f {length} shared rw"));
    actor.all(&["touch m", "uring r"]);
    let rounds = (0..ROUNDS).map(|_| {
        actor.ok("setlease f w");
        actor.ok(&format!("register-again r m {times}"));
        let took = time(&actor, "time 1 setlease f u");
        actor.ok("unregister-buffers r");
        took
    });
    rounds.fold(f64::INFINITY, f64::min)
}
