//! The oracle: random steps of several processes with leases and pins, and after each of them what
//! the product says, held against a plain model and the kernel's own figures.
//!
//! `ORACLE_OPS` and `ORACLE_SEED` say how many steps and which; `cargo xtask oracle` sets them. Without
//! them it is [`OPS`], always the same, or as many as there is time for.

mod model;
mod op;
mod run;
mod told;
mod world;

use std::env;
use std::time::{Duration, Instant};

use crate::harness::number_in_env as number;
use model::Fault;
use op::Op;
use run::{Chooser, Failure, choose_and_run, listing, shorten};
use world::World;

/// How many steps, where nobody says, and how long they may take.
const OPS: usize = 3000;
const LIMIT: Duration = Duration::from_mins(3);
/// Chooses the steps, where nobody says.
const SEED: u64 = 5;
/// How long a failure may be shortened.
const PATIENCE: Duration = Duration::from_mins(3);

/// Steps that are shown as they were, before they are shortened.
const LAST: usize = 50;

/// So many steps must have come to all of [`COME_UP`], or they are chosen badly.
const ENOUGH: usize = 4000;
const COME_UP: [&str; 20] = [
    "lease-set",
    "lease-end",
    "zombie",
    "at-rest",
    "bare-pin",
    "bare-pin-end",
    "leased row",
    "covered row",
    "zombie row",
    "bare-pin row",
    "orphaned-pin row",
    "breaking row",
    "lease-end by unlock",
    "lease-end by close",
    "lease-end by dup2",
    "lease-end by close_range",
    "lease-end by exit",
    "lease-end by io_uring",
    "lease-end by break-timeout",
    "lease-end by other",
];

#[test]
fn it_agrees_with_the_product() {
    let seed = number("ORACLE_SEED", SEED);
    let (ops, limit) = match env::var_os("ORACLE_OPS") {
        Some(_) => (number("ORACLE_OPS", OPS), Duration::MAX),
        None => (OPS, LIMIT),
    };
    let mut world = World::new();
    let mut chooser = Chooser::new(seed);
    let (begun, mut done) = (Instant::now(), 0);
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let failure = match choose_and_run(&mut world, &mut chooser, ops - done, left, None) {
            Ok(steps) => break done += steps,
            Err(failure) => failure,
        };
        done += failure.ops.len();
        // The product has said that it may be wrong: a monitor that has missed nothing decides.
        let was_missed = world.missed_by;
        if was_missed {
            world = world.renew();
        }
        let found = format!("seed {seed}, step {done}");
        let Failure { ops, difference } = &failure;
        eprintln!(
            "{found}: {difference}\nThe last steps before:\n{}",
            listing(&ops[ops.len().saturating_sub(LAST)..])
        );
        match shorten(&mut world, ops, None, PATIENCE) {
            Some(shorter) if !world.missed_by => panic!(
                "{found}: {difference}\nThese steps are enough:\n{}{}",
                listing(&shorter.ops),
                shorter.difference
            ),
            _ if was_missed => {
                eprintln!("{found}: hooks were missed, and not again; there it was: {difference}");
            }
            _ => panic!(
                "{found}, and not again from its steps alone; the last of them:\n{}{difference}",
                listing(&ops[ops.len().saturating_sub(LAST)..]),
            ),
        }
        world = world.renew();
    }
    let (ops, took) = (done, begun.elapsed());
    eprintln!(
        "seed {seed}: {ops} steps in {:.1} s, {:.1} ms each; agreed on {:?}",
        took.as_secs_f64(),
        took.as_secs_f64() * 1000.0 / ops.max(1) as f64,
        world.agreed
    );
    if ops >= ENOUGH {
        for what in COME_UP {
            assert!(world.agreed.contains_key(what), "no {what} in {ops} steps");
        }
    }
    world.clear();
}

/// The most that a shortened sequence may have: none of its steps can be left out, but a shorter one
/// of other steps may exist.
const SHORT: usize = 10;

/// A mistake in the model stands for one in the product: it is found, and little is left of the
/// sequence.
#[test]
fn an_unpin_too_few_is_found_and_shortened() {
    let ops = shortened(Fault::ForgetUnpin);
    assert!(matches!(ops.last(), Some(Op::Unpin { .. })), "{ops:?}");
    assert!(ops.len() <= SHORT, "{}", listing(&ops));
}

#[test]
fn a_record_that_is_missing_is_found_and_shortened() {
    let ops = shortened(Fault::DropZombie);
    let is_there = |wanted: fn(&Op) -> bool| ops.iter().any(wanted);
    assert!(is_there(|op| matches!(op, Op::Lease { .. })), "{ops:?}");
    assert!(is_there(|op| matches!(op, Op::Pin { .. })), "{ops:?}");
    assert!(ops.len() <= SHORT, "{}", listing(&ops));
}

fn shortened(fault: Fault) -> Vec<Op> {
    let mut world = World::new();
    let mut chooser = Chooser::new(SEED);
    let found = choose_and_run(&mut world, &mut chooser, OPS, LIMIT, Some(fault));
    let failure = found.expect_err("the fault is found");
    let shorter = shorten(&mut world, &failure.ops, Some(fault), PATIENCE).expect("it comes again");
    eprintln!(
        "{fault:?}: found at step {}, {} steps are enough:\n{}{}",
        failure.ops.len(),
        shorter.ops.len(),
        listing(&shorter.ops),
        shorter.difference
    );
    world.clear();
    shorter.ops
}
