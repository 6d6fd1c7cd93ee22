//! The adversary: a user without privileges makes random calls over leases, pins, descriptors and mappings, and
//! tries to end up with pins and no lease unnoticed, to have somebody else refused or killed, to leave something
//! behind, or to make a call long. What he is held to is plain: what he has done is not known here, but what comes
//! of it is told by the kernel's own counters, /proc/locks, and those who keep the rules beside him.
//!
//! `ADVERSARY_OPS` and `ADVERSARY_SEED` say how many calls and which; `cargo xtask adversary` sets them.

mod call;
mod watch;

use std::env;
use std::time::{Duration, Instant};

use crate::harness::number_in_env as number;
use call::Calls;
use watch::Watch;

/// How many calls, where nobody says, and how long they may take.
const OPS: u32 = 1500;
const LIMIT: Duration = Duration::from_mins(1);
/// Chooses the calls, where nobody says.
const SEED: u64 = 3;
/// Calls of one set of processes, so that a finding is no longer than this.
const ROUND: u32 = 40;
/// After so many rounds it is looked whether rules still apply to others.
const BETWEEN_VICTIMS: u32 = 50;

#[test]
fn finds_nothing() {
    let seed = number("ADVERSARY_SEED", SEED);
    let (ops, limit) = match env::var_os("ADVERSARY_OPS") {
        Some(_) => (number("ADVERSARY_OPS", OPS), Duration::MAX),
        None => (OPS, LIMIT),
    };
    let mut watch = Watch::new();
    let mut calls = Calls::new(seed);
    let (begun, mut done, mut rounds) = (Instant::now(), 0, 0);
    while done < ops && begun.elapsed() < limit {
        let mut said = Vec::new();
        watch.begin();
        calls.begin();
        let mut found = Ok(());
        for _ in 0..ROUND {
            let call = calls.next();
            said.push(call.to_string());
            done += 1;
            found = watch.step(&call, &mut calls);
            if found.is_err() || watch.is_over() {
                break;
            }
        }
        let found = found.and_then(|()| watch.end());
        if let Err(finding) = found {
            panic!(
                "seed {seed}, call {done}: {finding}\nThe calls of these processes:\n{}",
                said.join("\n")
            );
        }
        rounds += 1;
        if rounds % BETWEEN_VICTIMS == 0 {
            watch.others_are_judged();
        }
    }
    watch.others_are_judged();
    eprintln!(
        "seed {seed}: {done} calls in {rounds} rounds, {:.1} s; {:?}",
        begun.elapsed().as_secs_f64(),
        watch.seen
    );
}
