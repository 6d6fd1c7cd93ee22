//! The survey: who has what pinned now, without having watched. Loads two iterators for a moment, beside whatever
//! else is in place, and leaves nothing behind.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    os::fd::OwnedFd,
};

use aya::{
    include_bytes_aligned,
    maps::{Array, Map, MapData},
};
use aya_obj::Object;
use lease_trace_common::survey::{Found, Kind, MAPPED, Part, Walk, by};

use super::{
    cast,
    error::Error,
    iterator, object,
    own_maps::{OwnMaps, bytes_of},
    raw::RawObject,
    walk,
};
use crate::kernel::{
    host::Obstacle,
    limits,
    owners::{self, Owners},
    undisturbed::Undisturbed,
    vmstat,
};

pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pins.bpf.o"));

/// The programs and what they walk over.
const WALKS: [(&str, &str); 2] = [
    ("owners_of_files", "task_file"),
    ("owners_of_mappings", "task_vma"),
];

/// Looks at one object until two in a row are alike.
const LOOKS: usize = 4;
/// Runs of the program for one object: each looks at 65,536 pages, or entries, so that 4 TiB are looked at in all.
const RUNS: usize = 1 << 14;

/// What was found.
pub struct Survey {
    pub objects: Vec<Owner>,
    /// Pins held by the kernel's own count when the survey began and when it ended.
    pub held: [i64; 2],
    /// What cannot be read, with the reason.
    pub unreadable: Vec<String>,
}

impl Survey {
    /// Whether there are any containers of vfio.
    pub fn has_containers(&self) -> bool {
        self.objects.iter().any(|object| object.kind == Kind::Vfio)
    }

    /// Pins that were found, those that several objects share once.
    pub fn found(&self) -> u64 {
        let parts = self.objects.iter().flat_map(|object| &object.parts);
        parts
            .filter(|part| !part.is_shared)
            .map(|part| part.part.pins)
            .sum()
    }
}

/// An object that keeps pins, and who keeps it.
pub struct Owner {
    pub kind: Kind,
    /// The process whose pins they are, unless a part says so itself; `None`: nobody who is there.
    pub tgid: Option<u32>,
    /// Who has it open or mapped, in the order of the walk.
    pub holders: Vec<Holder>,
    /// Inode number of its file.
    pub ino: u64,
    pub parts: Vec<Pinned>,
    /// It changed at every look.
    pub is_doubtful: bool,
}

/// A descriptor or a mapping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub tgid: u32,
    pub comm: String,
    /// `None`: a mapping.
    pub fd: Option<u32>,
}

/// Pins of one entry in one file.
pub struct Pinned {
    pub part: Part,
    /// The module of the driver, for a memory region.
    pub driver: Option<&'static str>,
    /// Another object or entry has the same pins, and comes before.
    pub is_shared: bool,
    /// Another has them, before or behind.
    pub is_joint: bool,
}

/// The programs, loaded.
struct Surveyor {
    programs: [OwnedFd; 2],
    walk: Array<MapData, Walk>,
    found: Array<MapData, Part>,
    /// Page frames that count; none: all do.
    frames: Range<u64>,
}

/// Takes the survey of all page frames, or of these. Where the kernel's own count says that nothing is pinned, nothing is looked for.
pub fn take(frames: Option<&Range<u64>>) -> Result<Survey, Error> {
    let held = || {
        vmstat::pins()
            .map_err(Error::Vmstat)
            .map(vmstat::Flow::held)
    };
    let before = held()?;
    if before == 0 {
        return Ok(Survey {
            objects: Vec::new(),
            held: [0, 0],
            unreadable: Vec::new(),
        });
    }
    let (mut surveyor, owners) = Surveyor::load(frames)?;
    if frames.is_some() && owners.survey.memmap == 0 {
        return Err(Error::Walk(
            "this kernel does not say where page frames are (vmemmap_base)".to_owned(),
        ));
    }
    let mut objects = surveyor.objects()?;
    // By what has the pins: the object and its entry that came first.
    let mut first = HashMap::new();
    let mut joint = HashSet::new();
    for (number, (holders, object)) in objects.iter_mut().enumerate() {
        let (parts, is_doubtful) = surveyor.settled(holders)?;
        object.is_doubtful = is_doubtful;
        for part in parts {
            let here = (number, part.entry);
            let is_shared = *first.entry(part.id).or_insert(here) != here;
            if is_shared {
                joint.insert(part.id);
            }
            object.parts.push(Pinned {
                part,
                driver: owners.driver(part.driver),
                is_shared,
                is_joint: false,
            });
        }
    }
    for (_, object) in &mut objects {
        for part in &mut object.parts {
            part.is_joint = joint.contains(&part.part.id);
        }
    }
    let unreadable = owners.unreadable.iter();
    Ok(Survey {
        objects: objects.into_iter().map(|(_, object)| object).collect(),
        held: [before, held()?],
        unreadable: unreadable
            .map(|(module, reason)| format!("what {module} has pinned: {reason}"))
            .collect(),
    })
}

