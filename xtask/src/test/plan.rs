//! What is run where: the userlands with the scenarios that belong into each, and the attach modes
//! that all of them run in. A new way to run the scenarios is a new line here.

use crate::guest::image;

/// A userland that scenarios run in.
#[derive(Debug)]
pub struct Place {
    pub name: &'static str,
    /// Debian with these packages; busybox alone if there are none.
    pub packages: Option<&'static [&'static str]>,
    /// Whether a scenario of this name belongs here.
    pub takes: fn(&str) -> bool,
}

pub const PLACES: [Place; 2] = [
    Place {
        name: "initramfs",
        packages: None,
        takes: |test| !needs_rdma(test),
    },
    Place {
        name: "debian",
        packages: Some(image::RDMA),
        takes: needs_rdma,
    },
];

fn needs_rdma(test: &str) -> bool {
    test.starts_with("rdma::")
}

/// How lease-trace attaches: the name, and the value of LEASE_TRACE_ATTACH.
pub const ATTACH: [(&str, &str); 2] = [("auto", ""), ("kprobe", "kprobe")];

/// The scenarios of one place that the filter leaves.
pub fn select<'a>(tests: &'a [String], place: &Place, filter: Option<&str>) -> Vec<&'a str> {
    tests
        .iter()
        .map(String::as_str)
        .filter(|test| (place.takes)(test) && filter.is_none_or(|part| test.contains(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_has_one_place() {
        let tests = ["lease::unlock", "rdma::unlock", "rdma_like::x"].map(str::to_owned);
        let [initramfs, debian] = &PLACES;
        assert_eq!(
            select(&tests, initramfs, None),
            ["lease::unlock", "rdma_like::x"]
        );
        assert_eq!(select(&tests, debian, None), ["rdma::unlock"]);
        assert_eq!(select(&tests, initramfs, Some("unlock")), ["lease::unlock"]);
        assert!(select(&tests, debian, Some("x")).is_empty());
    }
}
