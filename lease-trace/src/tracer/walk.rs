//! Walks over tasks' descriptors and mappings with BPF iterators. The programs are loaded once; a
//! monitor pins them, so that a report need load nothing.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use aya::Pod;
use lease_trace_common::event::{Found, MAPPING};

use super::{
    error::Error,
    iterator,
    object::Object,
    snapshot::{Everybody, Holder, Place, Reference},
};
use crate::kernel::{bpf, iter, limits};

/// The programs and what they walk over.
const WALKS: [(&str, &str); 2] = [("walk_files", "task_file"), ("walk_mappings", "task_vma")];

/// As much as the kernel hands over in one read(2) of an iterator (kernel/bpf/bpf_iter.c).
const ROOM: usize = 8 * 4096;

/// The programs, ready to walk.
pub struct Walker([OwnedFd; 2]);

impl Walker {
    /// Loads the programs of an object.
    pub fn load(object: &Object) -> Result<Self, Error> {
        let [files, mappings] = WALKS.map(|(name, target)| {
            iterator::load(&object.raw, &object.types, name, target)
                .map_err(|failure| failure.into_error(target))
        });
        Ok(Self([files?, mappings?]))
    }

    /// Pins the programs in a directory of bpffs.
    pub fn pin(&self, directory: &Path) -> Result<(), Error> {
        for ((name, _), program) in WALKS.iter().zip(&self.0) {
            let at = directory.join(name);
            bpf::pin(program.as_fd(), &at)
                .map_err(|error| Error::maps("cannot pin", at.display().to_string(), error))?;
        }
        Ok(())
    }

    /// The programs that are pinned in a directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let [files, mappings] = WALKS.map(|(name, _)| {
            let at = directory.join(name);
            bpf::open(&at)
                .map_err(|error| Error::maps("cannot open", at.display().to_string(), error))
        });
        Ok(Self([files?, mappings?]))
    }

    /// Walks over everything: who keeps which lease alive, and who has a tracked inode open or
    /// mapped.
    pub fn all(&self) -> Result<Vec<Holder>, Error> {
        Ok(self.everybody()?.holders)
    }

    /// The same, and of which leases these are all who do.
    pub fn everybody(&self) -> Result<Everybody, Error> {
        let mut found = Vec::new();
        // The kernel goes over the tasks of this pid namespace. Of other tasks it is not known what
        // they have, so that it cannot be told of anybody that nobody else has it.
        if limits::sees_all_processes() {
            for ((_, target), program) in WALKS.iter().zip(&self.0) {
                let bytes = bytes(program, None).map_err(|error| failed(target, error))?;
                found.extend(records::<Found>(&bytes));
            }
        }
        let mut holders: Vec<Holder> = found.iter().map(holder).collect();
        holders.sort_unstable();
        holders.dedup();
        Ok(Everybody {
            holders,
            in_full: known_in_full(&found),
        })
    }

    /// Walks over one process; over its mappings only if no descriptor answers the question. An
    /// error: this kernel walks over everything or nothing.
    pub fn process(
        &self,
        tgid: u32,
        is_answer: impl Fn(&[Holder]) -> bool,
    ) -> io::Result<Vec<Holder>> {
        let mut holders = Vec::new();
        // Another process may have this number in another pid namespace.
        if !limits::sees_all_processes() {
            return Ok(holders);
        }
        for program in &self.0 {
            holders.extend(read(program, Some(tgid))?);
            if is_answer(&holders) {
                break;
            }
        }
        Ok(holders)
    }
}

/// What of a process is walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    Descriptors = 0,
    Mappings = 1,
}

impl Walker {
    /// References of one process to leased files. None if it is gone.
    pub fn references(&self, tgid: u32, over: Over) -> io::Result<Vec<Reference>> {
        if !limits::sees_all_processes() {
            return Ok(Vec::new());
        }
        let bytes = bytes(&self.0[over as usize], Some(tgid))?;
        // 6.1 goes through the table that threads share once for each of them.
        let mut seen = HashSet::new();
        Ok(records::<Found>(&bytes)
            .filter(|found| found.lease != 0)
            .map(|found| reference(&found))
            .filter(|found| seen.insert((found.place, found.file)))
            .collect())
    }
}