impl Surveyor {
    fn load(frames: Option<&Range<u64>>) -> Result<(Self, Owners), Error> {
        let (types, config) = object::ask_kernel()?;
        let owners = owners::ask(&types).map_err(|error| {
            let kernel = matches!(error, owners::Failure::Types(_));
            Obstacle {
                what: error.to_string(),
                remedy: "`lease-trace doctor` shows what else is missing".to_owned(),
                kernel,
            }
        })?;
        let mut object = Object::parse(&cast::complete(OBJECT, &types))
            .map_err(|error| Error::Load(error.to_string()))?;
        let globals = [
            ("CONFIG", bytes_of(&config)),
            ("SURVEY", bytes_of(&owners.survey)),
        ];
        let mut maps = OwnMaps::make_with(&mut object, globals, 1)?;
        let raw = RawObject::new(object, &maps, object::Purpose::default())?;
        let load = |(name, target)| {
            iterator::load(&raw, &types, name, target).map_err(|failure| failure.into_error(target))
        };
        let [files, mappings] = WALKS;
        let surveyor = Self {
            programs: [load(files)?, load(mappings)?],
            walk: array(&mut maps, "WALK")?,
            found: array(&mut maps, "FOUND")?,
            frames: frames.cloned().unwrap_or_default(),
        };
        Ok((surveyor, owners))
    }

