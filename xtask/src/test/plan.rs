//! What is run where: the attach modes that all scenarios run in, and what is left out.

use super::places::{Place, begins};

/// What the short form of a run of everything leaves out, for time: kprobes on all but the oldest kernel,
/// since the newest runs the same programs unasked, by kprobe.multi; kprobe.multi where that is; tasks that
/// are preempted where the kernel has that unasked, too, or misses the same; and userlands whose scenarios
/// are not about what kernels have in different ways. Kernels and attach modes by number.
pub fn is_left_out(place: &Place, kernel: usize, attach: usize) -> bool {
    let attach_left = match attach {
        1 => kernel != OLDEST,
        2 => kernel != MIDDLE,
        _ => false,
    };
    let place_left = match place.name {
        "first" | "lockdown" | "no-bpf" | "systemd" => kernel != NEWEST,
        "preempt" => kernel != MIDDLE,
        "integrity" => kernel == MIDDLE,
        _ => false,
    };
    attach_left || place_left
}

/// How lease-trace attaches.
#[derive(Debug)]
pub struct Attach {
    pub name: &'static str,
    /// The value of LEASE_TRACE_ATTACH.
    pub value: &'static str,
    /// What the names of scenarios begin with that are not run this way: what they are about is the
    /// same code either way.
    pub leaves: &'static [&'static str],
    /// What the names of those begin with that are run all the same.
    pub keeps: &'static [&'static str],
}

pub const ATTACH: [Attach; 3] = [
    Attach {
        name: "auto",
        value: "",
        leaves: &[],
        keeps: &[],
    },
    Attach {
        name: "kprobe",
        value: "kprobe",
        // What is printed, what userspace keeps, what denies (attached in one way only), and what
        // the same functions do as in the scenarios that are run.
        leaves: &[
            "adversary::",
            "book::",
            "btrfs::",
            "context::",
            "coverage::",
            "crowd::",
            "dax::",
            "doctor::",
            "enforce_",
            "files::",
            "huge::",
            "lease::one_that_is_older",
            "lockdown::",
            "logs::",
            "message::",
            "metrics::",
            "monitor::",
            "namespace::",
            "nfsd::",
            "oracle::",
            "orphan::",
            "path::",
            "plot::",
            "policy::",
            "preemption::",
            "proof::",
            "refusal::",
            "report::",
            "reuse::",
            "run",
            "service::",
            "span::",
            "squatter::",
            "storm::",
            "survey",
            "thread::",
            "umem::",
        ],
        keeps: &[
            "enforce_integrity::",
            "enforce_monitor::stop",
            "enforce_rdma::kill",
            "enforce_ways::deny",
            "enforce_ways::hold",
            "enforce_ways::kill",
            "run::a_release_waits",
        ],
    },
    Attach {
        name: "multi",
        value: "multi",
        // The programs are those of kprobes, whose other scenarios are run with them.
        leaves: &[""],
        keeps: &["lease::", "pin::"],
    },
];

impl Attach {
    fn takes(&self, test: &str) -> bool {
        begins(test, self.keeps) || !begins(test, self.leaves)
    }
}

/// Kernels by number.
const OLDEST: usize = 0;
const MIDDLE: usize = 1;
const NEWEST: usize = 2;

/// What the names of scenarios begin with that the short form runs on the newest kernel alone: they are
/// about what is printed, asked for or kept in userspace, and most of them start the tool anew.
const NEWEST_ALONE: [&str; 18] = [
    "book::",
    "crowd::",
    "descriptors::",
    "doctor::",
    "enforce_attack::",
    "enforce_monitor::",
    "files::",
    "directory::",
    "logs::",
    "metrics::",
    "monitor::",
    "oracle::a",
    "pid_namespace::",
    "plot::",
    "policy::",
    "refusal::",
    "report::",
    "run::",
];

/// What only the kernel in the middle runs, where a start takes least: each of these is many starts, step by
/// step.
const MIDDLE_ALONE: [&str; 1] = ["enforce_cut_off::"];

/// What the names of those begin with that it leaves out on the kernel in the middle: they do once more,
/// slowly, what others do fast, or are the same on its neighbours.
const OUTERMOST: [&str; 8] = [
    "adversary::",
    "direct::",
    "enforce_orphaned::",
    "enforce_rdma::a_dying",
    "enforce_rdma::audit_mode",
    "enforce_ways::audit_mode",
    "oracle::",
    "pin::short_term",
];

