//! A directory of a scenario's own, on a tmpfs of its own: the one file system whose files every
//! kernel lets an unprivileged ring pin.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::mounts::{mount, try_mount, umount};

/// A mounted tmpfs, gone with the value.
pub struct Scratch {
    directory: PathBuf,
}

/// A file as the tool must name it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub path: String,
    /// Major and minor, like `8:1`.
    pub dev: String,
    pub ino: i64,
}

/// Whether a tmpfs can have them.
pub fn has_large_folios() -> bool {
    Path::new("/sys/kernel/mm/transparent_hugepage").exists()
}

/// A directory name that no scenario had before.
pub fn unused_directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Real path and mount point: a tmpfs in `/tmp` or `/run` alike, whatever the guest has there.
    let directory = PathBuf::from(format!("/lease-trace-{}-{number}", std::process::id()));
    fs::create_dir(&directory).expect("a directory in the root");
    directory
}

impl Scratch {
    pub fn new() -> Self {
        Self::with("mode=1777")
    }

    /// One mounted with these options.
    pub fn with(options: &str) -> Self {
        Self::of("tmpfs", options)
    }

    /// One with large folios, `huge=HOW`, and other options. A kernel without them (Debian's with PREEMPT_RT) refuses
    /// the option, and has small ones there.
    pub fn huge(how: &str, others: &str) -> Self {
        let options = format!("huge={how},{others}");
        if has_large_folios() {
            return Self::with(&options);
        }
        let directory = unused_directory();
        let refused =
            try_mount("tmpfs", &directory, "tmpfs", 0, &options).expect_err("no such option");
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        fs::remove_dir(&directory).expect("an empty directory");
        Self::with(others)
    }

    /// One of another file system that needs no device.
    pub fn of(kind: &str, options: &str) -> Self {
        let directory = unused_directory();
        mount(kind, &directory, kind, 0, options);
        Self { directory }
    }

    /// One in a new directory of another.
    pub fn within(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        fs::create_dir(&directory).expect("a directory in the scratch directory");
        mount("tmpfs", &directory, "tmpfs", 0, "mode=1777");
        Self { directory }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a file in it, which need not exist.
    pub fn file(&self, name: &str) -> String {
        self.directory
            .join(name)
            .to_str()
            .expect("ASCII")
            .to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        umount(&self.directory);
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Subject {
    /// The file at this path, as it is now.
    #[track_caller]
    pub fn at(path: &str) -> Self {
        let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let dev = metadata.dev();
        let dev = format!("{}:{}", libc::major(dev), libc::minor(dev));
        Self {
            path: path.to_owned(),
            dev,
            ino: metadata.ino() as i64,
        }
    }

    /// The same with the device that /proc/locks and /proc/self/mountinfo name. stat(2) may make up
    /// another: btrfs has one for each subvolume.
    #[track_caller]
    pub fn as_mounted(path: &str) -> Self {
        Self {
            dev: mounted(path),
            ..Self::at(path)
        }
    }
}

/// The device of the mount that a path is on, as /proc/self/mountinfo has it.
#[track_caller]
fn mounted(path: &str) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let rows = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        let (dev, _, directory) = (words.next()?, words.next()?, words.next()?);
        Path::new(path)
            .starts_with(directory)
            .then_some((directory, dev))
    });
    // The last of those with the longest path is the one that is seen.
    let found = rows.max_by_key(|(directory, _)| directory.len());
    found
        .expect("something is mounted at the root")
        .1
        .to_owned()
}

/// A path for the kernel.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().expect("ASCII")).expect("no NUL")
}
