//! The folder in bpffs: the maps, readable by root only, so that `report` can read the stakes of a
//! running monitor; and, with enforcement in place, the links that keep everything attached
//! without one. A folder whose monitor is dead and that enforces nothing is recognised and removed.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};
use lease_trace_common::owner;

use super::{
    error::{Error, chain},
    maps::COUNTS,
    snapshot::Source,
    walk::Walker,
};
use crate::kernel::host;

const BPFFS: &str = "/sys/fs/bpf";
const FOLDER: &str = "/sys/fs/bpf/lease-trace";
/// Where the links are, inside the folder.
const LINKS: &str = "links";
/// And the programs they attach: only CAP_SYS_ADMIN may ask a link for its program.
const PROGRAMS: &str = "programs";
/// Who the folder belongs to.
const OWNER: &str = "OWNER";
/// Maps that a reader needs, or a monitor that takes over.
const MAPS: &[&str] = &[
    OWNER, "LEASES", "INODES", "STAKES", "PATHS", COUNTS, "EVENTS", "WAKE", "POLICY", "RULES",
    "FRAMES", "HITS",
];

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

/// The folder of this process; removed when dropped, unless it is kept.
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = remove(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Folder {
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

/// Makes the folder and pins the maps in it, unless a living monitor has done so or enforcement
/// is in place.
pub fn create(ebpf: &mut Ebpf) -> Result<(Folder, Recovered), Error> {
    if let Some(obstacle) = host::bpffs(Path::new(BPFFS)) {
        return Err(obstacle.into());
    }
    let path = Path::new(FOLDER);
    let mut recovered = None;
    if path.exists() {
        if let Some(pid) = living_owner() {
            return Err(Error::AlreadyRunning { pid });
        }
        remove(path).map_err(|error| Error::maps("cannot remove the stale", FOLDER, error))?;
        recovered = Some(format!(
            "removed {FOLDER}, left by a monitor that did not end by itself"
        ));
    }
    let folder = Folder {
        path: path.to_owned(),
        keep: false,
    };
    for made in [path.to_owned(), folder.links(), folder.programs()] {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&made)
            .map_err(|error| Error::maps("cannot create", made.display().to_string(), error))?;
    }
    let words = [(owner::LAYOUT_OF, owner::LAYOUT)];
    let map = ebpf
        .map_mut(OWNER)
        .ok_or_else(|| Error::maps("cannot find the map", OWNER, "it is not in the object"))?;
    let mut array = Array::<_, u64>::try_from(map).map_err(cannot_claim)?;
    write(&mut array, &words)?;
    claim_in(&mut array)?;
    for name in MAPS {
        let map = ebpf
            .map_mut(name)
            .ok_or_else(|| Error::maps("cannot find the map", *name, "it is not in the object"))?;
        let at = path.join(file(name));
        pin(map, &at)
            .map_err(|error| Error::maps("cannot pin", at.display().to_string(), error))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600))
            .map_err(|error| Error::maps("cannot restrict", at.display().to_string(), error))?;
    }
    Ok((folder, recovered))
}

/// The name of a map's file: bpffs has none with a dot.
fn file(map: &str) -> &str {
    map.rsplit('.').next().unwrap_or(map)
}

fn pin(map: &mut Map, at: &Path) -> Result<(), String> {
    map.pin(at).map_err(|error| chain(&error))
}

fn cannot_claim(reason: impl std::fmt::Display) -> Error {
    Error::maps("cannot fill the map", OWNER, reason)
}

fn write<T>(array: &mut Array<T, u64>, words: &[(u32, u64)]) -> Result<(), Error>
where
    T: std::borrow::BorrowMut<MapData>,
{
    words
        .iter()
        .try_for_each(|(index, value)| array.set(*index, *value, 0))
        .map_err(cannot_claim)
}

fn claim_in<T>(array: &mut Array<T, u64>) -> Result<(), Error>
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

/// Where everything is, whether there is anything or not.
pub fn folder() -> &'static Path {
    Path::new(FOLDER)
}

