//! A kernel setting under /proc/sys, changed for the time of a scenario.

use std::fs;

/// Puts the old value back when dropped.
pub struct Setting {
    path: String,
    old: String,
}

impl Setting {
    #[track_caller]
    pub fn set(name: &str, value: &str) -> Self {
        let path = format!("/proc/sys/{name}");
        let old = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path, old }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.old);
    }
}
