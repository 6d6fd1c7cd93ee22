//! The kernel side: what a hook sees goes through track to the state, and back by effects. Only what
//! judges can deny or signal, and only kernel/ reads kernel memory.

use crate::{Rule, breaches, circle, sources, top};

const RULES: [Rule; 12] = [
    (
        "hooks",
        &[
            "judge", "survey", "track", "effects", "show", "state", "kernel", "bpf",
        ],
    ),
    ("judge", &["survey", "effects", "state", "kernel", "bpf"]),
    ("survey", &["track", "state", "kernel", "bpf"]),
    ("track", &["state", "kernel", "bpf"]),
    ("track/react", &["effects", "state", "kernel", "bpf"]),
    ("effects", &["state", "kernel", "bpf"]),
    ("show", &["track/path", "state", "kernel", "bpf"]),
    // Kernel addresses are kept there, and never followed.
    ("state", &["kernel/pointer", "bpf"]),
    ("kernel", &["bpf"]),
    ("bpf", &[]),
    // The root of an object of its own, which has nothing of the others.
    ("pins", &["owners"]),
    ("owners", &["kernel", "bpf"]),
];

#[test]
fn the_kernel_side_keeps_its_rules() {
    let files = sources("lease-trace-ebpf").files();
    let mut directories: Vec<_> = files.keys().map(|file| top(file)).collect();
    directories.dedup();
    let mut known: Vec<_> = RULES.iter().map(|(name, _)| top(name)).collect();
    known.push(crate::graph::ROOT);
    known.sort_unstable();
    known.dedup();
    assert_eq!(
        directories, known,
        "a directory without rules, or rules without one"
    );
    let found = breaches(&files, &RULES);
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn the_kernel_side_has_no_circle() {
    if let Some(shown) = circle(&sources("lease-trace-ebpf").files()) {
        panic!("{shown}");
    }
}
