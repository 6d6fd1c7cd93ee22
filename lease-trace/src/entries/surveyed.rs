//! Where nobody watched: what the survey finds is pinned, entered among the entries that have a lease.

use std::collections::HashMap;

use super::{Subject, sort};
use crate::{
    enrich::{cgroup, process, size, unit},
    pinned::{Memory, Row},
    record::{Dev, Entry, Owner, PinSource},
};

/// A process's pins in one file.
#[derive(Default)]
struct Found {
    pins: u64,
    doubtful: bool,
    /// The first of the consumers, and its descriptor.
    source: PinSource,
}

/// What is pinned, by process and file.
pub struct Surveyed<'a> {
    rows: Vec<&'a Row>,
    pins: HashMap<(u32, Dev, u64), Found>,
    /// The survey found all that the kernel counts.
    is_whole: bool,
}

impl<'a> Surveyed<'a> {
    pub fn new(rows: &'a [Row], is_whole: bool) -> Self {
        let rows = rows.iter();
        let rows: Vec<_> = rows
            .filter(|row| row.memory == Memory::File && !row.shared)
            .collect();
        let mut pins = HashMap::<_, Found>::new();
        for row in &rows {
            let Some(key) = key(row) else { continue };
            let found = pins.entry(key).or_default();
            found.pins += row.pins;
            found.doubtful |= row.doubtful;
            if found.source.consumer.is_none() {
                found.source = source(row);
            }
        }
        Self {
            rows,
            pins,
            is_whole,
        }
    }

    /// Enters what is pinned: into the leases and stakes that are there, and for stakes as entries of their own.
    pub fn enter(&self, entries: &mut Vec<Entry>, subject: Subject) {
        for entry in &mut *entries {
            self.complete(entry, subject);
        }
        if subject == Subject::Stakes {
            let more: Vec<_> = self.without_lease(entries);
            entries.extend(more);
            sort(entries);
        }
    }

    /// Of a lease all that those have pinned who keep it, of a stake its owner's.
    fn complete(&self, entry: &mut Entry, subject: Subject) {
        let (Some(dev), Some(ino)) = (entry.file.dev, entry.file.ino) else {
            return;
        };
        let mut pids = vec![entry.owner.process.pid];
        if subject == Subject::Leases {
            let holders = entry.holders.iter().flatten();
            pids.extend(holders.map(|holder| holder.process.pid));
            pids.sort_unstable();
            pids.dedup();
        }
        let found = pids
            .iter()
            .filter_map(|pid| self.pins.get(&(*pid, dev, ino)));
        let mut all = Found::default();
        for one in found {
            all.pins += one.pins;
            all.doubtful |= one.doubtful;
            if all.source.consumer.is_none() {
                all.source = one.source.clone();
            }
        }
        // That nothing was found says nothing where something was not.
        if all.pins == 0 && !self.is_whole {
            return;
        }
        entry.pins = Some(all.pins);
        entry.doubtful = all.doubtful || !self.is_whole;
        entry.vm_pin_bytes = None;
        entry.source = all.source;
        if subject == Subject::Stakes {
            entry.state = Some(if all.pins == 0 { "leased" } else { "covered" });
        }
    }

    /// Stakes with pins and no lease: zombies or bare pins, which nobody can tell who did not watch.
    fn without_lease(&self, entries: &[Entry]) -> Vec<Entry> {
        let known: Vec<_> = entries
            .iter()
            .filter_map(|entry| {
                let (dev, ino) = (entry.file.dev?, entry.file.ino?);
                Some((entry.owner.process.pid, dev, ino))
            })
            .collect();
        let mut told = Vec::new();
        let mut more = Vec::new();
        for row in &self.rows {
            let Some(key) = key(row) else { continue };
            let (false, false, Some(pins)) = (
                known.contains(&key),
                told.contains(&key),
                self.pins.get(&key),
            ) else {
                continue;
            };
            told.push(key);
            more.extend(self.pinned(row, pins));
        }
        more
    }

    fn pinned(&self, row: &Row, found: &Found) -> Option<Entry> {
        let process = row.owner.clone()?;
        let pid = process.pid;
        let cgroup = cgroup::of_process(pid);
        let path = cgroup.as_deref();
        Some(Entry {
            owner: Owner {
                uid: process::uid(pid),
                unit: path.and_then(unit::unit).map(str::to_owned),
                container: path.and_then(unit::container).map(str::to_owned),
                cgroup,
                process,
            },
            releaser: None,
            breaker: None,
            size_bytes: size::of(pid, &row.file, &[]),
            file: row.file.clone(),
            state: Some("pinned"),
            lease: None,
            cause: None,
            leases: Some(0),
            pins: Some(found.pins),
            doubtful: found.doubtful || !self.is_whole,
            peak_pins: None,
            vm_pin_bytes: None,
            source: found.source.clone(),
            ends_by_itself: None,
            age_ms: None,
            holders: None,
            breaking: None,
            held_by: None,
        })
    }
}

fn key(row: &Row) -> Option<(u32, Dev, u64)> {
    Some((row.owner.as_ref()?.pid, row.file.dev?, row.file.ino?))
}

fn source(row: &Row) -> PinSource {
    PinSource {
        consumer: Some(row.consumer.to_owned()),
        context_fd: row.fd,
        context: row.fd.map(|_| row.object.clone()),
        ..PinSource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn row(pid: u32, path: &str, pins: u64) -> Row {
        Row {
            owner: Some(fixtures::process(pid, "db")),
            fd: Some(3),
            object: "ring buffer 0".to_owned(),
            address: None,
            size_bytes: None,
            pins,
            shared: false,
            is_joint: false,
            id: 1,
            doubtful: false,
            consumer: "io_uring",
            leased: None,
            memory: Memory::File,
            file: fixtures::file(path),
            holders: Vec::new(),
        }
    }

    fn leased(pid: u32) -> Entry {
        let mut entry = fixtures::entry();
        entry.owner = fixtures::owner(pid, "db");
        (entry.pins, entry.state, entry.cause) = (None, None, None);
        entry
    }

    fn entered(
        rows: &[Row],
        is_whole: bool,
        subject: Subject,
    ) -> Vec<(u32, Option<u64>, bool, Option<&'static str>)> {
        let mut entries = vec![leased(7), leased(8)];
        Surveyed::new(rows, is_whole).enter(&mut entries, subject);
        let of = |entry: &Entry| {
            (
                entry.owner.process.pid,
                entry.pins,
                entry.doubtful,
                entry.state,
            )
        };
        entries.iter().map(of).collect()
    }

    #[test]
    fn a_lease_has_the_pins_that_are_found() {
        let path = "/srv/a";
        let rows = [row(7, path, 16), row(7, path, 4), row(9, path, 1)];
        assert_eq!(
            entered(&rows, true, Subject::Stakes),
            [
                (7, Some(20), false, Some("covered")),
                (8, Some(0), false, Some("leased")),
                (9, Some(1), false, Some("pinned")),
            ]
        );
    }

    #[test]
    fn nothing_found_is_nothing_only_if_all_was_found() {
        let rows = [row(7, "/srv/a", 16)];
        assert_eq!(
            entered(&rows, false, Subject::Leases),
            [(7, Some(16), true, None), (8, None, false, None)]
        );
    }
}
