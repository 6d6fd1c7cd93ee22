//! What a picture shows, without how: rows of bars, the time they lie in, and what has to be said
//! besides. Pure: a reading in, a timeline out.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    follow::{Bar, Edge, Kind, Mark, Row},
    read::{Event, Line, Micros, Name, Reading},
};
use crate::sinks::text;

/// How many rows a picture has, unless more are asked for.
pub const ROWS: usize = 200;

/// No record reaches further back than this: ten years.
const LONGEST_MS: u64 = 10 * 365 * 86_400_000;

/// A process and a file.
type Key = (u32, Option<String>, Option<u64>);

/// A whole picture.
#[derive(Debug)]
pub struct Timeline {
    pub begin: Micros,
    pub end: Micros,
    /// Release of the kernel, if the record says it.
    pub kernel: Option<String>,
    pub strips: Vec<Strip>,
    pub zombies: u64,
    /// Of those, the ones that are still there at the end.
    pub remaining: u64,
    /// What is missing from the picture, a sentence each.
    pub notes: Vec<String>,
}

/// One row of it.
#[derive(Debug)]
pub struct Strip {
    pub pid: u32,
    pub comm: String,
    pub path: String,
    pub bars: Vec<Bar>,
    pub marks: Vec<Mark>,
}

/// A row and its names while they are gathered.
#[derive(Default)]
struct Gathered {
    comm: String,
    path: Option<String>,
    first: Micros,
    row: Row,
}

/// Lays a reading out in no more than `limit` rows.
pub fn of(reading: &Reading, limit: usize) -> Timeline {
    let begin = began(&reading.lines);
    let newest = reading.lines.iter().map(|line| line.at).max();
    let end = newest.unwrap_or(begin).max(begin + 1_000);
    let mut rows: BTreeMap<Key, Gathered> = BTreeMap::new();
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    let mut kernel = None;
    let (mut ended, mut last_end) = (false, begin);
    for Line { at, name, event } in &reading.lines {
        match name {
            Name::Start | Name::End => {
                // A record of several runs: what one left open, the next does not know. Leases
                // that were there already come before the first start.
                if *name == Name::Start && ended {
                    finish(&mut rows, Edge::Unseen(last_end));
                }
                ended = *name == Name::End;
                last_end = *at;
                kernel = event.kernel.clone().or(kernel);
            }
            // Of a file, and of no process in particular.
            Name::Corrected => {}
            Name::Lost => {
                let what = event.what.as_deref().unwrap_or("something");
                let sum = lost.entry(what).or_default();
                *sum = sum.saturating_add(event.count);
            }
            _ => {
                let key = (event.pid, event.dev.clone(), event.ino);
                let gathered = rows.entry(key).or_insert_with(|| Gathered {
                    first: *at,
                    ..Gathered::default()
                });
                gathered.name(event);
                gathered.row.take(*at, *name, event, begin);
            }
        }
    }
    finish(&mut rows, Edge::Beyond);
    let zombies = |wanted: fn(&Bar) -> bool| {
        let bars = rows.values().flat_map(|one| &one.row.bars);
        let zombies = bars.filter(|bar| bar.kind == Kind::Zombie && wanted(bar));
        zombies.count() as u64
    };
    let (all, remaining) = (zombies(|_| true), zombies(|bar| bar.to == Edge::Beyond));
    let mut notes = notes(reading, &lost, ended);
    let (strips, hidden) = chosen(rows, limit);
    if hidden > 0 {
        let hidden = text::counted(hidden as u64, "row");
        notes.push(format!("{hidden} not shown; --rows shows more"));
    }
    Timeline {
        begin,
        end,
        kernel,
        strips,
        zombies: all,
        remaining,
        notes,
    }
}

