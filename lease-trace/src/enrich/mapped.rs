//! Names of files that processes have mapped or open, by inode: /proc/PID/maps and /proc/PID/fd.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, OpenOptions},
    ops::Range,
    os::{
        linux::fs::MetadataExt as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::OpenOptionsExt as _,
        },
    },
};

use super::{
    locks::{self, LockLine},
    mounts, process,
};
use crate::record::{Dev, FilePath};

/// What marks a file without a name behind its last one (fs/d_path.c).
const DELETED: &[u8] = b" (deleted)";

/// Device and inode.
type Numbers = (Dev, u64);

/// Names, with the mappings that were read before.
#[derive(Default)]
pub struct Mapped {
    mappings: HashMap<u32, Vec<Mapping>>,
    open: HashMap<u32, Vec<(Numbers, Vec<u8>)>>,
    /// Of files on overlayfs, by process and name.
    over: HashMap<(u32, Vec<u8>), Option<Numbers>>,
    /// Files of which none of these has a name.
    unknown: HashSet<(Vec<u32>, Dev, u64)>,
    locks: Option<Vec<LockLine>>,
}

/// What is mapped at an address.
#[derive(Debug, PartialEq, Eq)]
pub enum At {
    Nothing,
    Anonymous,
    /// A file, with its numbers.
    File(FilePath, Dev, u64),
}

/// One line of /proc/PID/maps.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    addresses: Range<u64>,
    dev: Dev,
    ino: u64,
    path: Vec<u8>,
}

impl Mapped {
    /// The name of this inode by which one of these processes has it at `address`, mapped elsewhere, or open;
    /// the first that knows it.
    pub fn path(&mut self, pids: &[u32], address: u64, dev: Dev, ino: u64) -> Option<FilePath> {
        let unknown = (pids.to_vec(), dev, ino);
        if self.unknown.contains(&unknown) {
            return None;
        }
        let at_address = |mapping: &&Mapping| mapping.addresses.contains(&address);
        for pid in pids {
            let mappings = self.mappings(*pid);
            let here = || {
                mappings
                    .iter()
                    .filter(|known| (known.dev, known.ino) == (dev, ino))
            };
            if let Some(found) = here().find(at_address).or_else(|| here().next()) {
                return Some(named(&found.path));
            }
        }
        let found = pids.iter().find_map(|pid| {
            let open = self.open.entry(*pid).or_insert_with(|| open(*pid));
            let mut here = open.iter().filter(|known| known.0 == (dev, ino));
            here.next().map(|(_, path)| named(path))
        });
        if found.is_none() {
            self.unknown.insert(unknown);
        }
        found
    }

    /// What a process has mapped at an address.
    pub fn at(&mut self, pid: u32, address: u64) -> At {
        let mut mappings = self.mappings(pid).iter();
        match mappings.find(|mapping| mapping.addresses.contains(&address)) {
            None => At::Nothing,
            Some(found) if found.ino == 0 => At::Anonymous,
            Some(found) => At::File(named(&found.path), found.dev, found.ino),
        }
    }

    /// The numbers of a file on overlayfs, by the name that a process has for it; nothing if it is on another file
    /// system, or has no name any more.
    pub fn over(&mut self, pid: u32, path: &FilePath) -> Option<Numbers> {
        if path.deleted {
            return None;
        }
        let found = self.over.entry((pid, path.bytes.clone()));
        *found.or_insert_with(|| over(pid, &path.bytes))
    }

    /// The lease in force on a file, by the kernel's list, which is read once.
    pub fn lease(&mut self, dev: Dev, ino: u64) -> Option<&LockLine> {
        let listed = self
            .locks
            .get_or_insert_with(|| locks::leases().unwrap_or_default());
        listed
            .iter()
            .find(|lease| (lease.dev, lease.ino) == (dev, ino))
    }

    fn mappings(&mut self, pid: u32) -> &[Mapping] {
        self.mappings.entry(pid).or_insert_with(|| {
            let text = fs::read(process::file(pid, "maps")).unwrap_or_default();
            text.split(|byte| *byte == b'\n')
                .filter_map(Mapping::parse)
                .collect()
        })
    }
}

impl Mapping {
    /// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE   PATH`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let end = rest
                .iter()
                .position(|byte| *byte == b' ')
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.strip_prefix(b" ").unwrap_or(after);
            std::str::from_utf8(word).ok()
        };
        let (start, end) = word()?.split_once('-')?;
        word()?;
        word()?;
        let (major, minor) = word()?.split_once(':')?;
        let ino = word()?.parse().ok()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let path = rest.trim_ascii_start();
        Some(Self {
            addresses: hex(start)?..hex(end)?,
            dev: Dev::new(hex(major)? as u32, hex(minor)? as u32),
            ino,
            path: unescape(path),
        })
    }
}

