//! Leases whose end no hook saw: the program looks, while somebody reads, whether the kernel lists each.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use super::{bpffs, object::Object, pinned};
use crate::kernel::{bpf, iter};

/// The file, its program, and the map that it goes over.
const FILE: bpffs::File = ("lapsed", "find_lapsed", "LEASES");

/// Makes the file; why there is none if that cannot be.
pub fn make(object: &Object, folder: &pinned::Folder) -> Option<String> {
    let made = bpffs::pin(object, FILE, folder.path());
    made.err()
        .map(|reason| format!("leases whose end a hook missed stay in force: {reason}"))
}

/// Goes over all leases, again and again, some at a time.
pub struct Lister {
    link: OwnedFd,
    /// The walk under way.
    walk: Option<File>,
}

impl Lister {
    /// Nothing where there is no such file.
    pub fn open() -> Option<Self> {
        let link = bpf::open(&pinned::folder().join(FILE.0)).ok()?;
        Some(Self { link, walk: None })
    }

    /// Lets those end that the kernel has not listed for a while: goes on for this long, or until all were looked at.
    /// Whether they were.
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