/// When the first monitor began; without its word, as early as anything is known.
fn began(lines: &[Line]) -> Micros {
    let start = lines.iter().find(|line| line.name == Name::Start);
    if let Some(start) = start {
        return start.at;
    }
    let known = |line: &Line| {
        let Event {
            lease,
            zombie_ms,
            pinned_ms,
            ..
        } = &line.event;
        let held = lease.as_ref().and_then(|lease| lease.held_ms).unwrap_or(0);
        let pinned = pinned_ms.unwrap_or(0);
        let ms = zombie_ms.unwrap_or(0).saturating_add(held.max(pinned));
        line.at - ms.min(LONGEST_MS) as Micros * 1_000
    };
    lines.iter().map(known).min().unwrap_or(0)
}

fn notes(reading: &Reading, lost: &BTreeMap<&str, u64>, ended: bool) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for (what, count) in lost {
        notes.push(format!("{what}: {count}"));
    }
    if !ended && !reading.lines.is_empty() {
        notes.push("the record has no end: its monitor was cut off, or still runs".to_owned());
    }
    if reading.truncated {
        notes.push("the last line of the record is cut off".to_owned());
    }
    if reading.unknown > 0 {
        let unknown = text::counted(reading.unknown, "event");
        notes.push(format!("{unknown} of another version of lease-trace"));
    }
    if reading.unreadable > 0 {
        let unreadable = text::counted(reading.unreadable, "line");
        notes.push(format!("{unreadable} could not be read"));
    }
    notes
}

impl Gathered {
    fn name(&mut self, event: &Event) {
        if !event.comm.is_empty() {
            self.comm.clone_from(&event.comm);
        }
        if event.path.is_some() {
            self.path.clone_from(&event.path);
        }
    }

    /// The worst that is in it: rows with breaches come first.
    fn worst(&self) -> Kind {
        let kinds = self.row.bars.iter().map(|bar| bar.kind);
        kinds.max().unwrap_or(Kind::Lease)
    }
}

fn finish(rows: &mut BTreeMap<Key, Gathered>, to: Edge) {
    for one in rows.values_mut() {
        one.row.finish(to);
    }
}

/// Breaches first, then as they came; and how many found no room.
fn chosen(rows: BTreeMap<Key, Gathered>, limit: usize) -> (Vec<Strip>, usize) {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, one)| (Reverse(one.worst()), one.first));
    let hidden = rows.len().saturating_sub(limit);
    rows.truncate(limit);
    let strips = rows.into_iter().map(|((pid, dev, ino), gathered)| {
        let Gathered {
            comm, path, row, ..
        } = gathered;
        let path = path.unwrap_or_else(|| {
            let ino = ino.map_or_else(|| "?".to_owned(), |ino| ino.to_string());
            format!("device {}, inode {ino}", dev.as_deref().unwrap_or("?"))
        });
        Strip {
            pid,
            comm,
            path,
            bars: merged(row.bars),
            marks: row.marks,
        }
    });
    (strips.collect(), hidden)
}

/// Leases that a process has at the same time are one bar; then the bars of pins.
fn merged(mut bars: Vec<Bar>) -> Vec<Bar> {
    let left = |bar: &Bar| match bar.from {
        Edge::At(at) | Edge::Unseen(at) => at,
        Edge::Beyond => Micros::MIN,
    };
    let right = |bar: &Bar| match bar.to {
        Edge::At(at) | Edge::Unseen(at) => at,
        Edge::Beyond => Micros::MAX,
    };
    bars.sort_by_key(|bar| (bar.kind, left(bar)));
    let mut merged: Vec<Bar> = Vec::new();
    for bar in bars {
        match merged.last_mut() {
            Some(before) if bar.kind == Kind::Lease && left(&bar) < right(before) => {
                if right(&bar) > right(before) {
                    before.to = bar.to;
                }
                "several leases".clone_into(&mut before.label);
                before.title = format!("{}\n{}", before.title, bar.title);
            }
            _ => merged.push(bar),
        }
    }
    merged
}
