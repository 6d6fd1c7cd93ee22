//! Files held: duplicates of leased open file descriptions, so that a lease outlives the close of
//! its process until the pins are gone, as the patches of 2019 wanted it.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use lease_trace_common::{event::Event, share, stake::StakeKey};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::{ActionTaken, process, wanted::Wanted};
use crate::{
    record::Name,
    service::{Handed, Store},
};

/// Processes whose files are held at one time; what is beyond is not held, and that is said. The service manager
/// keeps 4,096 descriptors (`FileDescriptorStoreMax` of the unit), and one process may have several of a file.
const MOST: usize = 1024;

/// One stake's files.
pub struct Held {
    event: Event,
    path: Vec<u8>,
    files: Vec<OwnedFd>,
    /// Since when its process has had no descriptor of them any more.
    alone_since: Option<Instant>,
}

impl Held {
    /// What there is to tell of it.
    pub fn done(self, name: Name, outcome: &'static str) -> ActionTaken {
        ActionTaken {
            name,
            event: self.event,
            path: self.path,
            outcome,
        }
    }
}

/// Everything held, by inode id and owner.
#[derive(Default)]
pub struct Holds {
    held: HashMap<StakeKey, Held>,
    /// Where the files outlive this process.
    store: Store,
    /// What stakes ask for and cannot have: told once.
    missed: HashSet<StakeKey>,
    /// What was handed over and is not asked for any more: told when its notification comes.
    discarded: HashSet<StakeKey>,
    /// When the stakes were last looked at: what was notified before is known from them.
    as_of_ns: u64,
}

impl Holds {
    /// From here on, whatever is held is given into this store, too.
    pub fn keep_in(&mut self, store: Store) {
        self.store = store;
    }

    pub const fn store(&self) -> Store {
        self.store
    }

    pub fn has(&self, event: &Event) -> bool {
        self.held.contains_key(&event.stake())
    }

    /// Whether the stakes were looked at since.
    pub const fn is_old(&self, event: &Event) -> bool {
        event.time_ns < self.as_of_ns
    }

