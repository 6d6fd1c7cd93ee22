//! The live side: loads the object, attaches it, adopts older leases, and hands out ring records
//! and snapshots. What the records mean is not decided here.

mod attach;
mod error;
mod maps;
mod object;
mod pinned;
#[expect(dead_code, reason = "no program denies calls yet")]
mod raw;
pub mod snapshot;
mod walk;

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf},
};
use lease_trace_common::count::Count;
use tokio::io::{Interest, unix::AsyncFd};

pub use self::pinned::stale;
pub use self::{
    attach::{Attachment, Outcome},
    error::Error,
    snapshot::Snapshot,
};
use self::{maps::Maps, object::Adopt};

/// Which hooks to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// fentry/fexit, kprobe/kretprobe where those are refused.
    #[default]
    Auto,
    Fentry,
    Kprobe,
}

/// What to trace and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub attach: AttachMode,
    /// Short-term pins, too.
    pub pins_all: bool,
}

/// A running trace. Dropping it detaches everything and removes the pinned maps.
pub struct Tracer {
    ring: AsyncFd<RingBuf<MapData>>,
    maps: Maps<MapData>,
    attachments: Vec<Attachment>,
    recovered: Option<String>,
    /// Dropped in this order: first the readers' folder goes, then the programs.
    _folder: pinned::Folder,
    _ebpf: Ebpf,
}

impl Tracer {
    /// Loads, attaches, pins the maps and adopts the leases that exist already. Must be called
    /// inside a tokio runtime. On an error nothing stays attached or pinned.
    pub fn start(options: Options) -> Result<Self, Error> {
        let mut object = object::load(options, Adopt::Yes)?;
        let (folder, recovered) = pinned::create(&mut object.ebpf)?;
        let attachments = attach::attach(&mut object, options.attach)?;
        attach::require(&attachments)?;
        walk::walk(&mut object.ebpf, &object.btf)?;
        let ring = ring(&mut object.ebpf)?;
        Ok(Self {
            ring,
            maps: owned(&mut object.ebpf)?,
            attachments,
            recovered,
            _folder: folder,
            _ebpf: object.ebpf,
        })
    }

    /// One line for each point that is watched.
    pub fn attached(&self) -> Vec<String> {
        self.attachments
            .iter()
            .filter_map(Attachment::describe)
            .collect()
    }

    /// What this kernel cannot show, with the reason.
    pub fn cannot(&self) -> Vec<String> {
        self.attachments
            .iter()
            .filter_map(Attachment::loss)
            .collect()
    }

    /// What an earlier monitor left behind and this one removed.
    pub fn recovered(&self) -> Option<&str> {
        self.recovered.as_deref()
    }

    /// Waits for ring records. Safe to cancel: what is not returned stays in the ring.
    pub async fn next(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        loop {
            let mut ready = self.ring.readable_mut().await.map_err(Error::Wait)?;
            let records = take(ready.get_inner_mut());
            ready.clear_ready();
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// The ring records that are there now.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        take(self.ring.get_mut())
    }

    /// Counters, summed over all CPUs, indexed by [`Count`].
    pub fn counts(&self) -> Result<[u64; Count::LEN], Error> {
        self.maps.counts()
    }

    /// What the maps say now; holders are not walked.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            leases: self.maps.leases()?,
            stakes: self.maps.stakes()?,
            holders: Vec::new(),
            counts: self.maps.counts()?,
            monitor: Some(std::process::id()),
        })
    }

    /// Detaches everything and removes the pinned maps.
    pub fn stop(self) {
        drop(self);
    }
}

fn take(ring: &mut RingBuf<MapData>) -> Vec<Vec<u8>> {
    /// Records taken in one go, so that a flood cannot keep the caller here.
    const BATCH: usize = 4096;
    let mut records = Vec::new();
    while records.len() < BATCH {
        let Some(record) = ring.next() else { break };
        records.push(record.to_vec());
    }
    records
}

fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map, Error> {
    ebpf.take_map(name)
        .ok_or_else(|| Error::maps("cannot find the map", name, "not in the object"))
}

fn ring(ebpf: &mut Ebpf) -> Result<AsyncFd<RingBuf<MapData>>, Error> {
    let ring = RingBuf::try_from(map(ebpf, "EVENTS")?)
        .map_err(|error| Error::maps("cannot open the map", "EVENTS", error))?;
    // SAFETY: the descriptor of a ring buffer belongs to it and stays open as long as it lives,
    // which is as long as the registration.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| Error::Wait(error.into()))
}

fn owned(ebpf: &mut Ebpf) -> Result<Maps<MapData>, Error> {
    assemble(|name| map(ebpf, name))
}

/// The maps of the running monitor.
fn of_monitor() -> Result<Maps<MapData>, Error> {
    assemble(|name| {
        let data = pinned::open(name)?;
        Map::from_map_data(data).map_err(|error| Error::maps("cannot open the map", name, error))
    })
}

fn assemble(mut get: impl FnMut(&str) -> Result<Map, Error>) -> Result<Maps<MapData>, Error> {
    let bad = |name: &'static str| {
        move |error: aya::maps::MapError| Error::maps("cannot open the map", name, error)
    };
    Ok(Maps {
        leases: HashMap::try_from(get("LEASES")?).map_err(bad("LEASES"))?,
        stakes: HashMap::try_from(get("STAKES")?).map_err(bad("STAKES"))?,
        inodes: Array::try_from(get("INODES")?).map_err(bad("INODES"))?,
        paths: HashMap::try_from(get("PATHS")?).map_err(bad("PATHS"))?,
        counts: PerCpuArray::try_from(get("COUNTS")?).map_err(bad("COUNTS"))?,
    })
}

/// For `report`: what the running monitor's maps say, else what a walk finds now. Leaves nothing
/// behind.
pub fn snapshot(options: Options) -> Result<Snapshot, Error> {
    let monitor = pinned::living_owner();
    let adopt = if monitor.is_some() {
        Adopt::No
    } else {
        Adopt::Yes
    };
    let mut object = object::load(options, adopt)?;
    let holders = walk::walk(&mut object.ebpf, &object.btf)?;
    let maps = if monitor.is_some() {
        of_monitor()?
    } else {
        owned(&mut object.ebpf)?
    };
    Ok(Snapshot {
        leases: maps.leases()?,
        stakes: maps.stakes()?,
        holders,
        counts: maps.counts()?,
        monitor,
    })
}

/// For `doctor`: attaches every point for a moment and tells what became of each.
pub fn trial() -> Result<Vec<Attachment>, Error> {
    let mut object = object::load(Options::default(), Adopt::No)?;
    attach::attach(&mut object, AttachMode::Auto)
}
