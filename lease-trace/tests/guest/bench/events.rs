//! What it costs to be told of each lease, and what is lost when more comes than can be told.

use std::fs::{self, File};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::figure::{By, figure};
use super::load::{Loads, each};
use crate::harness::{Actor, Monitor, START_PATIENCE, Scratch, Tool, interrupt};

/// Rounds of the flood; each is a lease set, a zombie, a lease ended and a zombie at rest.
const ROUNDS: u32 = 5000;
const EVENTS_OF_ROUND: u32 = 4;

pub fn measure(loads: &Loads, long: bool) {
    let monitor = Monitor::alone();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", loads.file("told")));
    // The programs alone: their reader stands still.
    monitor.signal(libc::SIGSTOP);
    figure(
        "lease-told",
        By::LeaseTrace,
        each(&actor, "time-lease f", 100),
    );
    monitor.signal(libc::SIGCONT);
    monitor.stop();
    if long {
        flood();
    }
}

/// Events without a pause. The monitor writes to a file, so that it waits for nobody.
fn flood() {
    let scratch = Scratch::new();
    let told = scratch.file("told");
    let mut monitor = Tool::new(&["monitor", "-o", "json", "--all-events"])
        .stdout(File::create(&told).expect("a file in the scratch directory"))
        .spawn();
    let begun = Instant::now();
    while !text(&told).contains("\"start\"") {
        assert!(begun.elapsed() < START_PATIENCE, "it did not start");
        sleep(Duration::from_millis(100));
    }
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("flood")));
    actor.all(&["write-all f 4K", "mmap m f 4K shared rw", "uring r"]);
    let round = "setlease f w ; register-buffers r m ; setlease f u ; unregister-buffers r";
    let (begun, busy) = (Instant::now(), executed(&monitor));
    // Where a ring's end waits for others, the clock goes on and nothing is executed.
    actor.ok_within(Duration::from_mins(30), &format!("time {ROUNDS} {round}"));
    let took = begun.elapsed().as_secs_f64();
    // Until it has nothing more to say.
    let mut length = 0;
    while text(&told).len() > length {
        length = text(&told).len();
        sleep(Duration::from_secs(2));
    }
    let events = f64::from(ROUNDS * EVENTS_OF_ROUND);
    let each = (executed(&monitor) - busy) / events;
    interrupt(&monitor, libc::SIGINT);
    monitor.wait().expect("it ends");

    let all = text(&told);
    let all = all.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        event
    });
    let (mut zombies, mut heard, mut lost) = (0, 0, 0);
    for event in all {
        match event["event"].as_str() {
            Some("zombie") => (zombies, heard) = (zombies + 1, heard + 1),
            Some("lease-set" | "lease-end" | "at-rest") => heard += 1,
            Some("lost") => lost += event["count"].as_u64().unwrap_or(0),
            _ => {}
        }
    }
    let tell = |name, value| figure(name, By::LeaseTrace, value);
    tell("flood-rate", events / took);
    tell("flood-instructions", each);
    tell("flood-zombies-lost", f64::from(ROUNDS) - f64::from(zombies));
    tell("flood-lost", lost as f64);
    tell("flood-unaccounted", events - f64::from(heard) - lost as f64);
}

fn text(path: &str) -> String {
    fs::read_to_string(path).expect("the file is there")
}

/// Instructions that a process has executed so far.
fn executed(process: &Child) -> f64 {
    let schedstat = fs::read_to_string(format!("/proc/{}/schedstat", process.id()));
    let schedstat = schedstat.expect("schedstat");
    let on_cpu = schedstat
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse().ok());
    on_cpu.expect("nanoseconds on a CPU")
}
