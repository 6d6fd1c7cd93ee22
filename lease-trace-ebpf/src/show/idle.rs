//! Idle leases: no stake counts them and no path is kept of them, so their files are looked up when somebody
//! asks.

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use lease_trace_common::{
    PATH_LEN,
    lease::{IdleLease, LeaseKey, SHORT_PATH},
    stake::Path,
};

use crate::{
    kernel::{File, FileLease, MapElement},
    state::{
        inodes::{InodeRef, new_id},
        leases::LeaseRef,
        maps::PATHS,
    },
    track::path,
};

/// The path of an idle lease's file, kept for as long as it is written down.
pub struct PathNow {
    pub id: u64,
}

impl PathNow {
    #[inline(always)]
    pub fn of(found: LeaseRef) -> Self {
        let id = new_id();
        let file = File(found.get().file);
        if let Some(opened) = file.inode() {
            path::record(id, Some(file), opened);
        }
        Self { id }
    }

    #[inline(always)]
    pub fn forget(self) {
        path::forget(self.id);
    }
}

/// Device and inode number of its file, as it was opened.
#[inline(always)]
pub fn numbers(found: LeaseRef) -> Option<(u32, u64)> {
    let opened = File(found.get().file).inode()?;
    Some((opened.device(), opened.number()))
}

/// One lease of `LEASES`, if it is idle: an [`IdleLease`], and its path.
#[inline(always)]
pub fn lease(ctx: *const MapElement) {
    let (seq, _) = MapElement::reader(ctx);
    let Some(key) = MapElement::key::<LeaseKey>(ctx) else {
        return;
    };
    let Some(found) = LeaseRef::at(key).filter(|found| found.get().is_idle()) else {
        return;
    };
    let address = found.get().address;
    // Its end may have been missed: then its file may be another by now.
    if FileLease(address).file() != Some(File(found.get().file)) {
        return;
    }
    let Some((dev, ino)) = numbers(found) else {
        return;
    };
    let mut row = IdleLease {
        key,
        inode_id: key.inode,
        ino,
        dev,
        path_room: 0,
        path_len: 0,
        path_flags: 0,
    };
    if let Some(inode) = InodeRef::find(key.inode) {
        row.inode_id = inode.id;
    }
    let now = PathNow::of(found);
    // What was read is of this file if the lease still is there.
    if LeaseRef::at(key).is_some_and(|found| found.get().address == address) {
        // SAFETY: `seq` is the iterator's own sequence file; the row is plain data, and the path a live map value
        // that only this program has the key of.
        unsafe {
            let path = PATHS.get_ptr(now.id);
            if let Some(path) = path {
                row.path_len = (*path).len.min(PATH_LEN as u32);
                row.path_flags = (*path).flags;
                row.path_room = if row.path_len > SHORT_PATH as u32 {
                    PATH_LEN as u32
                } else {
                    SHORT_PATH as u32
                };
            }
            bpf_seq_write(
                seq.cast(),
                (&raw const row).cast_mut().cast(),
                size_of::<IdleLease>() as u32,
            );
            match path {
                Some(path) if row.path_room == PATH_LEN as u32 => {
                    write_path::<PATH_LEN>(seq.cast(), path);
                }
                Some(path) => write_path::<SHORT_PATH>(seq.cast(), path),
                None => {}
            }
        }
    }
    now.forget();
}

/// Writes the last `N` bytes of where a path is kept.
///
/// # Safety
/// `path` is a live map value.
#[inline(always)]
unsafe fn write_path<const N: usize>(seq: *mut seq_file, path: *const Path) {
    // SAFETY: the caller's; from there on are `N` bytes.
    unsafe {
        let bytes = (&raw const (*path).bytes).cast::<u8>().add(PATH_LEN - N);
        bpf_seq_write(seq, bytes.cast_mut().cast(), N as u32);
    }
}
