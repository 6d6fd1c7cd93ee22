//! A folder of a scenario's own, on a tmpfs of its own: the one file system whose files every
//! kernel lets an unprivileged ring pin.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::mounts::{mount, umount};

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
}

/// A path for the kernel.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().expect("ASCII")).expect("no NUL")
}
