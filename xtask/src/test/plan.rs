//! What is run where: the userlands with the scenarios that belong into each, and the attach modes
//! that all of them run in. A new way to run the scenarios is a new line here.

use crate::guest::{First, image};

/// A userland that scenarios run in.
#[derive(Debug)]
pub struct Place {
    pub name: &'static str,
    /// Debian with these packages; busybox alone if there are none.
    pub packages: Option<&'static [&'static str]>,
    pub first: First,
    /// Added to the kernel's command line.
    pub cmdline: &'static str,
    /// Devices that the machine has besides.
    pub devices: &'static [&'static str],
    /// Whether one run is enough, on the first kernel and with the first way to attach: what its
    /// scenarios are about is not the kernel.
    pub once: bool,
    /// What the names of its scenarios begin with; without any it takes those of no other place.
    pub prefixes: &'static [&'static str],
}

pub const PLACES: [Place; 13] = [
    Place {
        name: "initramfs",
        packages: None,
        first: First::Script,
        cmdline: "",
        devices: &[],
        once: false,
        prefixes: &[],
    },
    Place {
        name: "debian",
        packages: Some(image::RDMA),
        first: First::Script,
        cmdline: "",
        devices: &[],
        once: false,
        prefixes: &["rdma::", "enforce_rdma::", "reuse::", "run_rdma::"],
    },
    Place {
        name: "storage",
        packages: Some(image::STORAGE),
        first: First::Script,
        // A part of the memory as if it kept its contents without power.
        cmdline: "memmap=64M!1536M",
        devices: &[],
        once: false,
        prefixes: &["btrfs::", "dax::", "nfsd::"],
    },
    Place {
        name: "iommu",
        packages: None,
        first: First::Script,
        cmdline: "intel_iommu=on",
        // The same whatever the host's virtualisation makes of interrupts; and a device for a
        // driver to take.
        devices: &["intel-iommu,intremap=off", "edu"],
        once: false,
        prefixes: &["vfio::"],
    },
    Place {
        name: "lockdown",
        packages: None,
        first: First::Script,
        cmdline: "lockdown=confidentiality",
        devices: &[],
        once: false,
        prefixes: &["lockdown::"],
    },
    Place {
        name: "integrity",
        packages: None,
        first: First::Script,
        cmdline: "lockdown=integrity",
        devices: &[],
        once: false,
        prefixes: &["enforce_integrity::"],
    },
    Place {
        name: "no-bpf",
        packages: None,
        first: First::Script,
        // Debian's own list without it.
        cmdline: "lsm=landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor",
        devices: &[],
        once: false,
        prefixes: &["enforce_without_lsm::"],
    },
    Place {
        name: "systemd",
        packages: Some(&["systemd"]),
        first: First::Systemd,
        cmdline: "",
        devices: &[],
        once: false,
        prefixes: &["service::"],
    },
    Place {
        name: "first",
        packages: None,
        first: First::Client,
        cmdline: "",
        devices: &[],
        once: false,
        prefixes: &["enforce_first::"],
    },
    Place {
        name: "package",
        packages: Some(&["systemd"]),
        first: First::Systemd,
        cmdline: "",
        devices: &[],
        once: true,
        prefixes: &["package::"],
    },
    Place {
        name: "prometheus",
        packages: Some(&["prometheus"]),
        first: First::Script,
        cmdline: "",
        devices: &[],
        once: true,
        prefixes: &["prometheus::"],
    },
    Place {
        name: "browser",
        packages: Some(&["chromium-headless-shell"]),
        first: First::Script,
        cmdline: "",
        devices: &[],
        once: true,
        prefixes: &["browser::"],
    },
    Place {
        name: "terminal",
        packages: Some(&["tmux"]),
        first: First::Script,
        cmdline: "",
        devices: &[],
        once: true,
        prefixes: &["top::", "run_terminal::"],
    },
];

impl Place {
    /// Whether its scenarios are run on the kernel of this number, attached in this way.
    pub const fn runs(&self, kernel: usize, attach: usize) -> bool {
        !self.once || kernel == 0 && attach == 0
    }

