//! What is counted of a file, held against what the kernel has pinned in it. As where a monitor proves the books
//! (`survey/proof.rs` of the kernel side), more than is counted says nothing: a pin may be of short term, older than
//! the tool, or just being counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{HashMap, IterableMap as _, Map, MapData};
use aya_obj::Object;
use lease_trace_common::{
    batch,
    books::generation,
    stake::{Inode, detached_tag},
    survey::{ASKED, InCache},
    tagged, word,
};

use super::{Look, Rule, Subject, Violation, violation};
use crate::{
    kernel::{iter, undisturbed::Undisturbed},
    tracer::{
        cast,
        error::Error,
        iterator,
        object::{self, Purpose},
        own_maps::{OwnMaps, bytes_of},
        raw::RawObject,
        survey, walk,
    },
};

/// The program, what it walks over, and the map of what is asked for.
const PROGRAM: &str = "pins_of_inodes";
const TARGET: &str = "bpf_map_elem";
const MAP: &str = "ASKED_INODES";

/// Reads page caches; loaded beside whatever is in place, and it changes nothing there.
pub(super) struct PageCaches {
    link: OwnedFd,
    asked: HashMap<MapData, u64, u64>,
}

impl PageCaches {
    pub fn load() -> Result<Self, Error> {
        let (types, config) = object::ask_kernel()?;
        let mut object = Object::parse(&cast::complete(survey::OBJECT, &types))
            .map_err(|error| Error::Load(error.to_string()))?;
        let mut maps = OwnMaps::make_with(&mut object, [("CONFIG", bytes_of(&config))], 1)?;
        let raw = RawObject::new(object, &maps, Purpose::default())?;
        let program = iterator::load(&raw, &types, PROGRAM, TARGET)
            .map_err(|failure| failure.into_error(TARGET))?;
        let map: Map = maps.take(MAP)?;
        let asked = HashMap::try_from(map)
            .map_err(|error| Error::maps("cannot open the map", MAP, error))?;
        let map: &MapData = asked.map();
        let link =
            iter::over_map(program.as_fd(), map.fd().as_fd()).map_err(|error| failed(&error))?;
        Ok(Self { link, asked })
    }

    /// What inodes at these addresses have pinned, as far as it is not as much as is said beside them; those of
    /// which it cannot be seen are left out.
    pub fn pins(&mut self, asked: &[(u64, u64)]) -> Result<BTreeMap<u64, u64>, Error> {
        let refused = |error| Error::maps("cannot fill the map", MAP, error);
        let mut found = BTreeMap::new();
        for some in asked.chunks(ASKED as usize) {
            for (address, enough) in some {
                let _undisturbed = Undisturbed::claim();
                self.asked.insert(address, enough, 0).map_err(refused)?;
            }
            let begun = iter::begin(self.link.as_fd()).map_err(|error| failed(&error))?;
            let bytes = walk::read_all(File::from(begun)).map_err(|error| failed(&error))?;
            found.extend(walk::records(&bytes).map(|InCache { inode, pins }| (inode, pins)));
            for (address, _) in some {
                let _undisturbed = Undisturbed::claim();
                self.asked.remove(address).map_err(refused)?;
            }
        }
        Ok(found)
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::Walk(format!("{TARGET} iterator: {error}"))
}

/// The pins that the words of an inode say there are: without those that were dropped and are not taken out yet.
pub(super) fn counted(inode: &Inode) -> u64 {
    let owed = tagged::value(inode.owed, generation(inode.id)).unwrap_or(0);
    let dropped = owed + batch::dropped(inode.batch);
    word::pins(inode.word).saturating_sub(dropped)
}

/// Whether the counts of an inode are as they were, and it is still the same one.
pub(super) fn is_as_before(before: &Inode, now: &Inode) -> bool {
    let words = |inode: &Inode| {
        let Inode {
            id,
            address,
            word,
            owed,
            batch,
            turns,
            ..
        } = *inode;
        [id, address, word, owed, batch, turns]
    };
    words(before) == words(now)
}

impl Look {
    pub(super) fn page_caches_have_all(&self, found: &mut BTreeSet<Violation>) {
        for (inode, there) in self.short() {
            let subject = Subject::Inode {
                dev: inode.dev,
                ino: inode.ino,
            };
            found.insert(violation(Rule::PageCache, subject, counted(inode), there));
        }
    }

    /// Inodes that have fewer pins than are counted, and how many.
    pub(super) fn short(&self) -> Vec<(&Inode, u64)> {
        let left = self.left();
        let compared = self.cached.iter().filter_map(|(id, cached)| {
            let there = cached + left.get(id).copied().unwrap_or(0);
            Some((self.inodes.get(id)?, there))
        });
        compared
            .filter(|(inode, there)| *there < counted(inode))
            .collect()
    }

    /// Pins on folios that left their page cache, by the id of whose they are: the record's of then, or where that is
    /// no more, of the one that the inode has now.
    fn left(&self) -> BTreeMap<u64, u64> {
        let by_address: BTreeMap<u64, u64> = self
            .inodes
            .values()
            .map(|inode| (inode.address, inode.id))
            .collect();
        let mut left = BTreeMap::new();
        for (folio, detached) in &self.detached {
            let id = if self.inodes.contains_key(&detached.inode_id) {
                Some(&detached.inode_id)
            } else {
                by_address.get(&detached.inode)
            };
            let pins = tagged::value(detached.pins, detached_tag(*folio)).unwrap_or(0);
            if let Some(id) = id {
                *left.entry(*id).or_default() += pins;
            }
        }
        left
    }
}
