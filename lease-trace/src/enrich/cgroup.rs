//! Cgroups: an id (the inode number of the cgroup's directory) as a path in the unified
//! hierarchy, written as in /proc/PID/cgroup.
//!
//! Ids are never reused, so what was found once stays true, and an id that a full walk did not
//! find belongs to a cgroup that is gone.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::process;

/// Where the unified hierarchy is mounted: alone, or beside the old ones.
const MOUNT_POINTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A cgroup that cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot look at {tried}: {reason}; `systemd-cgls` lists the cgroups")]
    Look { tried: PathBuf, reason: io::Error },
    #[error("this is no directory; give the directory of a cgroup")]
    NotADirectory,
    #[error("this is outside {0}, where the cgroups are; give a path below it")]
    Outside(PathBuf),
    #[error("this host has no unified cgroup hierarchy (cgroup2); leave the cgroup out")]
    NoHierarchy,
}

/// A cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// In the hierarchy, as in /proc/PID/cgroup.
    pub path: PathBuf,
    pub id: u64,
    /// Steps below the root.
    pub level: u32,
}

/// The cgroups of this host.
#[derive(Default)]
pub struct Cgroups {
    root: Option<PathBuf>,
    known: HashMap<u64, Option<String>>,
}

impl Cgroups {
    /// The hierarchy of this host, if it has one.
    pub fn of_host() -> Self {
        // Every directory of the unified hierarchy has this file, the root included.
        let mounted = |point: &&str| Path::new(point).join("cgroup.controllers").exists();
        Self {
            root: MOUNT_POINTS.into_iter().find(mounted).map(PathBuf::from),
            known: HashMap::new(),
        }
    }

    #[cfg(test)]
    pub fn at(root: &Path) -> Self {
        Self {
            root: Some(root.to_owned()),
            known: HashMap::new(),
        }
    }

    /// Finds a cgroup, typed as it is in the hierarchy (as /proc/PID/cgroup and systemd write it),
    /// or with the mount point in front.
    pub fn locate(&self, cgroup: &Path) -> Result<Located, Error> {
        let root = self.root.as_deref().ok_or(Error::NoHierarchy)?;
        let inside = root.join(cgroup.strip_prefix("/").unwrap_or(cgroup));
        let tried = if cgroup.is_absolute() && !inside.exists() {
            cgroup.to_owned()
        } else {
            inside
        };
        let look = |reason| Error::Look {
            tried: tried.clone(),
            reason,
        };
        let found = fs::canonicalize(&tried).map_err(look)?;
        if !found.is_dir() {
            return Err(Error::NotADirectory);
        }
        let root = fs::canonicalize(root).map_err(look)?;
        let Ok(inside) = found.strip_prefix(&root) else {
            return Err(Error::Outside(root));
        };
        Ok(Located {
            path: Path::new("/").join(inside),
            id: number(&found).map_err(look)?,
            level: inside.components().count() as u32,
        })
    }

    /// The path of the cgroup `id`, in which the process `pid` was.
    pub fn path(&mut self, id: u64, pid: u32) -> Option<&str> {
        if !self.known.contains_key(&id) {
            let root = self.root.clone()?;
            let found = of_process(pid).filter(|path| number(&below(&root, path)).ok() == Some(id));
            if found.is_none() {
                self.walk(&root, "");
            }
            // `None` as well: a cgroup that is gone does not come back.
            self.known.entry(id).or_insert(found);
        }
        self.known.get(&id)?.as_deref()
    }

    fn walk(&mut self, directory: &Path, path: &str) {
        if let Ok(id) = number(directory) {
            let path = if path.is_empty() { "/" } else { path };
            self.known.insert(id, Some(path.to_owned()));
        }
        // A cgroup may go while it is looked at: then there is nothing to find below it.
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                self.walk(&entry.path(), &format!("{path}/{}", name.to_string_lossy()));
            }
        }
    }
}

fn number(directory: &Path) -> io::Result<u64> {
    Ok(fs::metadata(directory)?.ino())
}

/// `path`, which begins with a slash, below `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The path in the unified hierarchy of the cgroup that a process is in.
pub fn of_process(pid: u32) -> Option<String> {
    let text = fs::read_to_string(process::file(pid, "cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_number() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let service = root.path().join("system.slice/db.service");
        fs::create_dir_all(&service).expect("creates");
        let mut cgroups = Cgroups::at(root.path());
        let id = number(&service).expect("exists");
        assert_eq!(cgroups.path(id, 0), Some("/system.slice/db.service"));
        let id = number(root.path()).expect("exists");
        assert_eq!(cgroups.path(id, 0), Some("/"));
    }

    #[test]
    fn a_cgroup_is_located_by_its_path() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let service = root.path().join("system.slice/db.service");
        fs::create_dir_all(&service).expect("creates");
        fs::write(root.path().join("tasks"), "").expect("writes");
        let cgroups = Cgroups::at(root.path());
        let locate = |typed: &str| cgroups.locate(Path::new(typed));
        let expected = Located {
            path: "/system.slice/db.service".into(),
            id: number(&service).expect("exists"),
            level: 2,
        };
        for typed in ["/system.slice/db.service", "system.slice/db.service"] {
            assert_eq!(locate(typed).expect("exists"), expected);
        }
        assert_eq!(cgroups.locate(&service).expect("exists"), expected);
        assert_eq!(locate("/").expect("exists").level, 0);
        assert!(matches!(locate("/proc"), Err(Error::Outside(_))));
        assert!(matches!(locate("no/such"), Err(Error::Look { .. })));
        assert!(matches!(locate("tasks"), Err(Error::NotADirectory)));
        let none = Cgroups::default();
        assert!(matches!(
            none.locate(Path::new("/")),
            Err(Error::NoHierarchy)
        ));
    }

    #[test]
    fn what_was_known_outlives_the_cgroup() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let job = root.path().join("job");
        fs::create_dir(&job).expect("creates");
        let id = number(&job).expect("exists");
        let mut cgroups = Cgroups::at(root.path());
        assert_eq!(cgroups.path(id, 0), Some("/job"));
        fs::remove_dir(&job).expect("removes");
        assert_eq!(cgroups.path(id, 0), Some("/job"));
        assert_eq!(cgroups.path(u64::MAX, 0), None);
    }

    #[test]
    fn without_a_hierarchy_nothing_is_known() {
        assert_eq!(Cgroups::default().path(1, 0), None);
    }
}
