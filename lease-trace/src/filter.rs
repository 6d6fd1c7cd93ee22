//! Which records are shown. The kernel side watches everything; this only chooses.
//!
//! What is asked for is checked here: a filter that nothing can ever pass is a mistake, not a quiet monitor.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use lease_trace_common::{event::Event, stake::path_flag};

use crate::{
    enrich::{
        cgroup::{self, Cgroups},
        process,
    },
    record::Entry,
};

/// What to show, as it was asked for. Nothing asked for: everything.
#[derive(Debug, Default)]
pub struct Asked {
    /// Only what these processes own or let go.
    pub pids: Vec<u32>,
    /// Only processes in this cgroup and those below it.
    pub cgroup: Option<PathBuf>,
    /// Only this file, or the files below this directory.
    pub path: Option<PathBuf>,
}

/// What a record must be to be shown.
#[derive(Debug, Default)]
pub struct Filter {
    pids: Vec<u32>,
    /// A path in the unified hierarchy, as in /proc/PID/cgroup.
    cgroup: Option<PathBuf>,
    path: Option<PathBuf>,
}

/// A filter that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("-p {0}: there is no process with this pid; give one that runs, or leave -p out")]
    NoProcess(u32),
    #[error("-p {0}: this is a thread of process {1}; give -p {1}")]
    Thread(u32, u32),
    #[error("-c {0}: {1}")]
    Cgroup(PathBuf, cgroup::Error),
    #[error("--path {0}: a relative path; give one that begins with a slash")]
    Relative(PathBuf),
    #[error("--path {0}: has `..` in it; give the path without")]
    Dots(PathBuf),
}

impl Filter {
    pub fn resolve(asked: &Asked, cgroups: &Cgroups) -> Result<Self, Error> {
        let Asked { pids, cgroup, path } = asked;
        for pid in pids {
            match process::thread_group(*pid) {
                Some(group) if group == *pid => {}
                Some(group) => return Err(Error::Thread(*pid, group)),
                None => return Err(Error::NoProcess(*pid)),
            }
        }
        Ok(Self {
            pids: pids.clone(),
            cgroup: cgroup
                .as_deref()
                .map(|typed| {
                    let found = cgroups.locate(typed).map(|found| found.path);
                    found.map_err(|error| Error::Cgroup(typed.to_owned(), error))
                })
                .transpose()?,
            path: path.as_deref().map(resolve_path).transpose()?,
        })
    }

    /// Whether a notification is shown.
    pub fn admits(&self, event: &Event, path: &[u8], cgroups: &mut Cgroups) -> bool {
        let who = [&event.owner, &event.releaser];
        let partial = event.path_flags & (path_flag::TRUNCATED | path_flag::NO_MOUNT) != 0;
        self.admits_path(path, partial)
            && self.admits_pids(&who.map(|task| task.tgid))
            && (self.cgroup.is_none()
                || who.iter().any(|task| {
                    let path = cgroups.path(task.cgroup, task.tgid);
                    self.admits_cgroup(path)
                }))
    }

    /// Whether an entry of a snapshot is shown.
    pub fn admits_entry(&self, entry: &Entry) -> bool {
        let releaser = entry.releaser.as_ref().map(|releaser| releaser.pid);
        let pids: Vec<_> = releaser
            .into_iter()
            .chain([entry.owner.process.pid])
            .collect();
        let path = entry.file.path.as_ref();
        self.admits_path(
            path.map_or(&[], |path| &path.bytes),
            path.is_some_and(|path| path.partial),
        ) && self.admits_pids(&pids)
            && self.admits_cgroup(entry.owner.cgroup.as_deref())
    }

    /// Whether what this process owns is shown, by what cgroup it is in now; `None`: nobody is known.
    pub fn admits_process(&self, pid: Option<u32>) -> bool {
        let is_anybodys = self.pids.is_empty() && self.cgroup.is_none();
        is_anybodys
            || pid.is_some_and(|pid| {
                self.admits_pids(&[pid])
                    && (self.cgroup.is_none()
                        || self.admits_cgroup(cgroup::of_process(pid).as_deref()))
            })
    }

    fn admits_pids(&self, pids: &[u32]) -> bool {
        self.pids.is_empty() || pids.iter().any(|pid| self.pids.contains(pid))
    }

    fn admits_cgroup(&self, path: Option<&str>) -> bool {
        self.cgroup
            .as_deref()
            .is_none_or(|wanted| path.is_some_and(|path| Path::new(path).starts_with(wanted)))
    }

    /// Whether a file belongs to what is shown. One whose path is not fully known may: rather a
    /// row too many than a zombie missed.
    fn admits_path(&self, path: &[u8], partial: bool) -> bool {
        self.path.as_deref().is_none_or(|wanted| {
            path.is_empty() || partial || Path::new(OsStr::from_bytes(path)).starts_with(wanted)
        })
    }
}

