//! Rules that never match, because one before matches everything they do.

use lease_trace_common::policy::{Rule, on};

use super::compile::Meaning;

/// A rule and what is known of it.
pub type Known<'a> = (&'a Rule, &'a Meaning);

/// Whether `earlier` matches everything that `later` matches, and takes it from it: one that only audits takes
/// nothing from those that do not. When in doubt it does not.
pub fn covers(earlier: Known<'_>, later: Known<'_>) -> bool {
    let ((first, first_means), (second, second_means)) = (earlier, later);
    let within = |outer: [u32; 2], inner: [u32; 2]| outer[0] <= inner[0] && inner[1] <= outer[1];
    let zombies = second.on & on::ZOMBIE != 0;
    let word = |i: usize| {
        let mask = first.comm_mask[i];
        second.comm_mask[i] & mask == mask && second.comm_bits[i] & mask == first.comm_bits[i]
    };
    first.audits == second.audits
        && second.on & !first.on == 0
        && (!zombies
            || second.kinds & !first.kinds == 0
                && second.modes & !first.modes == 0
                && second.causes & !first.causes == 0)
        && first.min_pins <= second.min_pins
        && within(first.uid, second.uid)
        && within(first.gid, second.gid)
        && word(0)
        && word(1)
        && (first.consumers == 0
            || second.consumers != 0 && second.consumers & !first.consumers == 0)
        && in_path(first_means, second_means)
        && in_cgroup(first_means, second_means)
}

/// The walk to the top of a file system stays in it, so a path on another one is not below.
fn in_path(first: &Meaning, second: &Meaning) -> bool {
    match (&first.path, &second.path) {
        (None, _) => true,
        (Some(outer), Some(inner)) => outer.dev == inner.dev && inner.path.starts_with(&outer.path),
        (Some(_), None) => false,
    }
}

fn in_cgroup(first: &Meaning, second: &Meaning) -> bool {
    match (&first.cgroup, &second.cgroup) {
        (None, _) => true,
        (Some(outer), Some(inner)) => inner.path.starts_with(&outer.path),
        // Every process is below the root.
        (Some(outer), None) => outer.level == 0,
    }
}
