//! The maps, read.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd as _,
};

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap, Map, MapData},
};
use lease_trace_common::{
    STACK_LEN,
    books::generation,
    call::Call,
    cover::{CoverKey, Covered},
    note::{self, Pending},
    share::Shares,
    stake::{Detached, Inode, InodeSlot},
    totals::Totals,
    word,
};

use super::{
    Look, Rule,
    page_cache::{PageCaches, counted, is_as_before},
};
use crate::{
    kernel::{batch, undisturbed::Undisturbed},
    tracer::{Maps, error::Error, inodes::Inodes, of_directory, of_monitor, pinned::ControlMap},
};

/// The maps that are looked at.
pub struct Books {
    inodes: Inodes,
    detached: HashMap<MapData, u64, Detached>,
    calls: HashMap<MapData, u64, Call>,
    notes: HashMap<MapData, u64, Pending>,
    stacks: HashMap<MapData, u64, [u64; STACK_LEN]>,
    covers: HashMap<MapData, CoverKey, Covered>,
    totals: Array<MapData, Totals>,
    shares: Array<MapData, Shares>,
    rest: Maps<MapData>,
    caches: Caches,
}

/// What is known of page caches from the looks so far.
enum Caches {
    /// There were no pins to compare.
    Unasked,
    /// They cannot be read.
    Hidden,
    /// Inodes that had fewer pins than are counted in all looks, by id; the others need not be looked at again.
    Seen(PageCaches, Option<BTreeSet<u64>>),
}

impl Books {
    /// Those of the monitor that runs, or of the enforcement in place; `None` if there are none.
    pub fn open() -> Result<Option<Self>, Error> {
        let is_read = match ControlMap::open() {
            Some(control) => control.source()?.is_some(),
            None => false,
        };
        if !is_read {
            return Ok(None);
        }
        Ok(Some(Self {
            inodes: opened(InodeSlot::MAP, Inodes::of)?,
            detached: opened("DETACHED", HashMap::try_from)?,
            calls: opened("CALLS", HashMap::try_from)?,
            notes: opened("PENDING", HashMap::try_from)?,
            stacks: opened("STACKS", HashMap::try_from)?,
            covers: opened("COVERS", HashMap::try_from)?,
            totals: opened(Totals::MAP, Array::try_from)?,
            shares: opened(Shares::MAP, Array::try_from)?,
            rest: of_monitor()?,
            caches: Caches::Unasked,
        }))
    }

    /// Reads all. While something changes, its parts are of different moments. Page caches are read of inodes that
    /// had fewer pins than are counted in all looks before.
    pub fn look(&mut self) -> Result<Look, Error> {
        let unread = |error| Error::maps("cannot read the map", InodeSlot::MAP, error);
        let slots: BTreeMap<u64, (u32, Inode)> = self
            .inodes
            .all()
            .map_err(unread)?
            .into_iter()
            .map(|(slot, there)| (slot, there.inode))
            .filter(|(_, inode)| word::is_of(inode.word, generation(inode.id)))
            .map(|(slot, inode)| (inode.id, (slot, inode)))
            .collect();
        let mut look = Look {
            inodes: slots.iter().map(|(id, (_, inode))| (*id, *inode)).collect(),
            stakes: self.rest.entries("STAKES", &self.rest.stakes)?,
            leases: self.rest.entries("LEASES", &self.rest.leases)?,
            covers: self.rest.entries("COVERS", &self.covers)?,
            detached: entries("DETACHED", &self.detached)?,
            totals: one(Totals::MAP, &self.totals, 0)?,
            threads: self.threads()?,
            shares: in_shares(&one(Shares::MAP, &self.shares, 0)?),
            cached: BTreeMap::new(),
        };
        look.cached = self.cached(&slots)?;
        if let Caches::Seen(_, short) = &mut self.caches {
            // Those that are short only since the books have changed are none.
            let ids: BTreeSet<u64> = look.short().iter().map(|(inode, _)| inode.id).collect();
            for id in &ids {
                let (slot, before) = &slots[id];
                let now = self.inodes.get(*slot).map_err(unread)?;
                if now.is_none_or(|now| !is_as_before(before, &now.inode)) {
                    look.cached.remove(id);
                }
            }
            let still = |id: &u64| look.cached.contains_key(id);
            *short = Some(ids.into_iter().filter(still).collect());
        }
        Ok(look)
    }

