//! How long the kernel's verifier walks through each program: it refuses one that takes more than a million
//! instructions (`BPF_COMPLEXITY_LIMIT_INSNS`, include/linux/bpf.h), and what it takes grows from kernel to kernel.

use std::collections::BTreeSet;

use aya::programs::loaded_programs;

use crate::harness::{Enforcement, Monitor, Scratch, no_monitor, retire_enforcement};

/// Half again as many as the largest program takes, so that what comes near the kernel's limit is seen long before.
const MOST: u32 = 80_000;
/// Programs that a failure names.
const SHOWN: usize = 5;
/// A monitor has more programs than this on each kernel.
const MANY: usize = 25;

fn loaded() -> BTreeSet<u32> {
    let programs = loaded_programs().map(|program| program.expect("its facts").id());
    programs.collect()
}

/// None of the programs that are loaded now, and were not `before`, takes the verifier too long.
#[track_caller]
fn assert_walked_soon(before: &BTreeSet<u32>) {
    let mut walked: Vec<(u32, String)> = loaded_programs()
        .map(|program| program.expect("its facts"))
        .filter(|program| !before.contains(&program.id()))
        .map(|program| {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            let walked = program.verified_instruction_count();
            (walked.expect("since Linux 5.16"), name)
        })
        .collect();
    walked.sort_unstable_by(|one, other| other.cmp(one));
    assert!(walked.len() > MANY, "{walked:?}");
    assert!(
        walked[0].0 <= MOST,
        "of {} programs: {:?}",
        walked.len(),
        &walked[..SHOWN]
    );
}

#[test]
fn no_program_of_a_monitor_comes_near_the_limit() {
    no_monitor();
    retire_enforcement();
    let before = loaded();
    let _monitor = Monitor::that_logs(&["--all-events"]);
    assert_walked_soon(&before);
}

/// With rules of each kind, which nobody is meant by.
#[test]
fn no_program_of_an_enforcement_comes_near_the_limit() {
    let scratch = Scratch::new();
    let nobody_s = format!("match.path = \"{}\"", scratch.file(""));
    no_monitor();
    retire_enforcement();
    let before = loaded();
    let policy = format!(
        "mode = \"enforce\"\n\
         [[rule]]\nname = \"deny\"\n{nobody_s}\naction = \"deny\"\nfallback = \"kill\"\n\
         [[rule]]\nname = \"bare\"\non = [\"bare-pin\"]\n{nobody_s}\n\
         match.consumer = [\"io_uring\"]\naction = \"kill\"\n"
    );
    let _enforcement = Enforcement::that_logs(&policy, &[]);
    assert_walked_soon(&before);
}
