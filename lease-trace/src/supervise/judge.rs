//! What is done about a call that would release a lease with pins left: the same for all, or what
//! the first rule of a policy says that matches.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use lease_trace_common::{
    cause::Cause,
    policy::{Action, Mode, Rule, RuleFacts, cause_bit, kind_bit, mode_bit, on},
    stake::pins,
};

use crate::{
    enrich::{Names, cgroup::Cgroups, process},
    policy::{Compiled, comm, resolve},
    tracer::snapshot::StakeView,
};

/// Who decides.
pub enum Judge {
    /// The same of all.
    All(Action),
    Policy(Compiled),
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub action: Action,
    /// The rule that says so.
    pub rule: Option<String>,
    /// False: it is only told what would be done.
    pub enforced: bool,
}

impl Judge {
    /// `stake` is that of the process whose pins would be left; `cause`, how the lease would go.
    pub fn decide(&self, stake: &StakeView, cause: Cause, names: &mut Names) -> Decision {
        match self {
            Self::All(action) => Decision {
                action: *action,
                rule: None,
                enforced: true,
            },
            Self::Policy(policy) => {
                let facts = facts(stake, cause);
                let mut first = |mode| {
                    policy.rules.iter().find(|rule| {
                        rule.mode() == mode
                            && rule.admits(&facts)
                            && matches(rule, policy, stake, names)
                    })
                };
                // What only audits is told where nothing is done.
                let rule = first(Mode::Enforce).or_else(|| first(Mode::Audit));
                Decision {
                    action: rule.map_or(Action::Report, |rule| Action::from_raw(rule.action)),
                    rule: rule.map(|rule| String::from_utf8_lossy(rule.name()).into_owned()),
                    enforced: rule.is_none_or(|rule| rule.mode() == Mode::Enforce),
                }
            }
        }
    }
}

fn facts(view: &StakeView, cause: Cause) -> RuleFacts {
    let stake = &view.stake;
    let comm = comm::words(&stake.owner.comm);
    RuleFacts {
        on: on::ZOMBIE,
        kind: kind_bit(stake.lease.kind()),
        mode: mode_bit(stake.lease.mode),
        cause: cause_bit(cause as u32),
        pins: pins(stake.word),
        uid: stake.owner.uid,
        gid: process::gid(view.key.tgid).unwrap_or(u32::MAX),
        comm,
        comm_before: comm,
    }
}

/// What cannot be told from numbers alone.
fn matches(rule: &Rule, policy: &Compiled, view: &StakeView, names: &mut Names) -> bool {
    let in_cgroup = rule.cgroup == 0 || is_in_cgroup(rule, view, &mut names.cgroups);
    let below = rule.path_ino == 0 || is_below(rule, view);
    in_cgroup && below && (rule.consumers == 0 || is_by(rule, policy, view, names))
}

fn is_in_cgroup(rule: &Rule, view: &StakeView, cgroups: &mut Cgroups) -> bool {
    let path = cgroups.path(view.stake.owner.cgroup, view.key.tgid);
    let Some(path) = path.map(str::to_owned) else {
        return false;
    };
    let above: PathBuf = Path::new(&path)
        .components()
        .take(rule.cgroup_level as usize + 1)
        .collect();
    cgroups
        .locate(&above)
        .is_ok_and(|found| found.id == rule.cgroup)
}

/// By the path under which the file was leased or pinned.
fn is_below(rule: &Rule, view: &StakeView) -> bool {
    let Some(path) = &view.inode.path else {
        return false;
    };
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    path.ancestors().any(|above| {
        resolve::place(above)
            .is_ok_and(|place| (place.dev, place.ino) == (rule.path_dev, rule.path_ino))
    })
}

fn is_by(rule: &Rule, policy: &Compiled, view: &StakeView, names: &mut Names) -> bool {
    let Some(consumer) = names.consumer(&view.stake.stack) else {
        return false;
    };
    let number = policy.consumers.iter().position(|name| *name == consumer);
    number.is_some_and(|number| rule.consumers & 1 << (number + 1) != 0)
}