/// The kernel writes a line's end in a name as `\012`.
fn unescape(path: &[u8]) -> Vec<u8> {
    const END: &[u8] = b"\\012";
    let mut name = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(END) {
            name.push(b'\n');
            rest = after;
        } else {
            name.push(*first);
            rest = after;
        }
    }
    name
}

/// What a process has open that is a file: its numbers, as the kernel has them, and its name.
fn open(pid: u32) -> Vec<(Numbers, Vec<u8>)> {
    let Ok(descriptors) = fs::read_dir(process::file(pid, "fd")) else {
        return Vec::new();
    };
    let mounts = fs::read_to_string(process::file(pid, "mountinfo")).unwrap_or_default();
    let of = |descriptor: fs::DirEntry| {
        let name = fs::read_link(descriptor.path()).ok()?.into_os_string();
        let name = name.into_vec();
        if !name.starts_with(b"/") {
            return None;
        }
        let found = fs::metadata(descriptor.path()).ok()?;
        let info = process::file(pid, "fdinfo").join(descriptor.file_name());
        let info = fs::read_to_string(info).ok()?;
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        let dev = mounts::of(&mounts, mount.trim().parse().ok()?);
        // What is on no mount of the process (a memfd) has no other number than this.
        let dev = dev.map_or_else(|| dev_of(&found), |(dev, _)| Dev(dev));
        Some(((dev, found.st_ino()), name))
    };
    descriptors.flatten().filter_map(of).collect()
}

/// See [`Mapped::over`].
fn over(pid: u32, path: &[u8]) -> Option<Numbers> {
    let relative = path.strip_prefix(b"/")?;
    let path = process::file(pid, "root").join(OsStr::from_bytes(relative));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .ok()?;
    let listed = fs::read_to_string(process::file(pid, "mountinfo")).ok()?;
    let (dev, kind) = mounts::of(&listed, mounts::id(&file).ok()?)?;
    (kind == "overlay").then_some((Dev(dev), file.metadata().ok()?.st_ino()))
}

/// The device of a file as stat(2) has it.
fn dev_of(found: &fs::Metadata) -> Dev {
    Dev::new(libc::major(found.st_dev()), libc::minor(found.st_dev()))
}

fn named(name: &[u8]) -> FilePath {
    let kept = name.strip_suffix(DELETED);
    FilePath {
        bytes: kept.unwrap_or(name).to_vec(),
        partial: false,
        deleted: kept.is_some(),
    }
}

/// Whether this is memory that the kernel keeps in a file of its own: no process can open or lease it
/// (mm/shmem.c, ipc/shm.c).
pub fn is_memory(path: &FilePath) -> bool {
    let begins = |with: &[u8]| path.bytes.starts_with(with);
    path.deleted && (begins(b"/SYSV") || begins(b"/dev/zero")) || begins(b"[")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mapping() {
        let line = b"7f3c00000000-7f3c00100000 rw-s 00000000 00:2d 131090                     /srv/a\\012b (deleted)";
        let found = Mapping::parse(line).expect("a mapping");
        assert_eq!(found.addresses, 0x7f3c_0000_0000..0x7f3c_0010_0000);
        assert_eq!((found.dev, found.ino), (Dev::new(0, 0x2d), 131_090));
        let path = named(&found.path);
        assert_eq!(
            (path.bytes.as_slice(), path.deleted),
            (b"/srv/a\nb".as_slice(), true)
        );
    }

    #[test]
    fn a_mapping_need_not_have_a_name() {
        let found = Mapping::parse(b"7f3c00000000-7f3c00100000 rw-p 00000000 00:00 0 ");
        assert_eq!(found.expect("a mapping").path, b"");
        assert_eq!(Mapping::parse(b""), None);
    }

    #[test]
    fn memory_of_the_kernels_is_told_from_files() {
        for name in ["/SYSV00000000 (deleted)", "/dev/zero (deleted)", "[heap]"] {
            assert!(is_memory(&named(name.as_bytes())), "{name}");
        }
        for name in ["/SYSVx", "/memfd:pool (deleted)", "/srv/a"] {
            assert!(!is_memory(&named(name.as_bytes())), "{name}");
        }
    }
}
