//! The size of a file that the kernel named by path, device and inode.

use std::{
    fs::{self, Metadata},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::process;
use crate::record::{Dev, File, Holder};

/// Asks a descriptor that is open on the file, else the path as its process sees it.
pub fn of(pid: u32, file: &File, holders: &[Holder]) -> Option<u64> {
    let (dev, ino) = (file.dev?, file.ino?);
    let open = holders.iter().filter_map(|holder| {
        Some(process::file(
            holder.process.pid,
            &format!("fd/{}", holder.fd?),
        ))
    });
    let named = file
        .path
        .iter()
        .filter(|path| !path.partial && !path.deleted)
        .map(|path| below_root(pid, &path.bytes));
    open.chain(named)
        .filter_map(|path| fs::metadata(path).ok())
        .find(|found| is_same(found, dev, ino))
        .map(|found| found.len())
}

/// The path in the mount namespace of a process.
fn below_root(pid: u32, path: &[u8]) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    process::file(pid, "root").join(path.strip_prefix("/").unwrap_or(path))
}

/// Another file may have the path by now. Subvolumes have a device of their own that the super
/// block does not know; both are then anonymous ones (major 0).
fn is_same(found: &Metadata, dev: Dev, ino: u64) -> bool {
    let found_dev = Dev::new(libc::major(found.dev()), libc::minor(found.dev()));
    found.ino() == ino && (found_dev == dev || (found_dev.major() == 0 && dev.major() == 0))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{fixtures, record::FilePath};

    #[test]
    fn only_the_same_file_has_the_size() {
        let mut temporary = tempfile::NamedTempFile::new().expect("a temporary file");
        temporary.write_all(&[0; 777]).expect("writes");
        let found = temporary.as_file().metadata().expect("exists");
        let mut file = File {
            path: FilePath::new(temporary.path().as_os_str().as_bytes(), 0),
            dev: Some(Dev::new(libc::major(found.dev()), libc::minor(found.dev()))),
            ino: Some(found.ino()),
        };
        let me = std::process::id();
        assert_eq!(of(me, &file, &[]), Some(777));
        file.ino = Some(found.ino() + 1);
        assert_eq!(of(me, &file, &[]), None);
    }

    #[test]
    fn a_descriptor_knows_a_file_without_a_path() {
        let temporary = tempfile::tempfile().expect("a temporary file");
        temporary.set_len(99).expect("grows");
        let found = temporary.metadata().expect("exists");
        let file = File {
            path: None,
            dev: Some(Dev::new(libc::major(found.dev()), libc::minor(found.dev()))),
            ino: Some(found.ino()),
        };
        let holder = Holder {
            process: fixtures::process(std::process::id(), "me"),
            fd: Some(std::os::fd::AsRawFd::as_raw_fd(&temporary) as u32),
        };
        assert_eq!(of(0, &file, &[holder]), Some(99));
    }
}
