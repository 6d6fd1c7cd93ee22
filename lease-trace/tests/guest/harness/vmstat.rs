//! The kernel's own count of pins: nr_foll_pin_acquired and nr_foll_pin_released.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::eventually;

/// How many pins there were on the whole machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned(i64);

impl Pinned {
    /// The figure to compare with later. A ring of the scenario before may still be on its way
    /// down in a kworker, so this waits a while for a machine without pins; one that has some of
    /// its own keeps them.
    pub fn now() -> Self {
        let deadline = Instant::now() + Duration::from_secs(3);
        while outstanding() != 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
        Self(outstanding())
    }

    /// Pins taken since then and still there.
    pub fn since(self) -> i64 {
        outstanding() - self.0
    }

    /// Waits until as many pins were dropped as were taken since: a ring's end is a kworker's job.
    #[track_caller]
    pub fn assert_balanced(self) {
        assert!(
            eventually(|| self.since() == 0),
            "{} pins are left",
            self.since()
        );
    }
}

fn outstanding() -> i64 {
    // The counters are per CPU and added up once a second, unless somebody asks.
    fs::write("/proc/sys/vm/stat_refresh", "1").expect("stat_refresh takes a write by root");
    let vmstat = fs::read_to_string("/proc/vmstat").expect("/proc/vmstat");
    let counter = |name: &str| -> i64 {
        let line = vmstat.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in /proc/vmstat"))
    };
    counter("nr_foll_pin_acquired ") - counter("nr_foll_pin_released ")
}
