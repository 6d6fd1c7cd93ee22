//! /proc/locks, the kernel's own list of leases.

use std::fs;

use super::Subject;

/// The leases and delegations on a file, as `(type, access)`, like `("LEASE", "WRITE")`.
pub fn leases_on(file: &Subject) -> Vec<(String, String)> {
    let (major, minor) = file.dev.split_once(':').expect("major and minor");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let wanted = format!("{:02x}:{:02x}:{}", number(major), number(minor), file.ino);
    let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
    let mut found = Vec::new();
    for line in locks.lines() {
        // `1: LEASE  ACTIVE    WRITE 190 00:18:5 0 EOF`; a waiter has `->` after its number.
        let words: Vec<&str> = line
            .split_whitespace()
            .filter(|word| *word != "->")
            .collect();
        if let [_, kind @ ("LEASE" | "DELEG"), _, access, _, file, ..] = words[..]
            && file == wanted
        {
            found.push((kind.to_owned(), access.to_owned()));
        }
    }
    found
}
