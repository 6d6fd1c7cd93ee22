//! The directory in bpffs: the maps, readable by root only, so that `report` can read the stakes of a
//! running monitor; and, with enforcement in place, the links that keep everything attached
//! without one. A directory whose monitor is dead and that enforces nothing is recognised and removed.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData};
use lease_trace_common::{control, count::PerCpu, share::Shares, stake::InodeSlot, totals::Totals};

pub use super::control_map::{ControlMap, living_owner, set_words, started, word};
use super::{
    control_map::{CONTROL, busy, cannot_claim, claim_in, write},
    error::{Error, chain},
    lock::{self, Lock},
    own_maps::OwnMaps,
    snapshot::Source,
    walk::Walker,
};
use crate::kernel::host;

const BPFFS: &str = "/sys/fs/bpf";
const DIRECTORY: &str = "/sys/fs/bpf/lease-trace";
/// Where the links are, inside the directory.
const LINKS: &str = "links";
/// And the programs they attach: only CAP_SYS_ADMIN may ask a link for its program.
const PROGRAMS: &str = "programs";
/// Maps that a reader needs, or a monitor that takes over.
const MAPS: &[&str] = &[
    CONTROL,
    "LEASES",
    InodeSlot::MAP,
    "STAKES",
    "SLOT_OF",
    "PATHS",
    "BREAKERS",
    PerCpu::MAP,
    "EVENTS",
    "WAKE",
    "POLICY",
    "RULES",
    "TEXT_RANGES",
    "CONSUMERS",
    "HITS",
    "DETACHED",
    "CALLS",
    "COVERS",
    "PENDING",
    "ORPHANS",
    "STACKS",
    Totals::MAP,
    Shares::MAP,
];

/// The directory of this process; removed when dropped, unless it is kept.
pub struct Directory {
    path: PathBuf,
    /// Its inode number: by the time of the end another directory may be in its place.
    inode: u64,
    keep: bool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let removed = Lock::take(&self.path).and_then(|lock| match lock {
            Some(lock) if lock.inode == self.inode => remove(&self.path).map_err(cannot_remove),
            _ => Ok(()),
        });
        if let Err(error) = removed {
            log::warn!("{error}");
        }
    }
}

impl Directory {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where links are to be pinned.
    pub fn links(&self) -> PathBuf {
        self.path.join(LINKS)
    }

    /// Where the programs that they attach are to be pinned.
    pub fn programs(&self) -> PathBuf {
        self.path.join(PROGRAMS)
    }

    /// From here on it outlives this process.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

/// What stood in the way and was put right.
pub type Recovered = Option<String>;

/// Makes the directory and pins the maps in it, unless a living monitor has done so or enforcement
/// is in place. `state` is what the word `ENFORCED` says from the first moment on.
pub fn create(maps: &mut OwnMaps, state: u64) -> Result<(Directory, Recovered), Error> {
    if let Some(obstacle) = host::bpffs(Path::new(BPFFS)) {
        return Err(obstacle.into());
    }
    let path = Path::new(DIRECTORY);
    let mut recovered = None;
    // Until the maps are in it: who comes second finds an owner.
    let lock = loop {
        make(path)?;
        // Gone meanwhile, or another one: it is somebody's who was faster.
        let Some(lock) = Lock::take(path)? else {
            continue;
        };
        if let Some(busy) = busy() {
            return Err(busy);
        }
        if is_empty(path) {
            break lock;
        }
        if word(control::ENFORCED) == control::IN_PLACE {
            return Err(Error::Locked);
        }
        remove(path).map_err(cannot_remove)?;
        recovered = Some(format!(
            "removed {DIRECTORY}, left by a monitor or a start of enforcement that did not end by \
             itself"
        ));
    };
    let directory = Directory {
        path: path.to_owned(),
        inode: lock.inode,
        keep: false,
    };
    let filled = fill(maps, &directory, state);
    // The directory's end takes the lock again, if need be.
    drop(lock);
    filled.map(|()| (directory, recovered))
}

/// Makes a directory for nobody else, if it is not there.
fn make(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::maps(
            "cannot create",
            path.display().to_string(),
            error,
        )),
        _ => Ok(()),
    }
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn cannot_remove(error: io::Error) -> Error {
    Error::maps("cannot remove", DIRECTORY, error)
}

/// The map of the owner comes first, and says all that it is to say when it appears.
fn fill(maps: &mut OwnMaps, directory: &Directory, state: u64) -> Result<(), Error> {
    let path = directory.path();
    let words = [
        (control::LAYOUT_OF, control::LAYOUT),
        (control::ENFORCED, state),
    ];
    let mut array = Array::<_, u64>::try_from(maps.get_mut(CONTROL)?).map_err(cannot_claim)?;
    write(&mut array, &words)?;
    claim_in(&mut array)?;
    for name in MAPS {
        let at = path.join(file(name));
        pin(maps.get_mut(name)?, &at)
            .map_err(|error| Error::maps("cannot pin", at.display().to_string(), error))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600))
            .map_err(|error| Error::maps("cannot restrict", at.display().to_string(), error))?;
    }
    make(&directory.links())?;
    make(&directory.programs())
}

