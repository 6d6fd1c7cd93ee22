//! The directory outside the work tree where kernels, images and package indexes are kept, with the
//! locks that let several commands share it and the hashes that say whether a file is still right.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::progress::say;

/// `$LEASE_TRACE_CACHE`, else `lease-trace` in the user's cache directory; made if it is not there.
pub fn root() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let directory = if let Some(directory) = variable("LEASE_TRACE_CACHE") {
        PathBuf::from(directory)
    } else if let Some(directory) = variable("XDG_CACHE_HOME") {
        Path::new(&directory).join("lease-trace")
    } else {
        let home = variable("HOME").context(
            "finding the cache directory: none of LEASE_TRACE_CACHE, XDG_CACHE_HOME and HOME is set",
        )?;
        Path::new(&home).join(".cache/lease-trace")
    };
    make(&directory)?;
    Ok(directory)
}

/// Makes a directory and its parents.
pub fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("creating the directory {}", directory.display()))
}

/// Keeps other commands from making the same thing until it is dropped.
pub struct Lock {
    _file: File,
}

/// Waits until no other command works on `name`.
pub fn lock(name: &str) -> Result<Lock> {
    let directory = root()?.join("locks");
    make(&directory)?;
    let path = directory.join(name);
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        say(format!("waiting for another command that is making {name}"));
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(Lock { _file: file })
}

/// A directory for work in progress, on the same file system as the cache so that the result can be
/// renamed into place.
pub fn scratch() -> Result<tempfile::TempDir> {
    let directory = root()?.join("tmp");
    make(&directory)?;
    tempfile::tempdir_in(&directory)
        .with_context(|| format!("creating a temporary directory in {}", directory.display()))
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let context = || format!("hashing {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(context),
        }
    }
}

/// A short name for whatever is decided by these words.
pub fn key<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update(word.as_bytes());
        hasher.update([0]);
    }
    hex(&hasher.finalize()[..6])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_words_apart() {
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_eq!(key(["a"]).len(), 12);
    }

    #[test]
    fn hashes_are_those_everybody_else_computes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("abc");
        fs::write(&file, "abc").unwrap();
        assert_eq!(
            sha256(&file).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
