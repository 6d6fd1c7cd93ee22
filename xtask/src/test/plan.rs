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
    /// What the names of its scenarios begin with; without any it takes those of no other place.
    pub prefixes: &'static [&'static str],
}

pub const PLACES: [Place; 7] = [
    Place {
        name: "initramfs",
        packages: None,
        first: First::Script,
        cmdline: "",
        prefixes: &[],
    },
    Place {
        name: "debian",
        packages: Some(image::RDMA),
        first: First::Script,
        cmdline: "",
        prefixes: &["rdma::", "enforce_rdma::"],
    },
    Place {
        name: "lockdown",
        packages: None,
        first: First::Script,
        cmdline: "lockdown=confidentiality",
        prefixes: &["lockdown::"],
    },
    Place {
        name: "integrity",
        packages: None,
        first: First::Script,
        cmdline: "lockdown=integrity",
        prefixes: &["enforce_integrity::"],
    },
    Place {
        name: "no-bpf",
        packages: None,
        first: First::Script,
        // Debian's own list without it.
        cmdline: "lsm=landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor",
        prefixes: &["enforce_without_lsm::"],
    },
    Place {
        name: "systemd",
        packages: Some(&["systemd"]),
        first: First::Systemd,
        cmdline: "",
        prefixes: &["service::"],
    },
    Place {
        name: "first",
        packages: None,
        first: First::Client,
        cmdline: "",
        prefixes: &["enforce_first::"],
    },
];

impl Place {
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
        // Files in userspace, what is printed, and what denies: that is attached in one way only.
        leaves: &[
            "doctor::",
            "enforce_",
            "lockdown::",
            "monitor::",
            "path::",
            "policy::",
            "refusal::",
            "report::",
            "service::",
        ],
        keeps: &[
            "enforce_integrity::",
            "enforce_monitor::stop",
            "enforce_rdma::kill",
            "enforce_ways::deny",
            "enforce_ways::hold",
            "enforce_ways::kill",
        ],
    },
];

impl Attach {
    fn takes(&self, test: &str) -> bool {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| test.starts_with(prefix));
        begins(self.keeps) || !begins(self.leaves)
    }
}

/// The scenarios of one place and attach mode that the filter leaves.
pub fn select<'a>(
    tests: &'a [String],
    place: &Place,
    attach: &Attach,
    filter: Option<&str>,
) -> Vec<&'a str> {
    tests
        .iter()
        .map(String::as_str)
        .filter(|test| place.takes(test) && attach.takes(test))
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
            "service::restart",
            "enforce_ways::kill",
            "enforce_rdma::kill",
            "enforce_integrity::a",
            "enforce_without_lsm::a",
            "enforce_first::a",
        ]
        .map(str::to_owned);
        let select = |place: &Place, filter| select(&tests, place, &ATTACH[0], filter);
        let [
            initramfs,
            debian,
            lockdown,
            integrity,
            no_lsm,
            systemd,
            first,
        ] = &PLACES;
        assert_eq!(select(first, None), ["enforce_first::a"]);
        assert_eq!(select(systemd, None), ["service::restart"]);
        assert_eq!(select(lockdown, None), ["lockdown::a"]);
        assert_eq!(select(integrity, None), ["enforce_integrity::a"]);
        assert_eq!(select(no_lsm, None), ["enforce_without_lsm::a"]);
        assert_eq!(
            select(initramfs, None),
            ["lease::unlock", "rdma_like::x", "enforce_ways::kill"]
        );
        assert_eq!(select(debian, None), ["rdma::unlock", "enforce_rdma::kill"]);
        assert_eq!(select(initramfs, Some("unlock")), ["lease::unlock"]);
        assert!(select(debian, Some("x")).is_empty());
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
        let select = |attach| select(&tests, &PLACES[0], attach, None);
        let [auto, kprobe] = &ATTACH;
        assert_eq!(select(auto), tests);
        assert_eq!(select(kprobe), ["lease::unlock", "enforce_ways::kill"]);
    }
}
