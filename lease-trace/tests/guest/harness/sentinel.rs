//! A lease of the test's own, set and released in turn: what was told before it moved is known to be all.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use serde_json::Value;

use super::{Monitor, Scratch, Subject};

pub struct Sentinel {
    file: File,
    pub dev: String,
    pub ino: i64,
    is_leased: bool,
}

impl Sentinel {
    pub fn new(scratch: &Scratch) -> Self {
        let path = scratch.file("sentinel");
        let file = File::create(&path).expect("a file in the scratch directory");
        let Subject { dev, ino, .. } = Subject::at(&path);
        Self {
            file,
            dev,
            ino,
            is_leased: false,
        }
    }

    /// Whether it has its lease now.
    pub fn is_leased(&self) -> bool {
        self.is_leased
    }

    /// Sets or releases the lease, and returns the event that tells it.
    pub fn step(&mut self) -> &'static str {
        let (mode, event) = if self.is_leased {
            (libc::F_UNLCK, "lease-end")
        } else {
            (libc::F_WRLCK, "lease-set")
        };
        self.is_leased = !self.is_leased;
        // SAFETY: takes numbers.
        let returned = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, mode) };
        assert_eq!(returned, 0, "the lease of the test's own");
        event
    }

    /// What a monitor told about others before this event of the sentinel's.
    pub fn told_until(&self, monitor: &Monitor, event: &str) -> Vec<Value> {
        let ino = self.ino;
        let mut told = monitor.take_through(|value| value["event"] == event && value["ino"] == ino);
        told.retain(|value| value["ino"] != ino);
        told
    }
}