    /// Whether this old notification is about a file that was let go at the start, since its pins
    /// had gone while no monitor ran.
    pub fn was_discarded(&mut self, event: &Event) -> bool {
        self.discarded.remove(&event.stake())
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes a duplicate of every leased description of the file that the process has.
    ///
    /// # Errors
    /// When there is none any more (it was closed first), or too many are held.
    pub fn take(&mut self, event: &Event, path: &[u8]) -> io::Result<()> {
        if self.held.len() >= MOST {
            return Err(io::Error::other(format!("{MOST} files are held already")));
        }
        let uid = event.owner.uid;
        if self.has_share(uid) {
            return Err(io::Error::other(format!(
                "a quarter of the {MOST} files that can be held are of uid {uid} already"
            )));
        }
        let files = duplicates(event)?;
        if files.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        self.store.keep(&name(event.stake()), &files);
        self.hold(event, path, files);
        Ok(())
    }

    /// Whether so many files are held for this user that others are to have the rest.
    fn has_share(&self, uid: u32) -> bool {
        let user = share::user(uid);
        let is_theirs = |held: &&Held| share::user(held.event.owner.uid) == user;
        let had = self.held.values().filter(is_theirs).count();
        user != share::NOBODY && !share::has_room(had as u64, MOST as u64, share::PARTS)
    }

    fn hold(&mut self, event: &Event, path: &[u8], files: Vec<OwnedFd>) {
        let held = Held {
            event: *event,
            path: path.to_vec(),
            files,
            alone_since: None,
        };
        self.missed.remove(&event.stake());
        self.held.insert(event.stake(), held);
    }

    /// The pins are gone: lets go of the stake's files.
    pub fn let_go(&mut self, event: &Event) -> Option<Held> {
        self.missed.remove(&event.stake());
        let held = self.held.remove(&event.stake())?;
        Some(self.closed(held))
    }

    /// Brings what is held in line with what the stakes ask for, as of `as_of_ns`: takes back what
    /// was handed over, takes what is not held yet, and lets go of everything else. So nothing
    /// depends on notifications, which can be lost, or on a monitor having run all the time.
    pub fn reconcile(
        &mut self,
        wanted: &[Wanted],
        handed: Vec<Handed>,
        as_of_ns: u64,
    ) -> Vec<ActionTaken> {
        self.as_of_ns = as_of_ns;
        let asked: HashSet<StakeKey> = wanted.iter().map(|wanted| wanted.event.stake()).collect();
        self.missed.retain(|key| asked.contains(key));
        let unasked: Vec<Held> = self
            .held
            .extract_if(|key, _| !asked.contains(key))
            .map(|(_, held)| held)
            .collect();
        let mut done: Vec<ActionTaken> = unasked
            .into_iter()
            .map(|held| self.closed(held).done(Name::HoldEnd, "pins-gone"))
            .collect();
        for Wanted { event, path } in wanted {
            let key = event.stake();
            if self.held.contains_key(&key) || self.missed.contains(&key) {
                continue;
            }
            let (name, outcome) = match self.take_back(event, path, &handed) {
                Ok(true) => (Name::Held, "taken-back"),
                Ok(false) => (Name::Held, "done"),
                Err(reason) => {
                    let pid = event.owner.tgid;
                    log::warn!("cannot hold a file of process {pid} any more: {reason}");
                    self.missed.insert(key);
                    (Name::Failed, "too-late")
                }
            };
            done.push(ActionTaken {
                name,
                event: *event,
                path: path.clone(),
                outcome,
            });
        }
        self.discard(handed);
        done
    }

    /// True if it was handed over, false if it was taken anew.
    fn take_back(&mut self, event: &Event, path: &[u8], handed: &[Handed]) -> io::Result<bool> {
        let own = name(event.stake());
        let mut files = Vec::new();
        // The store has a description once, though several stakes may be held by it (fork): then
        // it may be there under the name of another stake in the same inode.
        for of_inode in [false, true] {
            for kept in handed {
                let is_it = match parse(&kept.name) {
                    Some(of) if of_inode => of.inode == event.inode_id,
                    _ => kept.name == own,
                };
                if is_it && is_leased("self", kept.file.as_raw_fd(), event) {
                    files.push(kept.file.try_clone()?);
                }
            }
            if !files.is_empty() && self.held.len() < MOST {
                self.store.keep(&own, &files);
                self.hold(event, path, files);
                return Ok(true);
            }
        }
        self.take(event, path).map(|()| false)
    }

    /// Lets go of what was handed over and is not held now. What has a name that is none of ours is
    /// closed here and left alone in the store.
    fn discard(&mut self, handed: Vec<Handed>) {
        for kept in handed {
            match parse(&kept.name) {
                Some(key) if !self.held.contains_key(&key) => {
                    drop(kept.file);
                    self.forget(key);
                    self.discarded.insert(key);
                }
                _ => {}
            }
        }
    }

    /// The files are closed before anybody is told.
    fn closed(&self, mut held: Held) -> Held {
        held.files.clear();
        self.forget(held.event.stake());
        held
    }

    /// Has the store let go of a stake's files; those that others are held by, too, stay there
    /// under their names.
    fn forget(&self, stake: StakeKey) {
        self.store.forget(&name(stake));
        for (key, held) in &self.held {
            if key.inode == stake.inode {
                self.store.keep(&name(*key), &held.files);
            }
        }
    }

    /// Lets go of what nobody else has had for longer than the limit.
    pub fn expire(&mut self, limit: Duration) -> Vec<Held> {
        for held in self.held.values_mut() {
            let alone = leased(&held.event).is_ok_and(|descriptors| descriptors.is_empty());
            held.alone_since = match (alone, held.alone_since) {
                (true, None) => Some(Instant::now()),
                (true, since) => since,
                (false, _) => None,
            };
        }
        let expired: Vec<_> = self
            .held
            .extract_if(|_, held| {
                held.alone_since
                    .is_some_and(|since| since.elapsed() > limit)
            })
            .collect();
        expired
            .into_iter()
            .map(|(key, held)| {
                // The stake still asks for it.
                self.missed.insert(key);
                self.closed(held)
            })
            .collect()
    }
}

/// The name that a stake's files have in the store.
fn name(StakeKey { inode, tgid, .. }: StakeKey) -> String {
    format!("hold-{tgid}-{inode}")
}

fn parse(name: &str) -> Option<StakeKey> {
    let (tgid, inode) = name.strip_prefix("hold-")?.split_once('-')?;
    Some(StakeKey::new(tgid.parse().ok()?, inode.parse().ok()?))
}

fn duplicates(event: &Event) -> io::Result<Vec<OwnedFd>> {
    let owner = process::open(event.owner.tgid, event.started_ns)?;
    let mut files = Vec::new();
    for descriptor in leased(event)? {
        // It may have been closed, or be another file's by now.
        if let Ok(file) = pidfd_getfd(&owner, descriptor, PidfdGetfdFlags::empty())
            && is_leased("self", file.as_raw_fd(), event)
        {
            files.push(file);
        }
    }
    Ok(files)
}

/// The process's descriptors with a lease on the file; none if it is gone.
fn leased(event: &Event) -> io::Result<Vec<i32>> {
    let pid = event.owner.tgid.to_string();
    let entries = match fs::read_dir(format!("/proc/{pid}/fdinfo")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| is_leased(&pid, *descriptor, event))
        .collect())
}

/// Whether this open file description carries a lease on the file: the kernel lists the leases of
/// a description in its fdinfo (fs/locks.c, show_fd_locks).
fn is_leased(pid: &str, descriptor: i32, event: &Event) -> bool {
    let wanted = file(event);
    fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).is_ok_and(|info| {
        info.lines()
            .any(|line| is_lease(line) && line.contains(&wanted))
    })
}

fn is_lease(line: &str) -> bool {
    line.starts_with("lock:") && (line.contains(" LEASE ") || line.contains(" DELEG "))
}

/// `MAJ:MIN:INO` as lines of locks have it, with the blanks around it.
fn file(event: &Event) -> String {
    const MINOR_BITS: u32 = 20;
    let (major, minor) = (event.dev >> MINOR_BITS, event.dev & ((1 << MINOR_BITS) - 1));
    format!(" {major:02x}:{minor:02x}:{} ", event.ino)
}

#[cfg(test)]
mod hold_tests;