/// The scenarios of one place and attach mode that the filter leaves; in the short form those of the kernel
/// of this number.
pub fn select<'a>(
    tests: &'a [String],
    place: &Place,
    attach: &Attach,
    filter: Option<&str>,
    short: Option<usize>,
) -> Vec<&'a str> {
    let is_left = |test: &str| match short {
        Some(OLDEST) => begins(test, &NEWEST_ALONE) || begins(test, &MIDDLE_ALONE),
        Some(MIDDLE) => begins(test, &NEWEST_ALONE) || begins(test, &OUTERMOST),
        Some(_) => begins(test, &MIDDLE_ALONE),
        None => false,
    };
    tests
        .iter()
        .map(String::as_str)
        .filter(|test| place.takes(test) && attach.takes(test))
        .filter(|test| !is_left(test))
        .filter(|test| filter.is_none_or(|part| test.contains(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::places::PLACES;

    #[test]
    fn each_scenario_has_one_place() {
        let tests = [
            "lease::unlock",
            "rdma::unlock",
            "rdma_like::x",
            "lockdown::a",
            "nfsd::delegations",
            "dax::x",
            "vfio::unlock",
            "storm::a",
            "service::restart",
            "package::upgrade",
            "prometheus::scrape",
            "browser::page",
            "top::keys",
            "run::a",
            "run_rdma::a",
            "run_terminal::a",
            "enforce_ways::kill",
            "enforce_rdma::kill",
            "enforce_integrity::a",
            "enforce_without_lsm::a",
            "enforce_first::a",
            "preemption::a",
        ]
        .map(str::to_owned);
        let select = |place: &Place, filter| select(&tests, place, &ATTACH[0], filter, None);
        let [
            initramfs,
            debian,
            storage,
            iommu,
            lockdown,
            integrity,
            no_lsm,
            storm,
            preempt,
            systemd,
            first,
            package,
            prometheus,
            browser,
            terminal,
        ] = &PLACES;
        assert_eq!(select(first, None), ["enforce_first::a"]);
        assert_eq!(select(package, None), ["package::upgrade"]);
        assert_eq!(select(storm, None), ["storm::a"]);
        assert_eq!(select(preempt, None), ["preemption::a"]);
        assert_eq!(select(systemd, None), ["service::restart"]);
        assert_eq!(select(storage, None), ["nfsd::delegations", "dax::x"]);
        assert_eq!(select(iommu, None), ["vfio::unlock"]);
        assert_eq!(select(prometheus, None), ["prometheus::scrape"]);
        assert_eq!(select(browser, None), ["browser::page"]);
        assert_eq!(select(terminal, None), ["top::keys", "run_terminal::a"]);
        assert_eq!(select(lockdown, None), ["lockdown::a"]);
        assert_eq!(select(integrity, None), ["enforce_integrity::a"]);
        assert_eq!(select(no_lsm, None), ["enforce_without_lsm::a"]);
        assert_eq!(
            select(initramfs, None),
            [
                "lease::unlock",
                "rdma_like::x",
                "run::a",
                "enforce_ways::kill"
            ]
        );
        assert_eq!(
            select(debian, None),
            ["rdma::unlock", "run_rdma::a", "enforce_rdma::kill"]
        );
        assert_eq!(select(initramfs, Some("unlock")), ["lease::unlock"]);
        assert!(select(debian, Some("x")).is_empty());
    }

    #[test]
    fn the_short_form_has_every_place_kernel_and_mode() {
        let all = || {
            let modes = ATTACH.len();
            let pairs =
                (0..3).flat_map(move |kernel| (0..modes).map(move |attach| (kernel, attach)));
            PLACES
                .iter()
                .flat_map(move |place| pairs.clone().map(move |(k, a)| (place, k, a)))
                .filter(|(place, kernel, attach)| place.runs(*kernel, *attach))
        };
        let short =
            || all().filter(|(place, kernel, attach)| !is_left_out(place, *kernel, *attach));
        assert!(short().count() < all().count());
        for wanted in all() {
            assert!(short().any(|(place, ..)| place.name == wanted.0.name));
            assert!(short().any(|(_, kernel, _)| kernel == wanted.1));
            assert!(short().any(|(_, _, attach)| attach == wanted.2));
        }
    }

    #[test]
    fn one_mode_runs_a_part() {
        let tests = [
            "lease::unlock",
            "enforce_ways::kill",
            "enforce_kept::x",
            "report::columns",
            "oracle::x",
            "enforce_cut_off::x",
        ]
        .map(str::to_owned);
        let select = |attach, short| select(&tests, &PLACES[0], attach, None, short);
        let [auto, kprobe, multi] = &ATTACH;
        assert_eq!(select(auto, None), tests);
        assert_eq!(
            select(kprobe, None),
            ["lease::unlock", "enforce_ways::kill"]
        );
        assert_eq!(select(multi, None), ["lease::unlock"]);
        let of_all = ["lease::unlock", "enforce_ways::kill", "enforce_kept::x"];
        let and = |more: &[&'static str]| [&of_all, more].concat();
        assert_eq!(
            select(auto, Some(NEWEST)),
            and(&["report::columns", "oracle::x"])
        );
        assert_eq!(select(auto, Some(OLDEST)), and(&["oracle::x"]));
        assert_eq!(select(auto, Some(MIDDLE)), and(&["enforce_cut_off::x"]));
    }
}