    /// Everything with which something may be pinned, and the descriptors and mappings by which to get at it.
    fn objects(&mut self) -> Result<Vec<(Vec<Found>, Owner)>, Error> {
        begin(&mut self.walk, Walk::default())?;
        let mut found = BTreeMap::<(u64, u64), (usize, Vec<Found>, Owner)>::new();
        for program in &self.programs {
            let bytes =
                walk::bytes(program, None).map_err(|error| Error::Walk(error.to_string()))?;
            for record in walk::records::<Found>(&bytes) {
                let Some(kind) = Kind::from_raw(record.kind) else {
                    continue;
                };
                let order = found.len();
                let (_, met, object) = found
                    .entry((record.object, record.file))
                    .or_insert_with(|| (order, Vec::new(), owner(kind, &record)));
                let holder = Holder {
                    tgid: record.tgid,
                    comm: walk::comm(&record.comm),
                    fd: (record.fd != MAPPED).then_some(record.fd),
                };
                // A thread with a table of its own has them once more.
                if !object.holders.contains(&holder) {
                    object.holders.push(holder);
                    met.push(record);
                }
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_unstable_by_key(|(order, ..)| *order);
        Ok(found
            .into_iter()
            .map(|(_, met, object)| (met, object))
            .collect())
    }

    /// What an object has pinned: as two looks in a row have it, or else as the last has, and true.
    fn settled(&mut self, by: &[Found]) -> Result<(Vec<Part>, bool), Error> {
        let mut last = self.look_by_any(by)?;
        for _ in 1..LOOKS {
            let next = self.look_by_any(by)?;
            if next == last {
                // What is gone has nothing.
                let (parts, is_whole) = next.unwrap_or((Vec::new(), true));
                return Ok((parts, !is_whole));
            }
            last = next;
        }
        Ok((last.unwrap_or_default().0, true))
    }

    /// By the first of these that still has it; `None` if none has.
    fn look_by_any(&mut self, by: &[Found]) -> Result<Option<(Vec<Part>, bool)>, Error> {
        for at in by {
            if let Some(looked) = self.look(at)? {
                return Ok(Some(looked));
            }
        }
        Ok(None)
    }

    /// What it has pinned now, and whether that is all; `None` if it is not there any more.
    fn look(&mut self, at: &Found) -> Result<Option<(Vec<Part>, bool)>, Error> {
        let mut parts: Vec<Part> = Vec::new();
        let mut next = Walk {
            file: at.file,
            first_frame: self.frames.start,
            end_frame: self.frames.end,
            ..Walk::default()
        };
        for _ in 0..RUNS {
            let walk = self.run(at, next)?;
            if walk.is_found == 0 {
                return Ok(None);
            }
            for n in 0..walk.parts as u32 {
                let part = self.part(n)?;
                match parts.last_mut() {
                    Some(last) if goes_on(last, &part) => last.pins += part.pins,
                    _ => parts.push(part),
                }
            }
            if walk.is_done != 0 {
                return Ok(Some((parts, true)));
            }
            let from = from_here(&walk, at);
            if walk.parts == 0 && (from.seek, from.skip) == (next.seek, next.skip) {
                break;
            }
            next = from;
        }
        Ok(Some((parts, false)))
    }

    /// One run of the program: until it has met the file, or seen that it is not there.
    fn run(&mut self, at: &Found, walk: Walk) -> Result<Walk, Error> {
        begin(&mut self.walk, walk)?;
        let failed = |error| Error::maps("cannot read the map", "WALK", error);
        let program = &self.programs[usize::from(at.fd == MAPPED)];
        // In another pid namespace the kernel would take the number for another process's.
        let tgid = limits::sees_all_processes().then_some(at.tgid);
        let (walk, mut looked) = (&self.walk, Ok(walk));
        let walked = walk::until(program, tgid, || {
            let _undisturbed = Undisturbed::claim();
            looked = walk.get(&0, 0);
            looked.as_ref().map_or(true, |looked| looked.is_found != 0)
        });
        walked.map_err(|error| Error::Walk(error.to_string()))?;
        looked.map_err(failed)
    }

    fn part(&self, n: u32) -> Result<Part, Error> {
        let _undisturbed = Undisturbed::claim();
        let part = self.found.get(&n, 0);
        part.map_err(|error| Error::maps("cannot read the map", "FOUND", error))
    }
}

fn begin(map: &mut Array<MapData, Walk>, walk: Walk) -> Result<(), Error> {
    let _undisturbed = Undisturbed::claim();
    map.set(0, walk, 0)
        .map_err(|error| Error::maps("cannot write the map", "WALK", error))
}

/// An object of which nothing is known but its file.
fn owner(kind: Kind, record: &Found) -> Owner {
    let tgid = match kind {
        // By the kernel's account; 0: somebody who is gone.
        Kind::Ring => record.owner,
        // The first that is met.
        Kind::Umem | Kind::Dmabuf => record.tgid,
        Kind::Verbs | Kind::Vfio => 0,
    };
    Owner {
        kind,
        tgid: (tgid != 0).then_some(tgid),
        holders: Vec::new(),
        ino: record.ino,
        parts: Vec::new(),
        is_doubtful: false,
    }
}

/// Whether this is the rest of the same pins, which two runs have found.
fn goes_on(last: &Part, next: &Part) -> bool {
    let Part { pins, offset, .. } = *last;
    *last
        == Part {
            pins,
            offset,
            ..*next
        }
}

/// The walk that goes on where one has stopped.
fn from_here(walk: &Walk, at: &Found) -> Walk {
    let skip = if walk.by == by::NOTHING {
        walk.skip
    } else {
        walk.at.max(walk.skip)
    };
    // A list is gone through from its beginning.
    let entry = match Kind::from_raw(at.kind) {
        Some(Kind::Verbs | Kind::Vfio) => 0,
        _ => walk.entry,
    };
    Walk {
        file: at.file,
        first_frame: walk.first_frame,
        end_frame: walk.end_frame,
        entry,
        seek: walk.entry.max(walk.seek),
        skip,
        mapping: walk.mapping,
        part: walk.part,
        ..Walk::default()
    }
}

fn array<T: aya::Pod>(maps: &mut OwnMaps, name: &'static str) -> Result<Array<MapData, T>, Error> {
    let map: Map = maps.take(name)?;
    Array::try_from(map).map_err(|error| Error::maps("cannot open the map", name, error))
}