    /// Threads of which something is kept.
    fn threads(&self) -> Result<Vec<(Rule, u32)>, Error> {
        // By what `bpf_get_current_pid_tgid` says, of which the lower half is the thread's number.
        let calls = entries("CALLS", &self.calls)?.into_iter();
        let calls = calls.map(|(thread, _): (u64, Call)| (Rule::Calls, thread as u32));
        let stacks = entries("STACKS", &self.stacks)?.into_iter();
        let stacks =
            stacks.map(|(thread, _): (u64, [u64; STACK_LEN])| (Rule::Stacks, thread as u32));
        let notes = entries("PENDING", &self.notes)?.into_iter();
        let notes = notes.map(|(key, _): (u64, Pending)| (Rule::Notes, note::thread(key)));
        Ok(calls.chain(stacks).chain(notes).collect())
    }

    /// What the page caches of inodes have pinned, by id. Nothing is loaded where no pins are counted.
    fn cached(&mut self, slots: &BTreeMap<u64, (u32, Inode)>) -> Result<BTreeMap<u64, u64>, Error> {
        let wanted = match &self.caches {
            Caches::Hidden => return Ok(BTreeMap::new()),
            Caches::Seen(_, short) => short.as_ref(),
            Caches::Unasked => None,
        };
        let asked: Vec<(u64, u64)> = slots
            .values()
            .filter(|(_, inode)| wanted.is_none_or(|wanted| wanted.contains(&inode.id)))
            .map(|(_, inode)| (inode.address, counted(inode)))
            .filter(|(address, counted)| *address != 0 && *counted > 0)
            .collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        if matches!(self.caches, Caches::Unasked) {
            self.caches = match PageCaches::load() {
                Ok(caches) => Caches::Seen(caches, None),
                Err(error) => {
                    log::warn!("what files have pinned is not compared: {error}");
                    Caches::Hidden
                }
            };
        }
        let Caches::Seen(caches, _) = &mut self.caches else {
            return Ok(BTreeMap::new());
        };
        let pins = caches.pins(&asked)?;
        let of = |inode: &Inode| Some((inode.id, *pins.get(&inode.address)?));
        Ok(slots.values().filter_map(|(_, inode)| of(inode)).collect())
    }
}

fn in_shares(shares: &Shares) -> BTreeMap<(usize, u64), u64> {
    let tables = shares.0.iter().enumerate();
    tables
        .flat_map(|(table, users)| {
            (0..)
                .zip(users)
                .map(move |(user, had)| ((table, user), *had))
        })
        .filter(|(_, had)| *had != 0)
        .collect()
}

/// All entries of a map.
fn entries<K: Pod, V: Pod>(
    name: &'static str,
    map: &impl IterableMap<K, V>,
) -> Result<Vec<(K, V)>, Error> {
    batch::entries(map.map().fd().as_fd())
        .map_err(|error| Error::maps("cannot read the map", name, error))
}

/// One value of an array.
fn one<V: Pod>(name: &'static str, map: &Array<MapData, V>, index: u32) -> Result<V, Error> {
    let _undisturbed = Undisturbed::claim();
    map.get(&index, 0)
        .map_err(|error| Error::maps("cannot read the map", name, error))
}

fn opened<T>(
    name: &'static str,
    make: impl FnOnce(Map) -> Result<T, aya::maps::MapError>,
) -> Result<T, Error> {
    make(of_directory(name)?).map_err(|error| Error::maps("cannot open the map", name, error))
}
