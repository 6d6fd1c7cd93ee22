//! Which file is meant.

use lease_trace_common::stake::{MINOR_BITS, Path, path_flag};
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Which file.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    #[serde(flatten)]
    pub path: Option<FilePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<Dev>,
    /// Number of its inode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
}

/// The name by which a file was leased or pinned. It may have any bytes but 0 in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath {
    pub bytes: Vec<u8>,
    /// The beginning is missing: too long to keep, or the mount point is not known.
    pub partial: bool,
    pub deleted: bool,
}

impl FilePath {
    /// From a ring-buffer record; `None` if the path is not known.
    pub fn new(bytes: &[u8], flags: u32) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self {
            bytes: bytes.to_vec(),
            partial: flags & (path_flag::TRUNCATED | path_flag::NO_MOUNT) != 0,
            deleted: flags & path_flag::DELETED != 0,
        })
    }

    /// From a map.
    pub fn of(path: &Path) -> Option<Self> {
        Self::new(path.as_bytes(), path.flags)
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut members = serializer.serialize_struct("FilePath", 2)?;
        if self.partial {
            members.serialize_field("path", &format!("…{text}"))?;
        } else {
            members.serialize_field("path", &text)?;
        }
        if self.deleted {
            members.serialize_field("deleted", &true)?;
        }
        members.end()
    }
}

/// A device number in the kernel's own encoding, shown as `MAJ:MIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dev(pub u32);

impl Dev {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self(major << MINOR_BITS | minor)
    }

    pub const fn major(self) -> u32 {
        self.0 >> MINOR_BITS
    }

    pub const fn minor(self) -> u32 {
        self.0 & ((1 << MINOR_BITS) - 1)
    }
}

impl std::fmt::Display for Dev {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.major(), self.minor())
    }
}

impl Serialize for Dev {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_is_read_in_the_kernels_encoding() {
        assert_eq!(Dev(0x0080_0011).to_string(), "8:17");
        assert_eq!(Dev::new(259, 0x4_0001), Dev(0x1034_0001));
    }

    #[test]
    fn a_partial_path_says_so() {
        let path = FilePath::new(b"/b", path_flag::NO_MOUNT);
        let text = serde_json::to_string(&path).expect("serializes");
        assert_eq!(text, r#"{"path":"…/b"}"#);
    }
}
