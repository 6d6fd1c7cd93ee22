//! Files held: duplicates of leased open file descriptions, so that a lease outlives the close of
//! its process until the pins are gone, as the patches of 2019 wanted it.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use lease_trace_common::event::Event;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::{Done, process};
use crate::record::Name;

/// Files held at one time; further ones are not, and that is said.
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
    pub fn done(self, name: Name, outcome: &'static str) -> Done {
        Done {
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
    held: HashMap<(u64, u32), Held>,
}

impl Holds {
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
        let files = duplicates(event)?;
        if files.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let held = Held {
            event: *event,
            path: path.to_vec(),
            files,
            alone_since: None,
        };
        self.held.insert(key(event), held);
        Ok(())
    }

    /// The pins are gone: lets go of the stake's files.
    pub fn let_go(&mut self, event: &Event) -> Option<Held> {
        self.held.remove(&key(event)).map(closed)
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
        self.held
            .extract_if(|_, held| {
                held.alone_since
                    .is_some_and(|since| since.elapsed() > limit)
            })
            .map(|(_, held)| closed(held))
            .collect()
    }
}

const fn key(event: &Event) -> (u64, u32) {
    (event.inode_id, event.owner.tgid)
}

/// The files are closed before anybody is told.
fn closed(mut held: Held) -> Held {
    held.files.clear();
    held
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
mod tests {
    use super::*;
    use crate::fixtures;
    use lease_trace_common::event::EventKind;

    #[test]
    fn a_lease_is_found_among_the_locks_of_a_description() {
        let line = "lock:\t1: LEASE  ACTIVE    WRITE 4711 08:01:12 0 EOF";
        let event = fixtures::event(EventKind::Hold);
        assert!(is_lease(line) && line.contains(&file(&event)));
        assert!(!is_lease(
            "lock:\t1: FLOCK  ADVISORY  WRITE 4711 08:01:12 0 EOF"
        ));
        assert!(!"lock:\t1: LEASE  ACTIVE    WRITE 4711 08:01:123 0 EOF".contains(&file(&event)));
    }
}
