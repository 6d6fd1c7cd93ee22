//! What is compared: rows of the report, and events of the stream, as the model predicts them and
//! as the product writes them.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::harness::{integer, text};

/// A stake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub pid: i64,
    pub ino: i64,
    pub state: String,
    pub pins: i64,
    /// Somebody wants one of the leases that the process has set broken.
    pub breaking: bool,
    /// How many leases: at least those that the process has set, at most all that it could have
    /// been found to hold.
    pub leases: RangeInclusive<usize>,
}

/// Stands for the kernel's worker, whichever it was.
pub const KWORKER: i64 = -1;

/// A transition. What does not belong to it is empty or 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub event: &'static str,
    pub pid: i64,
    pub ino: i64,
    pub cause: String,
    pub releaser: i64,
    pub pins: i64,
}

/// The events that follow from a step at once, and the members of each that are compared.
const EVENTS: [(&str, &[&str]); 6] = [
    ("lease-set", &[]),
    ("lease-end", &["cause", "releaser"]),
    ("zombie", &["cause", "releaser", "pins"]),
    ("at-rest", &[]),
    ("bare-pin", &["pins"]),
    ("bare-pin-end", &[]),
];

impl Row {
    /// A row of `report stakes -J`.
    pub fn read(row: &Value) -> Self {
        let leases = integer(row, "leases") as usize;
        Self {
            pid: integer(row, "pid"),
            ino: integer(row, "ino"),
            state: text(row, "state").to_owned(),
            pins: integer(row, "pins"),
            breaking: row["breaking"] == true,
            leases: leases..=leases,
        }
    }

    /// Whether the product's row is what the model predicts.
    pub fn admits(&self, seen: &Self) -> bool {
        let rest = |row: &Self| {
            let Self {
                pid,
                ino,
                state,
                pins,
                breaking,
                ..
            } = row;
            (*pid, *ino, state.clone(), *pins, *breaking)
        };
        rest(self) == rest(seen) && self.leases.contains(seen.leases.start())
    }
}

impl Told {
    /// One that has nothing but its owner and file.
    pub const fn plain(event: &'static str, pid: i64, ino: i64) -> Self {
        Self {
            event,
            pid,
            ino,
            cause: String::new(),
            releaser: 0,
            pins: 0,
        }
    }

    /// A line of the stream; `None` if it is none of those events.
    pub fn read(value: &Value) -> Option<Self> {
        let (event, members) = EVENTS
            .into_iter()
            .find(|(event, _)| value["event"] == *event)?;
        let has = |member: &str| members.contains(&member);
        Some(Self {
            event,
            pid: integer(value, "pid"),
            ino: integer(value, "ino"),
            cause: if has("cause") {
                text(value, "cause").to_owned()
            } else {
                String::new()
            },
            releaser: if has("releaser") {
                releaser(&value["releaser"])
            } else {
                0
            },
            pins: if has("pins") {
                integer(value, "pins")
            } else {
                0
            },
        })
    }
}

/// 0: nobody was seen.
fn releaser(releaser: &Value) -> i64 {
    if releaser.is_null() {
        0
    } else if text(releaser, "comm").starts_with("kworker/") {
        KWORKER
    } else {
        integer(releaser, "pid")
    }
}
