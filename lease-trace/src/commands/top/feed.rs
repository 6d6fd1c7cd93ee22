//! Where the figures of the screen come from: the maps of a monitor or of the enforcement in place,
//! read as `report` does; or hooks of its own, where nobody watches.

use lease_trace_common::count::Count;

use crate::{
    sinks::top::From,
    tracer::{
        self, Tracer, look,
        snapshot::{Holder, Snapshot, Source},
    },
};

/// Who watches.
pub enum Feed {
    /// Somebody else, who may end and begin again meanwhile.
    InPlace,
    Own(Box<Tracer>),
}

impl Feed {
    /// Whoever is there; else hooks of its own, and `attaching` is called before. Must be called
    /// inside a tokio runtime.
    pub fn open(options: tracer::Options, attaching: impl FnOnce()) -> Result<Self, tracer::Error> {
        if look::in_place()?.is_some() {
            return Ok(Self::InPlace);
        }
        attaching();
        Ok(Self::Own(Box::new(Tracer::start(options, None)?)))
    }

    /// What the maps say now, without holders; `None`: who watched has ended.
    pub fn look(&mut self) -> Result<Option<Snapshot>, tracer::Error> {
        match self {
            Self::InPlace => look::look(),
            Self::Own(tracer) => {
                tracer.count_missed()?;
                tracer.snapshot().map(Some)
            }
        }
    }

    /// Tells the maps in place from others that come after them; of its own there is one set only.
    pub fn maps(&self) -> Option<u64> {
        match self {
            Self::InPlace => look::maps(),
            Self::Own(_) => None,
        }
    }

    /// Everybody who refers to a leased file or to another one with a stake.
    pub fn holders(&self) -> Result<Vec<Holder>, tracer::Error> {
        match self {
            Self::InPlace => look::holders(),
            Self::Own(tracer) => tracer.holders(),
        }
    }

    /// Rules in force.
    pub fn rules(&self) -> Result<u32, tracer::Error> {
        match self {
            Self::InPlace => look::rules(),
            Self::Own(_) => Ok(0),
        }
    }

    /// What its own hooks cannot show here. What another's cannot, that one has told.
    pub fn cannot(&self) -> Vec<String> {
        match self {
            Self::InPlace => Vec::new(),
            Self::Own(tracer) => tracer.cannot(),
        }
    }

    pub fn from(&self, snapshot: &Snapshot) -> From {
        match (self, snapshot.source) {
            (Self::Own(_), _) => From::Own,
            (Self::InPlace, Some(Source::Monitor(pid))) => From::Monitor(pid),
            (Self::InPlace, Some(Source::Enforcement) | None) => From::Enforcement,
        }
    }

    /// Takes what its own hooks have written into the ring, where nobody else does: the screen reads
    /// the maps, and a full ring would be counted as a loss. Never returns where others do.
    pub async fn drained(&mut self) {
        match self {
            Self::InPlace => std::future::pending().await,
            Self::Own(tracer) => drop(tracer.next().await),
        }
    }
}

/// Zombies started and ended by these counters.
pub const fn lives(counts: &[u64; Count::LEN]) -> (u64, u64) {
    (
        counts[Count::Zombies as usize],
        counts[Count::AtRest as usize],
    )
}