/// A path that may not exist (yet, or any more), so that it cannot be asked of the file system.
/// Where it does exist, symbolic links are followed, because the kernel's paths have none.
fn resolve_path(path: &Path) -> Result<PathBuf, Error> {
    if !path.is_absolute() {
        return Err(Error::Relative(path.to_owned()));
    }
    if let Ok(found) = fs::canonicalize(path) {
        return Ok(found);
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::Dots(path.to_owned()));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use lease_trace_common::event::EventKind;

    use super::*;
    use crate::fixtures;

    fn asked() -> Asked {
        Asked::default()
    }

    fn filter(asked: &Asked) -> Filter {
        Filter::resolve(asked, &Cgroups::default()).expect("possible")
    }

    /// A notification about this process of this cgroup.
    fn event(tgid: u32, cgroup: u64) -> Event {
        let mut event = fixtures::event(EventKind::Zombie);
        for task in [&mut event.owner, &mut event.releaser] {
            task.tgid = tgid;
            task.cgroup = cgroup;
        }
        event
    }

    #[test]
    fn unless_asked_everything_is_shown() {
        let filter = filter(&asked());
        assert!(filter.admits(&event(1, 1), b"/a", &mut Cgroups::default()));
        assert!(filter.admits_entry(&fixtures::entry()));
    }

    #[test]
    fn a_prefix_is_whole_components() {
        let filter = filter(&Asked {
            path: Some("/srv/database".into()),
            ..asked()
        });
        assert!(filter.admits_path(b"/srv/database/1", false));
        assert!(filter.admits_path(b"/srv/database", false));
        assert!(!filter.admits_path(b"/srv/databases/1", false));
        assert!(filter.admits_entry(&fixtures::entry()));
    }

    #[test]
    fn a_path_not_fully_known_may_be_the_one() {
        let filter = filter(&Asked {
            path: Some("/srv/db".into()),
            ..asked()
        });
        assert!(filter.admits_path(b"", false));
        assert!(filter.admits_path(b"/db/1", true));
    }

    #[test]
    fn a_pid_is_the_owner_or_the_releaser() {
        let filter = Filter {
            pids: vec![983, 9],
            ..Filter::default()
        };
        let mut released = event(1, 1);
        released.releaser.tgid = 9;
        let mut cgroups = Cgroups::default();
        assert!(filter.admits(&event(983, 1), b"/a", &mut cgroups));
        assert!(filter.admits(&released, b"/a", &mut cgroups));
        assert!(!filter.admits(&event(1, 1), b"/a", &mut cgroups));
        assert!(filter.admits_entry(&fixtures::entry()), "by its releaser");
    }

    #[test]
    fn a_cgroup_includes_what_is_below_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let inside = root.path().join("jobs/17");
        let beside = root.path().join("jobs2");
        for directory in [&inside, &beside] {
            fs::create_dir_all(directory).expect("creates");
        }
        let mut cgroups = Cgroups::at(root.path());
        for typed in ["jobs".into(), "/jobs".into(), root.path().join("jobs")] {
            let asked = Asked {
                cgroup: Some(typed),
                ..asked()
            };
            let filter = Filter::resolve(&asked, &cgroups).expect("exists");
            let mut admits = |directory: &Path| {
                let id = fs::metadata(directory).expect("exists").ino();
                filter.admits(&event(0, id), b"/a", &mut cgroups)
            };
            assert!(admits(&inside));
            assert!(!admits(&beside));
        }
    }

    #[test]
    fn impossible_filters_say_what_to_do() {
        let cgroups = Cgroups::default();
        let refused = |asked| {
            let error = Filter::resolve(&asked, &cgroups).expect_err("impossible");
            error.to_string()
        };
        insta::assert_snapshot!(refused(Asked { pids: vec![0], ..asked() }), @r#"-p 0: there is no process with this pid; give one that runs, or leave -p out"#);
        insta::assert_snapshot!(refused(Asked { cgroup: Some("x".into()), ..asked() }), @r#"-c x: this host has no unified cgroup hierarchy (cgroup2); leave the cgroup out"#);
        insta::assert_snapshot!(refused(Asked { path: Some("db".into()), ..asked() }), @r#"--path db: a relative path; give one that begins with a slash"#);
        insta::assert_snapshot!(
            refused(Asked { path: Some("/no/../db".into()), ..asked() }),
            @r#"--path /no/../db: has `..` in it; give the path without"#
        );
    }

    #[test]
    fn a_prefix_is_what_its_links_lead_to() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let root = fs::canonicalize(root.path()).expect("exists");
        symlink("/proc", root.join("link")).expect("links");
        assert_eq!(
            resolve_path(&root.join("link")).expect("exists"),
            Path::new("/proc")
        );
        assert_eq!(
            resolve_path(Path::new("/no/such")).expect("fine"),
            Path::new("/no/such")
        );
    }
}
