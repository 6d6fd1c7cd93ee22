//! The kinds of hooks, and which one a point gets: the one that misses least on this kernel.

use super::AttachMode;
use crate::kernel::{
    bpf::Kind,
    btf::Btf,
    link::End,
    points::Point,
    preemption::{Preemption, Returns},
};

/// How a point is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// fentry, and fexit for the return.
    Trampoline,
    /// kprobe and kretprobe.
    Probe,
    /// kprobe.multi and kretprobe.multi.
    Multi,
    /// kprobe.multi, and fexit for the return.
    MultiExit,
}

/// One of a point's programs: what follows the point's stem in its name, and what it is loaded as.
pub struct Part {
    pub suffix: &'static str,
    pub kind: Kind,
    pub end: End,
}

impl Part {
    /// Whether it is passed when the function returns.
    pub const fn is_return(&self) -> bool {
        matches!(self.end, End::Return)
    }
}

impl Hook {
    /// `fexit`
    pub const fn name_of_return(self) -> &'static str {
        match self {
            Self::Trampoline | Self::MultiExit => "fexit",
            Self::Probe => "kretprobe",
            Self::Multi => "kretprobe.multi",
        }
    }

    /// `fentry+fexit`
    pub const fn name(self, returns: bool) -> &'static str {
        match (self, returns) {
            (Self::Trampoline, true) => "fentry+fexit",
            (Self::Trampoline, false) => "fentry",
            (Self::Probe, true) => "kprobe+kretprobe",
            (Self::Probe, false) => "kprobe",
            (Self::Multi, true) => "kprobe.multi+kretprobe.multi",
            (Self::MultiExit, true) => "kprobe.multi+fexit",
            (Self::Multi | Self::MultiExit, false) => "kprobe.multi",
        }
    }

    /// Whether the kernel passes it over while bpf(2) reads a map on that CPU.
    pub const fn has_kprobe(self) -> bool {
        !matches!(self, Self::Trampoline)
    }

    /// Its programs, in the order in which they are attached: the return goes first, so that a call whose
    /// entry was seen is always seen to leave.
    pub fn parts(self, returns: bool) -> impl Iterator<Item = Part> {
        let (entry, exit) = match self {
            Self::Trampoline => (("enter", Kind::Entry), ("leave", Kind::Exit)),
            Self::Probe => (("probe", Kind::Kprobe), ("ret", Kind::Kprobe)),
            Self::Multi => (("probe", Kind::KprobeMulti), ("ret", Kind::KprobeMulti)),
            Self::MultiExit => (("probe", Kind::KprobeMulti), ("leave", Kind::Exit)),
        };
        let part = |(suffix, kind), end| Part { suffix, kind, end };
        let last = part(entry, End::Entry);
        let first = returns.then(|| part(exit, End::Return));
        first.into_iter().chain([last])
    }
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub preemption: Preemption,
    pub returns: Returns,
}

impl Host {
    /// Asks the running kernel.
    pub fn ask(types: &Btf) -> Self {
        Self {
            preemption: Preemption::ask(),
            returns: Returns::of(types),
        }
    }

    /// Whether the entry of a call may be seen by a kprobe and its return by fexit.
    pub const fn mixes(self, mode: AttachMode) -> bool {
        matches!((mode, self.returns), (AttachMode::Auto, Returns::Pool))
            && self.preemption.may_miss()
            && !self.preemption.may_miss_locked()
    }

    /// Whether no task is preempted inside this function.
    const fn is_exact(self, point: &Point) -> bool {
        !self.preemption.may_miss() || point.locked && !self.preemption.may_miss_locked()
    }

    /// The kinds to try for a point, the best first, and why that one is.
    pub const fn order(self, mode: AttachMode, point: &Point) -> (&'static [Hook], &'static str) {
        match mode {
            AttachMode::Fentry => (&[Hook::Trampoline], ASKED),
            AttachMode::Kprobe => (&[Hook::Probe], ASKED),
            AttachMode::Multi => (&[Hook::Multi], ASKED),
            AttachMode::Auto if point.returns_only => {
                (&[Hook::Trampoline, Hook::Multi, Hook::Probe], CHEAPEST)
            }
            AttachMode::Auto if self.is_exact(point) => {
                (&[Hook::Trampoline, Hook::Probe], self.why_exact())
            }
            AttachMode::Auto => {
                let real_time = self.preemption.may_miss_locked();
                let order: &[Hook] = match (self.returns, point.returns) {
                    (Returns::None, true) if real_time => &[Hook::Probe, Hook::Trampoline],
                    (Returns::None, false) if self.preemption.is_known() => {
                        &[Hook::Probe, Hook::Trampoline]
                    }
                    (Returns::None, _) => &[Hook::Trampoline, Hook::Probe],
                    (Returns::Pool, true) if !real_time => {
                        &[Hook::MultiExit, Hook::Trampoline, Hook::Multi, Hook::Probe]
                    }
                    (Returns::Pool | Returns::Unlimited, _) => {
                        &[Hook::Multi, Hook::Trampoline, Hook::Probe]
                    }
                };
                (order, self.why())
            }
        }
    }

