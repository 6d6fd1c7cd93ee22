//! Whose directory it is, and one process at a time: whoever makes, takes over, changes or removes the
//! directory in bpffs has a lock on it meanwhile. The kernel takes the lock from a process that ends.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::error::Error;

/// What is done under the lock takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The lock on a directory, until it is dropped.
pub struct Lock {
    _directory: File,
    /// Inode number of the directory.
    pub inode: u64,
}

impl Lock {
    /// Waits for the lock of a directory that is there; `None` if it is gone, or is another one by now.
    ///
    /// # Errors
    /// [`Error::Stranger`] if the directory is somebody else's, [`Error::Locked`] if another process
    /// keeps the lock.
    pub fn take(path: &Path) -> Result<Option<Self>, Error> {
        let failed =
            |error: io::Error| Error::maps("cannot lock", path.display().to_string(), error);
        if !is_own(path)? {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true);
        options.custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        let directory = match options.open(path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match directory.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(BETWEEN_LOOKS);
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Locked),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let inode = directory.metadata().map_err(failed)?.ino();
        // Whoever had the lock may have removed the directory that it is on.
        let is_there = is_own(path)? && inode_of(path) == Some(inode);
        Ok(is_there.then_some(Self {
            _directory: directory,
            inode,
        }))
    }
}

/// The inode number of what has this name, if anything has.
pub fn inode_of(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}

/// Whether there is a directory of this name that root has made, or who runs this. False if there is
/// nothing.
///
/// # Errors
/// [`Error::Stranger`] if what is there is anything else.
pub fn is_own(path: &Path) -> Result<bool, Error> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            let object = path.display().to_string();
            return Err(Error::maps("cannot look at", object, error));
        }
    };
    // SAFETY: takes nothing and always succeeds.
    let own = unsafe { libc::geteuid() };
    let what = if found.is_symlink() {
        "is a symbolic link".to_owned()
    } else if !found.is_dir() {
        "is no directory".to_owned()
    } else if found.uid() != 0 && found.uid() != own {
        format!("belongs to uid {} and not to root", found.uid())
    } else {
        return Ok(true);
    };
    Err(Error::Stranger {
        directory: path.display().to_string(),
        what,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_directory_of_ones_own_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let at = place.path().join("f");
        assert!(matches!(is_own(&at), Ok(false)));
        assert!(matches!(Lock::take(&at), Ok(None)));
        let said = || is_own(&at).expect_err("a stranger").to_string();
        symlink(place.path(), &at).expect("a link");
        assert!(said().contains("is a symbolic link"));
        assert!(Lock::take(&at).is_err());
        fs::remove_file(&at).expect("a link");
        fs::write(&at, "").expect("a file");
        assert!(said().contains("is no directory"));
    }

    #[test]
    fn of_two_the_second_waits_and_looks_again() {
        let place = tempfile::tempdir().expect("a directory");
        let at = place.path().join("f");
        fs::create_dir(&at).expect("a directory");
        let first = Lock::take(&at).expect("own").expect("there");
        let second = thread::spawn({
            let at = at.clone();
            move || Lock::take(&at).map(|lock| lock.is_some())
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!second.is_finished());
        fs::remove_dir(&at).expect("an empty directory");
        fs::create_dir(&at).expect("another one");
        drop(first);
        assert!(matches!(second.join().expect("a thread"), Ok(false)));
        assert!(Lock::take(&at).expect("own").is_some());
    }
}
