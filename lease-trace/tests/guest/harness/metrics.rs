//! The metrics of a running monitor, as a reader on the network gets them.

use std::process::Command;

use super::{Monitor, eventually};

/// In every guest.
const BUSYBOX: &str = "/run/guest/busybox";

/// What a URL answers with; `None` if nothing does.
pub fn get(url: &str) -> Option<String> {
    let ran = Command::new(BUSYBOX)
        .args(["wget", "-q", "-O", "-", url])
        .output()
        .expect("busybox runs");
    ran.status
        .success()
        .then(|| String::from_utf8(ran.stdout).expect("metrics are UTF-8"))
}

/// Where a monitor offers its metrics.
pub struct Metrics {
    url: String,
}

impl Metrics {
    /// Of a monitor that was started with `--metrics`; it says where.
    pub fn of(monitor: &Monitor) -> Self {
        // Its events may be read before what it says besides.
        let mut url = None;
        let has_said = eventually(|| {
            let talk = monitor.talk();
            let mut words = talk.split_ascii_whitespace();
            url = words
                .find(|word| word.starts_with("http://"))
                .map(str::to_owned);
            url.is_some()
        });
        assert!(has_said, "no URL in {}", monitor.talk());
        Self {
            url: url.unwrap_or_default(),
        }
    }

    /// All of them now.
    #[track_caller]
    pub fn text(&self) -> String {
        get(&self.url).unwrap_or_else(|| panic!("no answer from {}", self.url))
    }

    /// Waits until this line is among them: what is handed out may be a second old.
    #[track_caller]
    pub fn expect(&self, line: &str) {
        let mut text = String::new();
        let there = eventually(|| {
            text = self.text();
            text.lines().any(|found| found == line)
        });
        assert!(there, "no {line} in\n{text}");
    }

    /// The value of one series.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        let value = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
        value.trim().parse().expect("a number")
    }
}
