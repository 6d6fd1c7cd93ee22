//! The pinned map `CONTROL`: words that say whose the directory in bpffs is, and what it is.

use std::fs;

use aya::maps::{Array, Map, MapData};
use lease_trace_common::control;

use super::{error::Error, lock, pinned::directory, snapshot::Source};
use crate::kernel::undisturbed::Undisturbed;

/// The map's name.
pub const CONTROL: &str = "CONTROL";
/// What it was called up to layout 17: whose directory this is must be known of those, too.
const OLD_CONTROL: &str = "OWNER";

/// A process, and its start time so that a reused pid is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u64,
    started: u64,
}

impl Owner {
    fn current() -> Option<Self> {
        let pid = std::process::id();
        Some(Self {
            pid: u64::from(pid),
            started: started(pid)?,
        })
    }

    fn is_alive(self) -> bool {
        u32::try_from(self.pid).is_ok_and(|pid| started(pid) == Some(self.started))
    }
}

/// Start time of a process in clock ticks since boot: field 22 of /proc/PID/stat, counted from
/// behind the parenthesised name.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let state = fields.split_ascii_whitespace().next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

pub fn cannot_claim(reason: impl std::fmt::Display) -> Error {
    Error::maps("cannot fill the map", CONTROL, reason)
}

pub fn write<T>(array: &mut Array<T, u64>, words: &[(u32, u64)]) -> Result<(), Error>
where
    T: std::borrow::BorrowMut<MapData>,
{
    let _undisturbed = Undisturbed::claim();
    words
        .iter()
        .try_for_each(|(index, value)| array.set(*index, *value, 0))
        .map_err(cannot_claim)
}

pub fn claim_in<T>(array: &mut Array<T, u64>) -> Result<(), Error>
where
    T: std::borrow::BorrowMut<MapData>,
{
    let owner = Owner::current().ok_or_else(|| cannot_claim("/proc/self/stat is unreadable"))?;
    // The start time first: a pid with another's start time is nobody.
    write(
        array,
        &[(control::STARTED, owner.started), (control::PID, owner.pid)],
    )
}

/// The pinned map `CONTROL`, opened.
pub struct ControlMap(pub Array<MapData, u64>);

impl ControlMap {
    /// Nothing where nothing is pinned, or by somebody else.
    pub fn open() -> Option<Self> {
        if !lock::is_own(directory()).unwrap_or(false) {
            return None;
        }
        let pinned = |name| MapData::from_pin(directory().join(name)).ok();
        let data = pinned(CONTROL).or_else(|| pinned(OLD_CONTROL))?;
        Array::try_from(Map::Array(data)).ok().map(Self)
    }

    pub fn get(&self, index: u32) -> u64 {
        let _undisturbed = Undisturbed::claim();
        self.0.get(&index, 0).unwrap_or(0)
    }

    /// Pid of the living monitor that owns the directory.
    pub fn living_owner(&self) -> Option<u32> {
        let owner = Owner {
            pid: self.get(control::PID),
            started: self.get(control::STARTED),
        };
        owner.is_alive().then_some(owner.pid as u32)
    }

    /// Whose maps these are, if anybody's; an error if they are of another layout.
    pub fn source(&self) -> Result<Option<Source>, Error> {
        let living = self.living_owner().map(Source::Monitor);
        let source = match self.get(control::ENFORCED) {
            control::IN_PLACE => Some(living.unwrap_or(Source::Enforcement)),
            // Not whole: nobody's to read.
            control::STARTING | control::STOPPING => None,
            _ => living,
        };
        if source.is_some() && self.get(control::LAYOUT_OF) != control::LAYOUT {
            return Err(Error::OtherLayout);
        }
        Ok(source)
    }
}

/// One of the words of [`control`]; 0 where nothing is pinned.
pub fn word(index: u32) -> u64 {
    ControlMap::open().map_or(0, |control| control.get(index))
}

/// Sets words of [`control`].
pub fn set_words(words: &[(u32, u64)]) -> Result<(), Error> {
    let mut map = ControlMap::open().ok_or_else(|| cannot_claim("it is not pinned"))?;
    write(&mut map.0, words)
}

/// Pid of the living monitor that owns the directory.
pub fn living_owner() -> Option<u32> {
    ControlMap::open()?.living_owner()
}

/// What keeps others from beginning: a living process that has the directory.
pub fn busy() -> Option<Error> {
    let map = ControlMap::open()?;
    let pid = map.living_owner()?;
    Some(if map.get(control::ENFORCED) == control::STARTING {
        Error::Starting { pid }
    } else {
        Error::AlreadyRunning { pid }
    })
}
