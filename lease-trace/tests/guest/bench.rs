//! What lease-trace costs, for `cargo xtask bench`, which runs this in a guest whose clock counts
//! executed instructions. What was measured goes to stdout, one figure a line, as `figure` has it;
//! goals are the host's business.
//!
//! `BENCH_FORM=short` leaves out what takes long: the figures by number of leases, pins and processes.

mod bpftrace;
mod enforced;
mod events;
mod figure;
mod growth;
mod load;
mod memory;
mod programs;
mod release;
mod worst;

use std::env;

use bpftrace::Bpftrace;
use figure::{By, figure, phase};
use load::Loads;

#[test]
fn it_measures() {
    let long = env::var("BENCH_FORM").is_ok_and(|form| form == "long");
    let loads = Loads::ready();
    phase("the kernel alone");
    loads.measure(By::Kernel);

    phase("lease-trace");
    let (monitor, took) = programs::start();
    figure("start", By::LeaseTrace, took);
    let points = monitor.start["attach"].clone();
    // What is rarely called may have no trampoline on an old kernel.
    let probed = points.as_array().expect("the points attached").iter();
    let mut probed = probed.filter_map(|point| point.as_str());
    let is_slow = |point: &str| point.starts_with("unpin_user") && point.ends_with(": kprobe");
    assert!(!probed.any(is_slow), "{}", monitor.account());
    loads.measure(By::LeaseTrace);
    memory::of_kernel(&monitor, long);
    release::checks(&monitor, long);
    monitor.stop();

    phase("lease-trace, with leases told");
    events::measure(&loads, long);

    phase("lease-trace, with its run time counted");
    programs::count(&loads);

    phase("bpftrace");
    let counting = Bpftrace::counting_pins(&points, "");
    loads.measure(By::Bpftrace);
    drop(counting);
    let counting = Bpftrace::counting_pins(&points, "[pid]");
    loads.pins(By::BpftraceByProcess);
    drop(counting);
    let nothing = Bpftrace::empty(&points);
    loads.measure(By::Empty);
    drop(nothing);
    let (all, took) = Bpftrace::on_all(&points);
    figure("start", By::Bpftrace, took);
    drop(all);

    phase("enforcement");
    enforced::measure(&loads);
    if long {
        phase("by number");
        growth::measure();
    }
}

/// Calls with as much to look at as there can be.
#[test]
fn it_measures_the_worst() {
    worst::measure();
}
