//! The monitor's folder in bpffs: its maps, readable by root only, so that `report` can read the
//! stakes of a running monitor. A folder whose monitor is dead is recognised and removed.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};

use super::error::Error;
use crate::kernel::host;

const BPFFS: &str = "/sys/fs/bpf";
const FOLDER: &str = "/sys/fs/bpf/lease-trace";
/// Who the folder belongs to.
const OWNER: &str = "OWNER";
/// Maps that a reader needs.
const MAPS: &[&str] = &[OWNER, "LEASES", "INODES", "STAKES", "PATHS", "COUNTS"];

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
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let state = fields.split_ascii_whitespace().next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The folder of this monitor; removed when dropped.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What stood in the way and was put right.
pub type Recovered = Option<String>;

/// Makes the folder and pins the maps in it, unless a living monitor has done so.
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
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::maps("cannot create", FOLDER, error))?;
    let folder = Folder(path.to_owned());
    claim(ebpf)?;
    for name in MAPS {
        let map = ebpf
            .map_mut(name)
            .ok_or_else(|| Error::maps("cannot find the map", *name, "bug"))?;
        let at = path.join(name);
        pin(map, &at)
            .map_err(|error| Error::maps("cannot pin", at.display().to_string(), error))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600))
            .map_err(|error| Error::maps("cannot restrict", at.display().to_string(), error))?;
    }
    Ok((folder, recovered))
}

fn pin(map: &mut Map, at: &Path) -> Result<(), String> {
    map.pin(at).map_err(|error| super::error::chain(&error))
}

fn claim(ebpf: &mut Ebpf) -> Result<(), Error> {
    let failed = |reason: String| Error::maps("cannot fill the map", OWNER, reason);
    let owner = Owner::current().ok_or_else(|| failed("/proc/self/stat is unreadable".into()))?;
    let map = ebpf
        .map_mut(OWNER)
        .ok_or_else(|| failed("it is not in the object".into()))?;
    let mut array = Array::<_, u64>::try_from(map).map_err(|error| failed(error.to_string()))?;
    for (index, value) in [owner.pid, owner.started].into_iter().enumerate() {
        array
            .set(index as u32, value, 0)
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Pid of the living monitor that owns the folder.
pub fn living_owner() -> Option<u32> {
    let data = MapData::from_pin(Path::new(FOLDER).join(OWNER)).ok()?;
    let map = Map::Array(data);
    let array = Array::<_, u64>::try_from(&map).ok()?;
    let owner = Owner {
        pid: array.get(&0, 0).ok()?,
        started: array.get(&1, 0).ok()?,
    };
    owner.is_alive().then_some(owner.pid as u32)
}

/// The folder of a monitor that is dead; the next monitor removes it.
pub fn stale() -> Option<&'static str> {
    (Path::new(FOLDER).exists() && living_owner().is_none()).then_some(FOLDER)
}

/// A pinned map of the running monitor.
pub fn open(name: &str) -> Result<MapData, Error> {
    let path = Path::new(FOLDER).join(name);
    MapData::from_pin(&path).map_err(|error| {
        Error::maps(
            "cannot open",
            path.display().to_string(),
            super::error::chain(&error),
        )
    })
}

fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(path)
}