    const fn why_exact(self) -> &'static str {
        if self.preemption.may_miss() {
            "it is called under a spinlock, where no task is preempted"
        } else {
            "no task is preempted inside fentry here"
        }
    }

    /// Why the points that are not called under a spinlock get what they get.
    pub const fn why(self) -> &'static str {
        match (self.preemption, self.returns) {
            (Preemption::Never, _) => self.why_exact(),
            (Preemption::Unknown, Returns::None) => {
                "whether tasks are preempted inside fentry is not known, and this kernel has no \
                 kprobe.multi"
            }
            (Preemption::RealTime, Returns::None) => {
                "tasks are preempted inside fentry and fexit, which then miss many calls under load, and \
                 this kernel has no kprobe.multi; inside a kprobe they are not; a kretprobe takes only \
                 some calls at once"
            }
            (_, Returns::None) => {
                "tasks are preempted inside fentry, which misses calls, and this kernel has no \
                 kprobe.multi; inside a kprobe they are not; fexit for returns, since a kretprobe \
                 takes only some calls at once"
            }
            (Preemption::Unknown, Returns::Unlimited) => {
                "whether tasks are preempted inside fentry is not known; inside kprobe.multi they are not"
            }
            (_, Returns::Unlimited) => {
                "tasks are preempted inside fentry, which misses calls; inside kprobe.multi they are not"
            }
            (Preemption::RealTime, Returns::Pool) => {
                "tasks are preempted inside fentry and fexit, which then miss many calls under load; inside \
                 kprobe.multi they are not; kretprobe.multi takes only two calls at once for each CPU"
            }
            (_, Returns::Pool) => {
                "tasks may be preempted inside fentry, and are not inside kprobe.multi; fexit for \
                 returns, since kretprobe.multi takes only two calls at once for each CPU"
            }
        }
    }
}

const ASKED: &str = "asked for";
const CHEAPEST: &str = "it costs least, and little depends on it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::points::POINTS;

    fn first(host: Host, function: &str) -> &'static str {
        let mut points = POINTS.iter();
        let point = points.find(|point| point.function == function);
        let point = point.unwrap_or_else(|| panic!("no {function}"));
        let (order, _) = host.order(AttachMode::Auto, point);
        order[0].name(point.returns)
    }

    fn kinds(preemption: Preemption, returns: Returns) -> [&'static str; 3] {
        let host = Host {
            preemption,
            returns,
        };
        ["unpin_user_page", "pin_user_pages", "lease_modify"].map(|function| first(host, function))
    }

    #[test]
    fn a_kernel_that_preempts_no_task_has_what_costs_least() {
        for returns in [Returns::Unlimited, Returns::Pool, Returns::None] {
            assert_eq!(
                kinds(Preemption::Never, returns),
                ["fentry", "fentry+fexit", "fentry"]
            );
        }
    }

    #[test]
    fn one_that_does_has_kprobe_multi_but_under_a_spinlock() {
        for preemption in [Preemption::Tasks, Preemption::Unknown] {
            assert_eq!(
                kinds(preemption, Returns::Unlimited),
                ["kprobe.multi", "kprobe.multi+kretprobe.multi", "fentry"]
            );
            assert_eq!(
                kinds(preemption, Returns::Pool),
                ["kprobe.multi", "kprobe.multi+fexit", "fentry"]
            );
        }
    }

    #[test]
    fn where_there_is_none_a_kprobe_is_taken_if_tasks_are_known_to_be_preempted() {
        let kinds = |preemption| kinds(preemption, Returns::None);
        assert_eq!(
            kinds(Preemption::Tasks),
            ["kprobe", "fentry+fexit", "fentry"]
        );
        assert_eq!(
            kinds(Preemption::Unknown),
            ["fentry", "fentry+fexit", "fentry"]
        );
    }

    #[test]
    fn under_a_spinlock_that_sleeps_it_is_as_elsewhere() {
        for (returns, kind) in [
            (Returns::Unlimited, "kprobe.multi"),
            (Returns::Pool, "kprobe.multi"),
            (Returns::None, "kprobe"),
        ] {
            assert_eq!(kinds(Preemption::RealTime, returns)[2], kind);
        }
    }

    #[test]
    fn where_spinlocks_sleep_fexit_misses_more_than_the_pool_does() {
        for (returns, kind) in [
            (Returns::Pool, "kprobe.multi+kretprobe.multi"),
            (Returns::None, "kprobe+kretprobe"),
        ] {
            assert_eq!(kinds(Preemption::RealTime, returns)[1], kind);
        }
        let mixes = |preemption| {
            let returns = Returns::Pool;
            let host = Host {
                preemption,
                returns,
            };
            host.mixes(AttachMode::Auto)
        };
        assert!(mixes(Preemption::Tasks));
        assert!(!mixes(Preemption::RealTime));
    }

    #[test]
    fn what_is_asked_for_is_the_only_one() {
        let host = Host {
            preemption: Preemption::Never,
            returns: Returns::Unlimited,
        };
        for (mode, hook) in [
            (AttachMode::Fentry, Hook::Trampoline),
            (AttachMode::Kprobe, Hook::Probe),
            (AttachMode::Multi, Hook::Multi),
        ] {
            for point in POINTS {
                assert_eq!(host.order(mode, point).0, [hook]);
            }
        }
    }

    #[test]
    fn the_return_goes_first() {
        let ends = |returns| {
            let parts = Hook::MultiExit.parts(returns);
            parts.map(|part| part.suffix).collect::<Vec<_>>()
        };
        assert_eq!(ends(true), ["leave", "probe"]);
        assert_eq!(ends(false), ["probe"]);
    }
}
