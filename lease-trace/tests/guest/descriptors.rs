//! Hosts with very many open files: the kernel gives a walk over a million of them in pieces.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Actor, Leftovers, Monitor, Scratch, Tool, open_lease_and_pin};

/// More than `MAX_ITER_OBJECTS` (kernel/bpf/bpf_iter.c): after that many objects without a record
/// read(2) answers EAGAIN.
const MANY: u32 = 1_040_000;

/// One process with more of them than the kernel goes through in one call, before and while
/// somebody watches, and under every command that walks.
#[test]
fn a_million_descriptors_stop_no_walk() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let crowded = Actor::start();
    crowded.ok("open-files 1048576");
    crowded.ok(&format!("open many {} rw,creat", scratch.file("many")));
    crowded.ok(&format!("dup-many many {MANY}"));

    Tool::run(&["report"]).exits(0);
    let policy = scratch.file("p.toml");
    let rule = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"report\"\n";
    std::fs::write(&policy, rule).expect("writes the policy");
    Tool::run(&["enforce", "start", "--policy", &policy]).exits(0);
    Tool::run(&["enforce", "stop"]).exits(0);

    let monitor = Monitor::alone();
    // Its pins are under a lease: from now on the monitor looks whether they are orphaned.
    open_lease_and_pin(&crowded, &scratch.file("f"));
    sleep(Duration::from_secs(5));
    monitor.barrier();
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    assert_eq!(report.rows("stakes", crowded.pid()).len(), 1, "{report}");
    crowded.ok("unregister-buffers ring");
    let stopped = monitor.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    leftovers.assert_none();
}
