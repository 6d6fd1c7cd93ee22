//! What is over, and no hook saw its end: leases that the kernel does not list any more, and calls of threads that have
//! ended. The programs look while somebody reads.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use super::{bpffs, object::Object, pinned};
use crate::kernel::{bpf, iter};

/// A file, its program, and the map that it goes over; and what stays as it is where there is none.
type Sweep = (bpffs::File, &'static str);

const LEASES: Sweep = (
    ("lapsed", "find_lapsed", "LEASES"),
    "leases whose end a hook missed stay in force",
);
const CALLS: Sweep = (
    ("calls", "end_calls", "CALLS"),
    "calls whose return a hook missed are kept",
);

/// Makes the files; why there is none if one cannot be.
pub fn make(object: &Object, directory: &pinned::Directory) -> Vec<String> {
    let make = |(file, loss): Sweep| {
        let made = bpffs::pin(object, file, directory.path());
        made.err().map(|reason| format!("{loss}: {reason}"))
    };
    [LEASES, CALLS].into_iter().filter_map(make).collect()
}

/// Goes over all entries of a map, again and again, some at a time.
pub struct Lister {
    link: OwnedFd,
    /// The walk under way.
    walk: Option<File>,
    loss: &'static str,
}

impl Lister {
    /// Of leases and of calls, as far as there are files.
    pub fn open_all() -> Vec<Self> {
        [LEASES, CALLS].into_iter().filter_map(Self::open).collect()
    }

    fn open((file, loss): Sweep) -> Option<Self> {
        let link = bpf::open(&pinned::directory().join(file.0)).ok()?;
        Some(Self {
            link,
            walk: None,
            loss,
        })
    }

    /// What stays as it is if this one cannot go on.
    pub const fn loss(&self) -> &'static str {
        self.loss
    }

    /// Lets those end that are over: goes on for this long, or until all were looked at. Whether they were.
    pub fn look(&mut self, limit: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        let mut walk = match self.walk.take() {
            Some(walk) => walk,
            None => iter::begin(self.link.as_fd())?.into(),
        };
        loop {
            // The program writes a byte for some leases, and the kernel stops once it has as many as are asked for.
            match walk.read(&mut [0]) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if begun.elapsed() > limit {
                self.walk = Some(walk);
                return Ok(false);
            }
        }
    }
}