/// The pinned programs that walk over tasks.
pub fn walker() -> Result<Walker, Error> {
    Walker::open(Path::new(FOLDER))
}

/// The pinned map `OWNER`, opened.
pub struct Words(Array<MapData, u64>);

impl Words {
    /// Nothing where nothing is pinned.
    pub fn open() -> Option<Self> {
        let data = MapData::from_pin(Path::new(FOLDER).join(OWNER)).ok()?;
        Array::try_from(Map::Array(data)).ok().map(Self)
    }

    fn get(&self, index: u32) -> u64 {
        self.0.get(&index, 0).unwrap_or(0)
    }

    /// Pid of the living monitor that owns the folder.
    fn living_owner(&self) -> Option<u32> {
        let owner = Owner {
            pid: self.get(owner::PID),
            started: self.get(owner::STARTED),
        };
        owner.is_alive().then_some(owner.pid as u32)
    }

    /// Whose maps these are, if anybody's; an error if they are of another layout.
    pub fn source(&self) -> Result<Option<Source>, Error> {
        let living = self.living_owner().map(Source::Monitor);
        let source = if self.get(owner::ENFORCED) == 0 {
            living
        } else {
            Some(living.unwrap_or(Source::Enforcement))
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

/// The folder's inode number, if there is one: no two that were ever made have the same.
pub fn inode() -> Option<u64> {
    fs::metadata(FOLDER).ok().map(|found| found.ino())
}

/// Whose maps can be read here, if there are any; an error if they are those of another layout.
pub fn source() -> Result<Option<Source>, Error> {
    Words::open().map_or(Ok(None), |words| words.source())
}

/// Whether enforcement is in place; an error if it is that of another layout.
pub fn enforced() -> Result<bool, Error> {
    if word(owner::ENFORCED) == 0 {
        return Ok(false);
    }
    same_layout()?;
    Ok(true)
}

fn same_layout() -> Result<(), Error> {
    if word(owner::LAYOUT_OF) == owner::LAYOUT {
        Ok(())
    } else {
        Err(Error::OtherLayout)
    }
}

/// The folder of a monitor that is dead; the next monitor removes it.
pub fn stale() -> Option<&'static str> {
    let stale =
        Path::new(FOLDER).exists() && living_owner().is_none() && word(owner::ENFORCED) == 0;
    stale.then_some(FOLDER)
}

/// The right to read the ring buffer of the enforcement in place; given back when dropped.
pub struct Claim(());

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = set_words(&[(owner::PID, 0), (owner::ALL_EVENTS, 0)]) {
            log::warn!("{error}");
        }
    }
}

/// Takes over from a monitor that ended, or says which one has not.
pub fn claim() -> Result<Claim, Error> {
    if let Some(pid) = living_owner() {
        return Err(Error::AlreadyRunning { pid });
    }
    let mut owner = Words::open().ok_or_else(|| cannot_claim("it is not pinned"))?;
    claim_in(&mut owner.0)?;
    Ok(Claim(()))
}

/// A map of the running monitor, or of the enforcement in place.
pub fn open(name: &str) -> Result<MapData, Error> {
    let path = Path::new(FOLDER).join(file(name));
    MapData::from_pin(&path)
        .map_err(|error| Error::maps("cannot open", path.display().to_string(), chain(&error)))
}

/// Names of the links in place, sorted.
pub fn links() -> Vec<String> {
    names(&Path::new(FOLDER).join(LINKS))
}

/// The programs in place: name, and where they are pinned.
pub fn programs() -> Vec<(String, PathBuf)> {
    let folder = Path::new(FOLDER).join(PROGRAMS);
    let names = names(&folder).into_iter();
    names
        .map(|name| {
            let at = folder.join(&name);
            (name, at)
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder);
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// Removes everything that is pinned, whoever left it; whether there was anything.
pub fn remove_all() -> Result<bool, Error> {
    match remove(Path::new(FOLDER)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::maps("cannot remove", FOLDER, error)),
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
