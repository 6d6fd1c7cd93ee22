//! The programs: what their start takes, and what the kernel counts for each.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::figure::{By, figure};
use super::load::Loads;
use crate::harness::{Monitor, Setting, Tool};

/// A monitor with nothing asked of it, and how long it took from exec until it had attached. What
/// its programs cost the verifier was asked of another, which talks more.
pub fn start() -> (Monitor, f64) {
    let talking = ["monitor", "-o", "json", "-d", "1s"];
    let ran = Tool::new(&talking)
        .env(
            "LEASE_TRACE_LOG",
            "lease_trace=debug,lease_trace::programs=off",
        )
        .finish();
    for line in ran.stderr.lines() {
        let Some((head, rest)) = line.rsplit_once(": ") else {
            continue;
        };
        let program = head.rsplit(' ').next().unwrap_or(head);
        let number = rest.split(' ').next().and_then(|word| word.parse().ok());
        match (number, rest.ends_with("instructions verified")) {
            (Some(count), true) => figure(&format!("verified-{program}"), By::LeaseTrace, count),
            (Some(us), false) if rest.ends_with("us to load") => {
                figure(&format!("load-{program}"), By::LeaseTrace, us * 1000.0);
            }
            _ => {}
        }
    }
    let begun = Instant::now();
    let monitor = Monitor::with(&[]);
    (monitor, begun.elapsed().as_nanos() as f64)
}

/// The same loads with the kernel counting what each program takes.
pub fn count(loads: &Loads) {
    let _stats = Setting::set("kernel/bpf_stats_enabled", "1");
    let monitor = Monitor::with(&[]);
    loads.measure(By::Counted);
    let output = Command::new("bpftool")
        .args(["-j", "prog", "show"])
        .output();
    let output = output.expect("bpftool is installed").stdout;
    let programs: Value = serde_json::from_slice(&output).expect("a list of programs");
    for program in programs.as_array().expect("a list of programs") {
        let (time, runs) = (&program["run_time_ns"], &program["run_cnt"]);
        if let (Some(name), Some(time), Some(runs)) =
            (program["name"].as_str(), time.as_f64(), runs.as_f64())
        {
            figure(&format!("run-{name}"), By::LeaseTrace, time / runs);
        }
    }
    monitor.stop();
}

/// What `bpftool WHAT show` lists.
pub fn bpftool(what: &str) -> Value {
    let output = Command::new("bpftool").args(["-j", what, "show"]).output();
    let output = output.expect("bpftool is installed").stdout;
    serde_json::from_slice(&output).expect("a list")
}
