//! The pinned map `OWNER`: words that say whose the folder in bpffs is, and what it is.

use std::fs;

use aya::maps::{Array, Map, MapData};
use lease_trace_common::owner;

use super::{error::Error, lock, pinned::folder, snapshot::Source};
use crate::kernel::undisturbed::Undisturbed;

/// The map's name.
pub const OWNER: &str = "OWNER";

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
    Error::maps("cannot fill the map", OWNER, reason)
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
        &[(owner::STARTED, owner.started), (owner::PID, owner.pid)],
    )
}

/// The pinned map `OWNER`, opened.
pub struct Words(pub Array<MapData, u64>);

impl Words {
    /// Nothing where nothing is pinned, or by somebody else.
    pub fn open() -> Option<Self> {
        if !lock::is_own(folder()).unwrap_or(false) {
            return None;
        }
        let data = MapData::from_pin(folder().join(OWNER)).ok()?;
        Array::try_from(Map::Array(data)).ok().map(Self)
    }

    pub fn get(&self, index: u32) -> u64 {
        let _undisturbed = Undisturbed::claim();
        self.0.get(&index, 0).unwrap_or(0)
    }

    /// Pid of the living monitor that owns the folder.
    pub fn living_owner(&self) -> Option<u32> {
        let owner = Owner {
            pid: self.get(owner::PID),
            started: self.get(owner::STARTED),
        };
        owner.is_alive().then_some(owner.pid as u32)
    }

    /// Whose maps these are, if anybody's; an error if they are of another layout.
    pub fn source(&self) -> Result<Option<Source>, Error> {
        let living = self.living_owner().map(Source::Monitor);
        let source = match self.get(owner::ENFORCED) {
            owner::IN_PLACE => Some(living.unwrap_or(Source::Enforcement)),
            // Not whole: nobody's to read.
            owner::STARTING | owner::STOPPING => None,
            _ => living,
        };
        if source.is_some() && self.get(owner::LAYOUT_OF) != owner::LAYOUT {
            return Err(Error::OtherLayout);
        }
        Ok(source)
    }
}

/// One of the words of [`owner`]; 0 where nothing is pinned.
pub fn word(index: u32) -> u64 {
    Words::open().map_or(0, |words| words.get(index))
}

/// Sets words of [`owner`].
pub fn set_words(words: &[(u32, u64)]) -> Result<(), Error> {
    let mut owner = Words::open().ok_or_else(|| cannot_claim("it is not pinned"))?;
    write(&mut owner.0, words)
}

/// Pid of the living monitor that owns the folder.
pub fn living_owner() -> Option<u32> {
    Words::open()?.living_owner()
}

/// What keeps others from beginning: a living process that has the folder.
pub fn busy() -> Option<Error> {
    let words = Words::open()?;
    let pid = words.living_owner()?;
    Some(if words.get(owner::ENFORCED) == owner::STARTING {
        Error::Starting { pid }
    } else {
        Error::AlreadyRunning { pid }
    })
}
