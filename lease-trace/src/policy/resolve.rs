//! Paths as the kernel side compares them: by the device and the number of an inode.

use std::{
    fs::{self, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use crate::enrich::mounts;

/// A directory or file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Without symbolic links.
    pub path: PathBuf,
    /// `super_block.s_dev`
    pub dev: u32,
    pub ino: u64,
    /// Type of the file system.
    pub fs: String,
}

/// Why a path means nothing here, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a relative path")]
    Relative,
    #[error("cannot open {0}: {1}")]
    Open(PathBuf, io::Error),
    #[error("cannot tell the device of {0}: {1}")]
    Device(PathBuf, io::Error),
}

impl Error {
    pub const fn instead(&self) -> &'static str {
        match self {
            Self::Relative => "write one that begins with a slash",
            Self::Open(..) => "write a path that exists when the policy is loaded",
            Self::Device(..) => "write a path of a mounted file system",
        }
    }
}

/// Finds what a path means in the mount namespace of this process. Symbolic links are followed.
pub fn place(path: &Path) -> Result<Place, Error> {
    if !path.is_absolute() {
        return Err(Error::Relative);
    }
    let open = |error| Error::Open(path.to_owned(), error);
    let device = |error| Error::Device(path.to_owned(), error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(open)?;
    let ino = file.metadata().map_err(open)?.ino();
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(open)?;
    let mount = mounts::id(&file).map_err(device)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(device)?;
    let (dev, fs) = mounts::of(&mounts, mount).ok_or_else(|| {
        device(io::Error::other(format!(
            "mount {mount} is not in /proc/self/mountinfo"
        )))
    })?;
    Ok(Place {
        path: real,
        dev,
        ino,
        fs,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_what_its_links_lead_to() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let data = root.path().join("data");
        fs::create_dir(&data).expect("creates");
        symlink(&data, root.path().join("link")).expect("links");
        let found = place(&root.path().join("link")).expect("exists");
        assert_eq!(found, place(&data).expect("exists"));
        assert_eq!(found.ino, fs::metadata(&data).expect("exists").ino());
        assert_eq!(found.path, fs::canonicalize(&data).expect("exists"));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let refused = ["/no/such/directory", "data"].map(|path| {
            let error = place(Path::new(path)).expect_err("refused");
            format!("{error}; {}", error.instead())
        });
        insta::assert_snapshot!(refused.join("\n"), @r"
        cannot open /no/such/directory: No such file or directory (os error 2); write a path that exists when the policy is loaded
        a relative path; write one that begins with a slash
        ");
    }
}
