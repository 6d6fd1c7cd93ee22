//! /proc/locks, the kernel's own list of leases.

use std::fs;

use super::Subject;

/// One lease or delegation as /proc/locks has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// `LEASE` or `DELEG`.
    pub kind: String,
    /// `READ` or `WRITE`.
    pub access: String,
    /// Who set it.
    pub pid: i64,
    pub ino: i64,
}

/// The leases and delegations on a file, as `(type, access)`, like `("LEASE", "WRITE")`.
pub fn leases_on(file: &Subject) -> Vec<(String, String)> {
    let all = leases_in(&file.dev).into_iter();
    let here = all.filter(|listed| listed.ino == file.ino);
    here.map(|listed| (listed.kind, listed.access)).collect()
}

/// All leases and delegations in a file system, by its device, like `8:1`.
pub fn leases_in(dev: &str) -> Vec<Listed> {
    let (major, minor) = dev.split_once(':').expect("major and minor");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let wanted = format!("{:02x}:{:02x}", number(major), number(minor));
    let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
    let mut found = Vec::new();
    for line in locks.lines() {
        // `1: LEASE  ACTIVE    WRITE 190 00:18:5 0 EOF`; a waiter has `->` after its number.
        let words: Vec<&str> = line
            .split_whitespace()
            .filter(|word| *word != "->")
            .collect();
        if let [_, kind @ ("LEASE" | "DELEG"), _, access, pid, file, ..] = words[..]
            && let Some((dev, ino)) = file.rsplit_once(':')
            && dev == wanted
        {
            found.push(Listed {
                kind: kind.to_owned(),
                access: access.to_owned(),
                pid: pid.parse().expect("a pid"),
                ino: ino.parse().expect("an inode number"),
            });
        }
    }
    found
}