/// The name of a map's file: bpffs has none with a dot.
fn file(map: &str) -> &str {
    map.rsplit('.').next().unwrap_or(map)
}

fn pin(map: &mut Map, at: &Path) -> Result<(), String> {
    map.pin(at).map_err(|error| chain(&error))
}

/// Where everything is, whether there is anything or not.
pub fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

/// The pinned programs that walk over tasks.
pub fn walker() -> Result<Walker, Error> {
    Walker::open(Path::new(DIRECTORY))
}

/// The directory's inode number, if there is one: no two that were ever made have the same.
pub fn inode() -> Option<u64> {
    fs::metadata(DIRECTORY).ok().map(|found| found.ino())
}

/// Whose maps can be read here, if there are any; an error if they are those of another layout.
pub fn source() -> Result<Option<Source>, Error> {
    ControlMap::open().map_or(Ok(None), |control| control.source())
}

/// Whether enforcement is in place; an error if it is that of another layout.
pub fn enforced() -> Result<bool, Error> {
    if word(control::ENFORCED) != control::IN_PLACE {
        return Ok(false);
    }
    same_layout()?;
    Ok(true)
}

/// What there is of enforcement that is not whole, and is nobody's that lives.
pub fn cut_off() -> Option<Error> {
    let state = word(control::ENFORCED);
    let links = links().len();
    (matches!(state, control::STARTING | control::STOPPING) && links > 0)
        .then_some(Error::CutOff { links })
}

/// The lock on the directory, which is there.
pub fn locked() -> Result<Lock, Error> {
    Lock::take(Path::new(DIRECTORY))?.ok_or_else(|| cannot_claim("it was removed meanwhile"))
}

fn same_layout() -> Result<(), Error> {
    if word(control::LAYOUT_OF) == control::LAYOUT {
        Ok(())
    } else {
        Err(Error::OtherLayout)
    }
}

/// The directory of a monitor that is dead; the next monitor removes it.
pub fn stale() -> Option<&'static str> {
    let stale = lock::is_own(Path::new(DIRECTORY)).unwrap_or(false)
        && living_owner().is_none()
        && word(control::ENFORCED) != control::IN_PLACE;
    stale.then_some(DIRECTORY)
}

/// The right to read the ring buffer of the enforcement in place; given back when dropped.
pub struct Claim(());

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = set_words(&[(control::PID, 0), (control::ALL_EVENTS, 0)]) {
            log::warn!("{error}");
        }
    }
}

/// Takes over from a monitor that ended, or says which one has not.
pub fn claim() -> Result<Claim, Error> {
    let _lock = locked()?;
    if let Some(busy) = busy() {
        return Err(busy);
    }
    let mut control = ControlMap::open().ok_or_else(|| cannot_claim("it is not pinned"))?;
    claim_in(&mut control.0)?;
    Ok(Claim(()))
}

/// A map of the running monitor, or of the enforcement in place.
pub fn open(name: &str) -> Result<MapData, Error> {
    let path = Path::new(DIRECTORY).join(file(name));
    MapData::from_pin(&path)
        .map_err(|error| Error::maps("cannot open", path.display().to_string(), chain(&error)))
}

/// Names of the links in place, sorted.
pub fn links() -> Vec<String> {
    names(&Path::new(DIRECTORY).join(LINKS))
}

/// A program in place: its name, and where it and what keeps it attached are pinned.
pub struct Pinned {
    pub name: String,
    pub program: PathBuf,
    pub link: PathBuf,
}

/// The programs in place.
pub fn programs() -> Vec<Pinned> {
    let directory = Path::new(DIRECTORY);
    let names = names(&directory.join(PROGRAMS)).into_iter();
    names
        .map(|name| Pinned {
            program: directory.join(PROGRAMS).join(&name),
            link: directory.join(LINKS).join(&name),
            name,
        })
        .collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory);
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// Removes everything that is pinned, whoever left it; whether there was anything. What a process
/// that lives has for itself stays.
pub fn remove_all() -> Result<bool, Error> {
    let path = Path::new(DIRECTORY);
    loop {
        let Some(_lock) = Lock::take(path)? else {
            if lock::is_own(path)? {
                continue;
            }
            return Ok(false);
        };
        // In place, it may have a reader, who has no part in keeping it.
        if word(control::ENFORCED) != control::IN_PLACE
            && let Some(busy) = busy()
        {
            return Err(busy);
        }
        if word(control::ENFORCED) != 0 {
            set_words(&[(control::ENFORCED, control::STOPPING)])?;
        }
        return remove(path).map(|()| true).map_err(cannot_remove);
    }
}

/// The links go first: once they are gone, nobody writes to the maps.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path.join(LINKS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(path)
}