/// Leases whose files have as many references as were found, and had at each of them. What tasks share is one.
fn known_in_full(found: &[Found]) -> HashSet<u64> {
    let mut leases: HashMap<u64, (u64, HashSet<u64>)> = HashMap::new();
    let mut seen = HashSet::new();
    for one in found.iter().filter(|one| one.lease != 0) {
        if seen.insert((one.table, one.fd, one.start, one.file)) {
            let (known, had) = leases.entry(one.lease).or_default();
            *known += 1;
            had.insert(one.references);
        }
    }
    let is_known = |(known, had): &(u64, HashSet<u64>)| had.len() == 1 && had.contains(known);
    leases.retain(|_, references| is_known(references));
    leases.into_keys().collect()
}

fn reference(found: &Found) -> Reference {
    Reference {
        place: if found.fd == MAPPING {
            Place::Mapping(found.start, found.end)
        } else {
            Place::Descriptor(found.fd)
        },
        file: found.file,
        inode: found.inode_id,
        references: found.references,
        uncovers: found.uncovers,
    }
}

fn failed(target: &str, reason: impl std::fmt::Display) -> Error {
    Error::Walk(format!("{target} iterator: {reason}"))
}

fn read(program: &OwnedFd, tgid: Option<u32>) -> io::Result<Vec<Holder>> {
    let bytes = bytes(program, tgid)?;
    Ok(records::<Found>(&bytes)
        .map(|found| holder(&found))
        .collect())
}

/// All that a program writes while it walks: over everything, or over one process.
pub fn bytes(program: &OwnedFd, tgid: Option<u32>) -> io::Result<Vec<u8>> {
    read_all(iter::over_tasks(program.as_fd(), tgid)?.into())
}

/// All that an iterator writes.
pub fn read_all(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut patience = Patience::new();
    // Not `read_to_end`: it asks for a size first, and then for a few bytes.
    loop {
        let end = bytes.len();
        bytes.resize(end + ROOM, 0);
        let read = match file.read(&mut bytes[end..]) {
            Ok(0) => {
                bytes.truncate(end);
                return Ok(bytes);
            }
            Ok(read) => read,
            // A million objects without a record (kernel/bpf/bpf_iter.c, `MAX_ITER_OBJECTS`): the
            // walk goes on from there when it is read again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        bytes.truncate(end + read);
        patience.check();
    }
}

/// Lets a program walk that writes nothing, and asks each time when it stops whether that is the end.
pub fn until(
    program: &OwnedFd,
    tgid: Option<u32>,
    mut is_over: impl FnMut() -> bool,
) -> io::Result<()> {
    let mut file: File = iter::over_tasks(program.as_fd(), tgid)?.into();
    let mut patience = Patience::new();
    loop {
        let end = match file.read(&mut [0; 8]) {
            Ok(read) => read == 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => return Err(error),
        };
        if is_over() || end {
            return Ok(());
        }
        patience.check();
    }
}

/// Says that a walk takes long: each time at twice as much as before.
struct Patience {
    begun: Instant,
    next: Duration,
}

impl Patience {
    const FIRST: Duration = Duration::from_secs(10);

    fn new() -> Self {
        Self {
            begun: Instant::now(),
            next: Self::FIRST,
        }
    }

    fn check(&mut self) {
        let taken = self.begun.elapsed();
        if taken >= self.next {
            log::warn!(
                "a walk over open files has taken {} s so far: there are very many of them, and \
                 nothing else is told meanwhile",
                taken.as_secs()
            );
            self.next *= 2;
        }
    }
}

/// What a program has written, record by record.
pub fn records<T: Pod>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).map(|record| {
        // SAFETY: `record` has exactly the size of a `T`, for which every bit pattern is a
        // value; the read does not assume alignment.
        unsafe { record.as_ptr().cast::<T>().read_unaligned() }
    })
}

fn holder(found: &Found) -> Holder {
    Holder {
        lease: found.lease,
        inode: found.inode_id,
        flags: found.flags,
        tgid: found.tgid,
        comm: comm(&found.comm),
        fd: (found.fd != MAPPING).then_some(found.fd),
    }
}

/// The name of a process, as the kernel has it.
pub fn comm(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