    /// Whether a scenario of this name belongs here.
    fn takes(&self, test: &str) -> bool {
        let begins = |place: &Place| {
            let mut prefixes = place.prefixes.iter();
            prefixes.any(|prefix| test.starts_with(prefix))
        };
        if self.prefixes.is_empty() {
            !PLACES.iter().any(begins)
        } else {
            begins(self)
        }
    }
}

/// What the short form of a run of everything leaves out, for time: kprobes on the kernel in the
/// middle, between the oldest and the newest ways of attaching; and systemd, which is the same on
/// each, on all but the newest. Kernels and attach modes by number.
pub fn is_left_out(place: &Place, kernel: usize, attach: usize) -> bool {
    attach == 1 && kernel == MIDDLE || place.name == "systemd" && kernel != 2
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

pub const ATTACH: [Attach; 2] = [
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
            "refusal::",
            "report::",
            "reuse::",
            "run",
            "service::",
            "span::",
            "squatter::",
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
];

impl Attach {
    fn takes(&self, test: &str) -> bool {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| test.starts_with(prefix));
        begins(self.keeps) || !begins(self.leaves)
    }
}

/// The kernel between the oldest and the newest, by number.
pub const MIDDLE: usize = 1;

/// What the names of scenarios begin with that the short form leaves out on the kernel in the middle:
/// they are about what is printed, or do once more, slowly, what others do fast.
const OUTERMOST: [&str; 16] = [
    "book::",
    "crowd::",
    "direct::",
    "doctor::",
    "enforce_rdma::a_dying",
    "enforce_rdma::monitor_mode",
    "enforce_ways::monitor_mode",
    "files::",
    "metrics::",
    "monitor::",
    "oracle::",
    "pin::short_term",
    "plot::",
    "policy::",
    "report::",
    "run",
];

/// The scenarios of one place and attach mode that the filter leaves, and on the kernel in the
/// `middle` the short form.
pub fn select<'a>(
    tests: &'a [String],
    place: &Place,
    attach: &Attach,
    filter: Option<&str>,
    middle: bool,
) -> Vec<&'a str> {
    let is_outermost = |test: &str| OUTERMOST.iter().any(|prefix| test.starts_with(prefix));
    tests
        .iter()
        .map(String::as_str)
        .filter(|test| place.takes(test) && attach.takes(test))
        .filter(|test| !middle || !is_outermost(test))
        .filter(|test| filter.is_none_or(|part| test.contains(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ]
        .map(str::to_owned);
        let select = |place: &Place, filter| select(&tests, place, &ATTACH[0], filter, false);
        let [
            initramfs,
            debian,
            storage,
            iommu,
            lockdown,
            integrity,
            no_lsm,
            systemd,
            first,
            package,
            prometheus,
            browser,
            terminal,
        ] = &PLACES;
        assert_eq!(select(first, None), ["enforce_first::a"]);
        assert_eq!(select(package, None), ["package::upgrade"]);
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
    fn what_is_not_about_the_kernel_is_run_once() {
        let runs = |place: &Place| {
            let all = (0..3).flat_map(|kernel| (0..2).map(move |attach| (kernel, attach)));
            all.filter(|(kernel, attach)| place.runs(*kernel, *attach))
                .count()
        };
        let [initramfs, .., terminal] = &PLACES;
        assert_eq!((runs(initramfs), runs(terminal)), (6, 1));
    }

    #[test]
    fn the_short_form_has_every_place_kernel_and_mode() {
        let all = || {
            let pairs = (0..3).flat_map(|kernel| (0..2).map(move |attach| (kernel, attach)));
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
        ]
        .map(str::to_owned);
        let select = |attach, middle| select(&tests, &PLACES[0], attach, None, middle);
        let [auto, kprobe] = &ATTACH;
        assert_eq!(select(auto, false), tests);
        assert_eq!(
            select(kprobe, false),
            ["lease::unlock", "enforce_ways::kill"]
        );
        assert_eq!(
            select(auto, true),
            ["lease::unlock", "enforce_ways::kill", "enforce_kept::x"]
        );
    }
}
