//! `enforce start` and `enforce stop` ended by SIGKILL between two steps: what stays behind is told,
//! and goes.

use std::fs;

use crate::harness::{Leftovers, Scratch, Step, Tool, kill_before, retire_enforcement, steps};

const LINKS: &str = "/sys/fs/bpf/lease-trace/links";
const STRICT: &str = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\n\
                      fallback = \"kill\"\n";

/// A start takes seconds in a guest.
const MOST: usize = 8;

fn links() -> usize {
    fs::read_dir(LINKS).map_or(0, Iterator::count)
}

/// The last step, and of those at which a run of steps of one kind begins a few, from the first
/// directory on: what comes before is in maps that nobody else has.
fn moments(steps: &[Step]) -> Vec<usize> {
    let first = steps.iter().position(|step| *step == Step::Directory);
    let first = first.expect("a directory is made");
    let begins = |at: &usize| steps.get(at - 1) != steps.get(*at);
    let runs: Vec<_> = (first.max(1)..steps.len()).filter(begins).collect();
    let every = runs.len().div_ceil(MOST);
    let chosen = runs.into_iter().step_by(every);
    chosen.chain([steps.len() - 1]).collect()
}

/// What is attached is told, whatever else is there, and `stop` removes it.
#[test]
fn a_start_that_was_cut_off_is_told_and_removed() {
    retire_enforcement();
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let policy = scratch.file("p.toml");
    fs::write(&policy, STRICT).expect("writes the policy");
    let start = ["enforce", "start", "--policy", &policy];
    let all = steps(&start);
    Tool::run(&["enforce", "status"]).exits(0);
    Tool::run(&["enforce", "stop"]).exits(0);
    let moments = moments(&all);
    eprintln!("{} steps, ended before {moments:?}", all.len());
    let mut with_links = 0;
    for moment in moments {
        kill_before(&start, moment);
        let attached = links();
        let status = Tool::run(&["enforce", "status"]).exits(2);
        let step = all[moment];
        eprintln!(
            "before {moment} ({step:?}): {attached} links; {}",
            status.stderr
        );
        if attached > 0 {
            with_links += 1;
            assert!(
                status.stderr.contains("was cut off"),
                "{attached} links before step {moment}, {step:?}\n{status}"
            );
        }
        Tool::run(&["enforce", "stop"]).exits(0);
        leftovers.assert_none();
    }
    assert!(with_links > 2, "{with_links}");
    // Or another start does.
    kill_before(&start, all.len() - 1);
    let again = Tool::run(&start).exits(0);
    assert!(again.stderr.contains("enforcement is in place"), "{again}");
    Tool::run(&["enforce", "status"]).exits(0);
    Tool::run(&["enforce", "stop"]).exits(0);
    leftovers.assert_none();
}

/// What a stop has left is not taken for enforcement that is whole.
#[test]
fn a_stop_that_was_cut_off_is_told_and_goes_on() {
    retire_enforcement();
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let policy = scratch.file("p.toml");
    fs::write(&policy, STRICT).expect("writes the policy");
    Tool::run(&["enforce", "start", "--policy", &policy]).exits(0);
    let whole = links();
    let stop = ["enforce", "stop"];
    let removals = steps(&stop);
    let first = removals.iter().position(|step| *step == Step::Removal);
    let first = first.expect("something is removed");
    leftovers.assert_none();

    Tool::run(&["enforce", "start", "--policy", &policy]).exits(0);
    kill_before(&stop, first + 3);
    let left = links();
    assert!((1..whole).contains(&left), "{left} of {whole}");
    let status = Tool::run(&["enforce", "status"]).exits(2);
    assert!(status.stderr.contains("was cut off"), "{status}");
    Tool::run(&stop).exits(0);
    leftovers.assert_none();
}
