//! What is run where: the userlands with the scenarios that belong into each, and the attach modes
//! that all of them run in. A new way to run the scenarios is a new line here.

use crate::guest::image;

/// A userland that scenarios run in.
#[derive(Debug)]
pub struct Place {
    pub name: &'static str,
    /// Debian with these packages; busybox alone if there are none.
    pub packages: Option<&'static [&'static str]>,
    /// Whether systemd is the first program.
    pub systemd: bool,
    /// Added to the kernel's command line.
    pub cmdline: &'static str,
    /// What the names of its scenarios begin with; without one it takes those of no other place.
    pub prefix: Option<&'static str>,
}

pub const PLACES: [Place; 4] = [
    Place {
        name: "initramfs",
        packages: None,
        systemd: false,
        cmdline: "",
        prefix: None,
    },
    Place {
        name: "debian",
        packages: Some(image::RDMA),
        systemd: false,
        cmdline: "",
        prefix: Some("rdma::"),
    },
    Place {
        name: "lockdown",
        packages: None,
        systemd: false,
        cmdline: "lockdown=confidentiality",
        prefix: Some("lockdown::"),
    },
    Place {
        name: "systemd",
        packages: Some(&["systemd"]),
        systemd: true,
        cmdline: "",
        prefix: Some("service::"),
    },
];

impl Place {
    /// Whether a scenario of this name belongs here.
    fn takes(&self, test: &str) -> bool {
        let begins = |place: &Place| place.prefix.is_some_and(|prefix| test.starts_with(prefix));
        match self.prefix {
            Some(_) => begins(self),
            None => !PLACES.iter().any(begins),
        }
    }
}

/// How lease-trace attaches: the name, and the value of LEASE_TRACE_ATTACH.
pub const ATTACH: [(&str, &str); 2] = [("auto", ""), ("kprobe", "kprobe")];

/// The scenarios of one place that the filter leaves.
pub fn select<'a>(tests: &'a [String], place: &Place, filter: Option<&str>) -> Vec<&'a str> {
    tests
        .iter()
        .map(String::as_str)
        .filter(|test| place.takes(test) && filter.is_none_or(|part| test.contains(part)))
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
        ]
        .map(str::to_owned);
        let [initramfs, debian, lockdown, systemd] = &PLACES;
        assert_eq!(select(&tests, systemd, None), ["service::restart"]);
        assert_eq!(select(&tests, lockdown, None), ["lockdown::a"]);
        assert_eq!(
            select(&tests, initramfs, None),
            ["lease::unlock", "rdma_like::x"]
        );
        assert_eq!(select(&tests, debian, None), ["rdma::unlock"]);
        assert_eq!(select(&tests, initramfs, Some("unlock")), ["lease::unlock"]);
        assert!(select(&tests, debian, Some("x")).is_empty());
    }
}
