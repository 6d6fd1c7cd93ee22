//! Files as people ask for them: one, those below a directory, those of a file system.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    policy::resolve,
    record::{Dev, File},
};

/// Files that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// One file, by any of its names.
    File(Dev, u64),
    /// All below this directory, by the names that their owners have for them: those of a container may be others.
    Below(PathBuf),
    /// All of this file system.
    On(Dev),
}

impl Place {
    /// What a path stands for; a mount point is its file system.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let cannot = || {
            format!(
                "cannot look at {}; give a file, a directory or a mount point",
                path.display()
            )
        };
        let path = fs::canonicalize(path).with_context(cannot)?;
        // As the kernel has it: `st_dev` is something else on btrfs.
        let found = resolve::place(&path).with_context(cannot)?;
        let dev = Dev(found.dev);
        if !path.is_dir() {
            return Ok(Self::File(dev, found.ino));
        }
        let above = path.parent().map(resolve::place).transpose();
        Ok(match above.with_context(cannot)? {
            Some(above) if above.dev == found.dev => Self::Below(path),
            _ => Self::On(dev),
        })
    }

    /// A file whose name is not known is in no directory.
    pub fn has(&self, file: &File) -> bool {
        match self {
            Self::File(dev, ino) => (file.dev, file.ino) == (Some(*dev), Some(*ino)),
            Self::On(dev) => file.dev == Some(*dev),
            Self::Below(directory) => file.path.as_ref().is_some_and(|path| {
                Path::new(OsStr::from_bytes(&path.bytes)).starts_with(directory)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_directory_has_what_is_below_and_a_mount_point_all_of_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = Place::of(directory.path()).expect("it is there");
        let whole = fs::canonicalize(directory.path()).expect("it is there");
        assert_eq!(place, Place::Below(whole.clone()));
        let inside = fixtures::file(&whole.join("a").display().to_string());
        assert!(place.has(&inside));
        assert!(!place.has(&fixtures::file("/elsewhere/a")));
        assert!(matches!(Place::of(Path::new("/proc")), Ok(Place::On(_))));
        let error = Place::of(&whole.join("ghost")).expect_err("not there");
        assert!(error.to_string().contains("give a file"), "{error}");
    }
}
