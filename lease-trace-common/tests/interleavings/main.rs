//! The state layer under all orders of the steps of two and three threads.

mod explore;
mod layer;
mod memory;
mod program;

use explore::explore;
use layer::Seen::{Breach, Clean, Either};
use program::{
    Placed, Program,
    Step::{self, *},
};

/// Processes.
const P: u32 = 1;
const Q: u32 = 2;

fn program(first: &[Step], threads: &[&[Step]]) -> Program {
    let in_inode = |steps: &[Step]| steps.iter().map(|step| (0, *step)).collect::<Vec<Placed>>();
    Program {
        elements: 3,
        first: in_inode(first),
        threads: threads.iter().map(|steps| in_inode(steps)).collect(),
    }
}

fn check(programs: &[Program]) {
    let is_loud = std::env::var_os("INTERLEAVINGS_SHOW").is_some();
    for program in programs {
        let start = std::time::Instant::now();
        let explored = explore(program);
        assert!(explored.ends > 0, "{program}");
        if is_loud {
            println!("{explored:?} in {:?}: {program}", start.elapsed());
        }
    }
}

#[test]
fn two_threads_pin_and_unpin() {
    check(&[
        program(&[], &[&[Pin(P, 1)], &[Pin(P, 1)]]),
        program(&[], &[&[Pin(P, 1)], &[Pin(Q, 1)]]),
        program(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[Pin(P, 1)]]),
        program(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[Pin(Q, 1)]]),
        program(&[Pin(P, 2)], &[&[Unpin(P, 1)], &[Unpin(P, 1)]]),
        program(&[Pin(P, 1), Pin(Q, 1)], &[&[UnpinUnseen(P, 1)], &[UnpinUnseen(Q, 1)]]),
        program(&[Pin(P, 1), Pin(Q, 1)], &[&[Unpin(P, 1)], &[UnpinUnseen(Q, 1)]]),
        program(&[], &[&[Pin(P, 1), Unpin(P, 1)], &[Pin(P, 2), Unpin(P, 2)]]),
        program(&[], &[&[Pin(P, 1), Unpin(P, 1)], &[Pin(Q, 2), Unpin(Q, 2)]]),
        program(&[], &[&[Pin(P, 1), UnpinUnseen(P, 1)], &[Pin(Q, 2), UnpinUnseen(Q, 2)]]),
    ]);
}

#[test]
fn two_threads_and_leases() {
    check(&[
        program(&[], &[&[Lease(P), EndLease(P, Clean)], &[Lease(P), EndLease(P, Clean)]]),
        program(&[], &[&[Lease(P), EndLease(P, Clean)], &[Lease(Q), EndLease(Q, Clean)]]),
        program(&[Lease(P)], &[&[EndLease(P, Either)], &[Pin(P, 1), Unpin(P, 1)]]),
        program(&[Lease(P), Pin(P, 1)], &[&[EndLease(P, Either)], &[Unpin(P, 1)]]),
        program(&[Pin(Q, 1)], &[&[Lease(P), Pin(P, 1), Unpin(P, 1), EndLease(P, Clean)], &[Unpin(Q, 1)]]),
        program(&[Pin(Q, 1)], &[&[Lease(P), Pin(P, 1), EndLease(P, Breach)], &[Unpin(Q, 1)]]),
    ]);
}

#[test]
fn two_threads_and_batches() {
    check(&[
        program(&[Pin(P, 4)], &[&[Unpin(P, 1), Unpin(P, 1)], &[Unpin(P, 1), Unpin(P, 1)]]),
        program(&[Pin(P, 4), Unpin(P, 1)], &[&[Unpin(P, 1), Unpin(P, 1)], &[Pin(P, 1)]]),
        program(&[Pin(P, 4), Unpin(P, 1)], &[&[Unpin(P, 1), Unpin(P, 1)], &[Pin(Q, 1)]]),
        program(&[Lease(P), Pin(P, 4), Unpin(P, 1)], &[&[Unpin(P, 3), EndLease(P, Clean)], &[Pin(Q, 1), Unpin(Q, 1)]]),
    ]);
}

#[test]
fn two_threads_and_short_terms() {
    check(&[
        program(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[PinShort(1), UnpinShort(1)]]),
        program(&[Pin(P, 2)], &[&[UnpinUnseen(P, 2)], &[PinShort(1), UnpinShort(1)]]),
        program(&[Pin(P, 1)], &[&[Pin(P, 1), Unpin(P, 2)], &[PinShort(1), UnpinShort(1)]]),
    ]);
}

#[test]
fn two_threads_and_memory_used_again() {
    check(&[
        program(&[Pin(P, 1)], &[&[Look(P), GiveStale(1)], &[Unpin(P, 1), Pin(Q, 1)]]),
        program(&[Pin(P, 1)], &[&[Look(P), GiveStale(1)], &[Unpin(P, 1), Lease(Q), EndLease(Q, Clean)]]),
        program(&[Pin(P, 1)], &[&[Look(P), LeaseStale], &[Unpin(P, 1), Pin(Q, 1)]]),
    ]);
}

#[test]
fn two_threads_and_older_pins() {
    check(&[
        program(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[UnpinOld(1)]]),
        program(&[Pin(P, 2), Pin(Q, 1)], &[&[UnpinUnseen(Q, 1), Unpin(P, 1)], &[UnpinOld(1)]]),
        program(&[Pin(P, 4), Unpin(P, 1)], &[&[Unpin(P, 1), Unpin(P, 1)], &[UnpinOld(3)]]),
    ]);
}

#[test]
fn two_threads_without_memory() {
    check(&[
        Program { elements: 1, ..program(&[], &[&[Pin(P, 1), Unpin(P, 1)], &[Pin(Q, 1), Unpin(Q, 1)]]) },
        Program { elements: 1, ..program(&[Pin(P, 2)], &[&[UnpinUnseen(P, 2)], &[Pin(Q, 1), UnpinUnseen(Q, 1)]]) },
    ]);
}

#[test]
fn three_threads() {
    check(&[
        program(&[], &[&[Pin(P, 1)], &[Pin(P, 1)], &[Pin(Q, 1)]]),
        program(&[Pin(P, 1), Pin(Q, 1)], &[&[UnpinUnseen(P, 1)], &[UnpinUnseen(Q, 1)], &[Pin(P, 1)]]),
        program(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[Pin(Q, 1)], &[PinShort(1)]]),
        program(&[Pin(P, 3)], &[&[Unpin(P, 1)], &[Unpin(P, 1)], &[Pin(Q, 1)]]),
        program(&[Lease(P), Pin(P, 1)], &[&[EndLease(P, Either)], &[Unpin(P, 1)], &[Pin(Q, 1)]]),
        program(&[Pin(P, 1)], &[&[Look(P), GiveStale(1)], &[Unpin(P, 1)], &[Lease(Q), EndLease(Q, Clean)]]),
    ]);
}
