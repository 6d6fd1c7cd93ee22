//! Sequences: chosen, run step by step against the model, and shortened once they fail.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::model::{Fault, Model};
use super::op::{self, Op};
use super::world::World;

/// A sequence on which the product and the model differ.
#[derive(Debug)]
pub struct Failure {
    /// Up to the step after which they do.
    pub ops: Vec<Op>,
    pub difference: String,
}

/// After how many steps a long run says how far it is.
const PROGRESS: usize = 10_000;

/// Steps chosen at random.
pub struct Chooser(TestRunner);

impl Chooser {
    /// The same seed chooses the same steps from the same answers.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self(TestRunner::new_with_rng(Config::default(), rng))
    }

    fn next(&mut self, model: &Model) -> Op {
        // What mostly leads nowhere is done now and then.
        let any = (op::any_op(), proptest::bool::weighted(0.05));
        loop {
            let tree = any.new_tree(&mut self.0).expect("it rejects nothing");
            let (op, anyway) = tree.current();
            if model.allows(op) && (anyway || model.leads_somewhere(op)) {
                return op;
            }
        }
    }
}

/// Does so many steps, as far as there is time, and returns how many it did.
pub fn choose_and_run(
    world: &mut World,
    chooser: &mut Chooser,
    count: usize,
    limit: Duration,
    fault: Option<Fault>,
) -> Result<usize, Failure> {
    let begun = Instant::now();
    let mut model = Model::new(fault);
    let mut ops = Vec::new();
    while ops.len() < count && begun.elapsed() < limit {
        let op = chooser.next(&model);
        ops.push(op);
        if let Err(difference) = step(world, &mut model, op) {
            return Err(Failure { ops, difference });
        }
        if ops.len().is_multiple_of(PROGRESS) {
            eprintln!(
                "{} steps in {:.0} s",
                ops.len(),
                begun.elapsed().as_secs_f64()
            );
        }
    }
    Ok(ops.len())
}

/// Does those steps of a sequence that can be done, from nothing.
fn run(world: &mut World, ops: &[Op], fault: Option<Fault>) -> Result<(), Failure> {
    world.clear();
    let mut model = Model::new(fault);
    let mut done = Vec::new();
    for op in ops {
        if !model.allows(*op) {
            continue;
        }
        done.push(*op);
        if let Err(difference) = step(world, &mut model, *op) {
            return Err(Failure {
                ops: done,
                difference,
            });
        }
    }
    Ok(())
}

fn step(world: &mut World, model: &mut Model, op: Op) -> Result<(), String> {
    let answer = world.perform(op, model)?;
    let told = model.apply(op, answer);
    world.compare(op, model, told)
}

/// Leaves out what the failure does not need, for so long at most. `None`: it did not come again.
pub fn shorten(
    world: &mut World,
    ops: &[Op],
    fault: Option<Fault>,
    limit: Duration,
) -> Option<Failure> {
    let deadline = Instant::now() + limit;
    let mut shortest = last_steps(world, ops, fault, deadline)?;
    let mut size = shortest.ops.len().div_ceil(2);
    loop {
        let before = shortest.ops.len();
        let mut start = 0;
        while start < shortest.ops.len() {
            if Instant::now() > deadline {
                return Some(shortest);
            }
            let end = (start + size).min(shortest.ops.len());
            let without = [&shortest.ops[..start], &shortest.ops[end..]].concat();
            match run(world, &without, fault) {
                Err(shorter) => shortest = shorter,
                Ok(()) => start = end,
            }
        }
        if size > 1 {
            size /= 2;
        } else if shortest.ops.len() == before {
            return Some(shortest);
        }
    }
}

/// The failure within as few of the last steps as bring it back.
fn last_steps(
    world: &mut World,
    ops: &[Op],
    fault: Option<Fault>,
    deadline: Instant,
) -> Option<Failure> {
    let mut count = 32;
    loop {
        let last = &ops[ops.len().saturating_sub(count)..];
        if let Err(failure) = run(world, last, fault) {
            return Some(failure);
        }
        if last.len() == ops.len() || Instant::now() > deadline {
            return None;
        }
        count *= 2;
    }
}

/// Steps as people read them, numbered.
pub fn listing(ops: &[Op]) -> String {
    let mut text = String::new();
    for (number, op) in ops.iter().enumerate() {
        let _ = writeln!(text, "{:>4}. {op}", number + 1);
    }
    text
}
