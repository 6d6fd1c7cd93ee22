//! bpf(2) as somebody calls it who wants what others have made.

use std::ffi::{CString, c_int, c_long};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use super::check;
use crate::reply::{Failure, usage};

/// Commands of linux/bpf.h that turn an id into a descriptor.
pub const PROG_BY_ID: c_int = 13;
pub const MAP_BY_ID: c_int = 14;
pub const BTF_BY_ID: c_int = 19;
pub const LINK_BY_ID: c_int = 30;
const UPDATE: c_int = 2;
const NEXT_KEY: c_int = 4;
const OBJ_GET: c_int = 7;
const NEXT_MAP: c_int = 12;
const INFO: c_int = 15;

/// `union bpf_attr`, as far as these commands read it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    first: u64,
    rest: [u64; 3],
}

/// BPF_OBJ_GET: what a file in bpffs stands for.
pub fn get(path: &str) -> Result<RawFd, Failure> {
    let Ok(path) = CString::new(path) else {
        return usage("a path has no NUL in it");
    };
    call(OBJ_GET, path.as_ptr() as u64, "BPF_OBJ_GET")
}

/// BPF_*_GET_FD_BY_ID
pub fn by_id(command: c_int, id: u32) -> Result<RawFd, Failure> {
    call(command, u64::from(id), "BPF_*_GET_FD_BY_ID")
}

fn call(command: c_int, first: u64, name: &str) -> Result<RawFd, Failure> {
    let mut attributes = Attributes {
        first,
        ..Attributes::default()
    };
    perform(command, &mut attributes, name)
}

fn perform(command: c_int, attributes: &mut Attributes, name: &str) -> Result<RawFd, Failure> {
    // SAFETY: the kernel reads and writes one record of the size given, and what its words point to:
    // the callers' paths, keys, values and records, which have the size that the command wants; all
    // outlive the call.
    let returned: c_long = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut *attributes,
            size_of::<Attributes>(),
        )
    };
    check(returned, name).map(|returned| returned as RawFd)
}

/// A map.
pub struct Map(OwnedFd);

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct Information {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

impl Map {
    /// The one behind a file in bpffs.
    pub fn get(path: &str) -> Result<Self, Failure> {
        get(path).map(Self::of)
    }

    fn of(fd: RawFd) -> Self {
        // SAFETY: the kernel has just made this descriptor, so it is nobody else's.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// All hash maps that have keys of 8 bytes.
    pub fn all() -> Result<Vec<Self>, Failure> {
        const HASH: u32 = 1;
        let mut maps = Vec::new();
        let mut id = 0;
        loop {
            let mut attributes = Attributes {
                first: id,
                ..Attributes::default()
            };
            match perform(NEXT_MAP, &mut attributes, "BPF_MAP_GET_NEXT_ID") {
                Ok(_) => id = attributes.first >> 32,
                Err(failure) if failure.is(libc::ENOENT) => return Ok(maps),
                Err(failure) => return Err(failure),
            }
            let map = Self::of(by_id(MAP_BY_ID, id as u32)?);
            let told = map.information()?;
            if told.kind == HASH && told.key_size == 8 {
                maps.push(map);
            }
        }
    }

    fn information(&self) -> Result<Information, Failure> {
        let mut told = Information::default();
        let size = size_of::<Information>() as u64;
        let mut attributes = Attributes {
            first: self.number() | size << 32,
            rest: [&raw mut told as u64, 0, 0],
        };
        perform(INFO, &mut attributes, "BPF_OBJ_GET_INFO_BY_FD")?;
        Ok(told)
    }

    /// Adds entries of zeroes until there is no room.
    pub fn fill(&self) -> Result<u64, Failure> {
        let value = vec![0_u8; self.information()?.value_size as usize];
        let mut added = 0;
        loop {
            let key: u64 = added + 1;
            let mut attributes = Attributes {
                first: self.number(),
                rest: [&raw const key as u64, value.as_ptr() as u64, 0],
            };
            match perform(UPDATE, &mut attributes, "BPF_MAP_UPDATE_ELEM") {
                Ok(_) => added += 1,
                Err(failure) if failure.is(libc::E2BIG) => return Ok(added),
                Err(failure) => return Err(failure),
            }
        }
    }

    pub fn keys(&self) -> Result<Vec<u64>, Failure> {
        let mut keys: Vec<u64> = Vec::new();
        loop {
            let mut next = 0_u64;
            let before = keys.last().map_or(0, |key| &raw const *key as u64);
            let mut attributes = Attributes {
                first: self.number(),
                rest: [before, &raw mut next as u64, 0],
            };
            match perform(NEXT_KEY, &mut attributes, "BPF_MAP_GET_NEXT_KEY") {
                Ok(_) => keys.push(next),
                Err(failure) if failure.is(libc::ENOENT) => return Ok(keys),
                Err(failure) => return Err(failure),
            }
        }
    }

    fn number(&self) -> u64 {
        self.0.as_raw_fd() as u64
    }
}
