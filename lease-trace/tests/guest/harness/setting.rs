//! A kernel setting under /proc/sys or /sys, changed for the time of a scenario.

use std::fs;

/// Puts the old value back when dropped.
pub struct Setting {
    path: String,
    old: String,
}

impl Setting {
    #[track_caller]
    pub fn set(name: &str, value: &str) -> Self {
        Self::at(format!("/proc/sys/{name}"), value)
    }

    /// One of those files that list the choices, with the one in force in brackets, too.
    #[track_caller]
    pub fn of_sysfs(name: &str, value: &str) -> Self {
        Self::at(format!("/sys/{name}"), value)
    }

    #[track_caller]
    fn at(path: String, value: &str) -> Self {
        let old = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let chosen = old
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let old = chosen.map_or(old.as_str(), |(word, _)| word).to_owned();
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path, old }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.old);
    }
}
