//! A folder of a scenario's own, on a tmpfs of its own: the one file system whose files every
//! kernel lets an unprivileged ring pin.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::mounts::{mount, try_mount, umount};

/// A mounted tmpfs, gone with the value.
pub struct Scratch {
    folder: PathBuf,
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

/// A folder name that no scenario had before.
pub fn unused_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Real path and mount point: a tmpfs in `/tmp` or `/run` alike, whatever the guest has there.
    let folder = PathBuf::from(format!("/lease-trace-{}-{number}", std::process::id()));
    fs::create_dir(&folder).expect("a folder in the root");
    folder
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
        let folder = unused_folder();
        let refused =
            try_mount("tmpfs", &folder, "tmpfs", 0, &options).expect_err("no such option");
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        fs::remove_dir(&folder).expect("an empty folder");
        Self::with(others)
    }

    /// One of another file system that needs no device.
    pub fn of(kind: &str, options: &str) -> Self {
        let folder = unused_folder();
        mount(kind, &folder, kind, 0, options);
        Self { folder }
    }

    /// One in a new folder of another.
    pub fn within(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir(&folder).expect("a folder in the scratch folder");
        mount("tmpfs", &folder, "tmpfs", 0, "mode=1777");
        Self { folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a file in it, which need not exist.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("ASCII").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        umount(&self.folder);
        let _ = fs::remove_dir(&self.folder);
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
        let (dev, _, folder) = (words.next()?, words.next()?, words.next()?);
        Path::new(path).starts_with(folder).then_some((folder, dev))
    });
    // The last of those with the longest path is the one that is seen.
    let found = rows.max_by_key(|(folder, _)| folder.len());
    found
        .expect("something is mounted at the root")
        .1
        .to_owned()
}

/// A path for the kernel.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().expect("ASCII")).expect("no NUL")
}
