//! Enforcement that outlives its monitor, and what it counts meanwhile.

use std::{thread, time::Duration};

use crate::harness::{
    Actor, Enforcement, Leftovers, Scratch, Tool, integer, open_lease_and_pin, retire_enforcement,
};

const DENY: &str = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\n\
                    fallback = \"kill\"\n";
const REPORT: &str = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"report\"\n";

/// `900 ok, 100 EBUSY` as (ok, EBUSY).
fn tally(answer: &str) -> (u64, u64) {
    let mut counts = (0, 0);
    for part in answer.split(", ") {
        let (count, what) = part.split_once(' ').expect("a count and a word");
        let count: u64 = count.parse().expect("a number");
        match what {
            "ok" => counts.0 += count,
            "EBUSY" => counts.1 += count,
            other => panic!("neither granted nor denied: {other}"),
        }
    }
    counts
}

/// No denial is missed while nobody reads, and whoever comes next goes on.
#[test]
fn its_sigkill_in_the_middle_of_a_thousand_denials_misses_none() {
    const DENIALS: u64 = 1000;
    const PACE_MS: u64 = 3;
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(DENY);
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let pid = actor.pid();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let working = thread::spawn(move || {
        // At a pace that leaves time to kill the monitor in the middle.
        let answer = actor.ok(&format!("repeat {DENIALS} setlease f u ; sleep {PACE_MS}"));
        (actor, answer)
    });
    for _ in 0..DENIALS / 100 {
        monitor.expect_of("denied", pid);
    }
    assert!(!working.is_finished(), "the monitor is killed too late");
    monitor.kill();
    let (actor, answer) = working.join().expect("the actor lives");
    assert_eq!(answer, format!("{DENIALS} EBUSY; {DENIALS} ok"));
    assert_eq!(crate::harness::leases_on(&file).len(), 1);
    assert_eq!(enforcement.hits("r")["denied"], DENIALS);
    assert!(enforcement.status()["monitor"].is_null());

    let next = enforcement.monitor();
    assert_eq!(enforcement.status()["monitor"], next.pid());
    // What nobody read meanwhile is still in the ring.
    next.expect_of("denied", pid);
    let before = next.count(pid, "denied");
    actor.err("setlease f u", libc::EBUSY);
    next.barrier();
    assert!(next.count(pid, "denied") > before, "{}", next.account());
    assert_eq!(enforcement.hits("r")["denied"], DENIALS + 1);
    actor.all(&["unregister-buffers ring", "setlease f u"]);
    let stopped = next.stop();
    stopped.assert_nothing_lost();
}

/// Each release gets what one of the two policies says, and is told and counted once.
#[test]
fn a_policy_swapped_under_load_is_one_or_the_other() {
    const SWAPS: usize = 6;
    const ROUND: u64 = 20;
    // That the monitor keeps up with.
    const PACE_MS: u64 = 3;
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(DENY);
    let generation = integer(&enforcement.status(), "generation");
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let pid = actor.pid();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("unregister-buffers ring");
    let mut answers = Vec::new();
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for swap in 0..SWAPS {
                enforcement.replace(if swap % 2 == 0 { REPORT } else { DENY });
            }
        });
        while !swapping.is_finished() {
            answers.push(actor.ok(&format!(
                "repeat {ROUND} setlease f w ; register-buffers ring m 0 4K ; setlease f u ; \
                 unregister-buffers ring ; sleep {PACE_MS}"
            )));
        }
        swapping.join().expect("the policies are taken");
    });
    let (mut granted, mut denied) = (0, 0);
    for answer in &answers {
        let parts: Vec<_> = answer.split("; ").collect();
        for always in [0, 1, 3] {
            assert_eq!(parts[always], format!("{ROUND} ok"), "{answer}");
        }
        let (ok, busy) = tally(parts[2]);
        granted += ok;
        denied += busy;
    }
    let all = ROUND * answers.len() as u64;
    assert_eq!(granted + denied, all, "each release has one result");
    assert!(
        granted > 0 && denied > 0,
        "{granted} granted, {denied} denied"
    );
    let status = enforcement.status();
    assert_eq!(integer(&status, "generation"), generation + SWAPS as i64);
    monitor.barrier();
    assert_eq!(monitor.count(pid, "denied") as u64, denied);
    // Let through by the policy before the one that denies.
    let late = monitor.count(pid, "failed") as u64;
    assert_eq!(monitor.count(pid, "reported") as u64 + late, granted);
    assert_eq!(monitor.count(pid, "zombie") as u64, granted);
    // Whatever the policies were: the rule has one name.
    let mut counted = serde_json::json!({ "denied": denied, "reported": granted - late });
    if late > 0 {
        counted["deny-failed"] = late.into();
    }
    assert_eq!(enforcement.hits("r"), counted);
    let stopped = monitor.stop();
    stopped.assert_nothing_lost();
}

/// Programs, maps, links and files: nothing stays, in whatever state it was.
#[test]
fn stop_removes_everything_also_after_its_sigkill() {
    let leftovers = Leftovers::before();
    let enforcement = Enforcement::start(DENY);
    let links = enforcement.status()["links"].clone();
    assert!(
        links.as_array().is_some_and(|links| links.len() > 5),
        "{links}"
    );
    enforcement.monitor().kill();
    drop(enforcement);
    retire_enforcement();
    leftovers.assert_none();
    Tool::run(&["enforce", "status"]).exits(2);
    Tool::run(&["enforce", "stop"])
        .exits(0)
        .says(&["nothing was in place"]);
    let scratch = Scratch::new();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
}

/// It goes on with the maps that it has, and ends as ever.
#[test]
fn a_monitor_outlasts_the_enforcement_that_it_reads() {
    // It reads its counters every second.
    const LOOKS: Duration = Duration::from_millis(2500);
    let enforcement = Enforcement::start(DENY);
    let monitor = enforcement.monitor();
    drop(enforcement);
    retire_enforcement();
    thread::sleep(LOOKS);
    monitor.stop().assert_nothing_lost();
    Tool::run(&["enforce", "status"]).exits(2);
}
