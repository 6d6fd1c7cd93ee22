//! Paths, walked in the kernel at the moment a lease is set or a pin is taken, so that a process
//! that has vanished since still has its path.
//!
//! The walk goes from the file up to the root of its mount namespace (as `d_absolute_path` does),
//! crossing mounts, and writes from the end of the buffer towards its start.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_probe_read_kernel};
use lease_trace_common::{
    NAME_SLACK, PATH_LEN,
    count::Count,
    stake::{Path, path_flag},
};

use crate::{
    bpf::loops,
    kernel::{Dentry, File, InodePtr, VfsMount, opaque},
    state::{losses::lost, maps::PATHS},
};

/// As many of eighteen bytes as fit into `PATH_LEN`; what is above them is left out, and the path marked as
/// truncated.
const MAX_COMPONENTS: u32 = 96;
/// `NAME_MAX` (include/uapi/linux/limits.h).
const MAX_NAME: u32 = 255;

/// What is inserted first: a value too large for the stack.
static BLANK: Path = Path {
    len: 0,
    flags: 0,
    bytes: [0; PATH_LEN + NAME_SLACK],
};

struct Walk {
    path: *mut Path,
    dentry: Dentry,
    /// Address of the `vfsmount`, 0 if unknown.
    mount: u64,
    len: u32,
    done: u32,
}

/// Records the path of `file` for the inode with this id, replacing an older one. Where no open
/// file of it is known, some name of the inode inside its file system, unless there is a path already.
#[inline(always)]
pub fn record(id: u64, file: Option<File>, inode: InodePtr) {
    let start = match file.and_then(|file| file.opened_as(inode)) {
        Some((dentry, 0)) => Some((dentry, 0, path_flag::NO_MOUNT)),
        Some((dentry, mount)) => Some((dentry, mount, 0)),
        None if is_known(id) => return,
        None => inode.alias().map(|dentry| (dentry, 0, path_flag::NO_MOUNT)),
    };
    match start {
        Some((Dentry(dentry), mount, flags)) => _ = path_walk(id, dentry, mount, u64::from(flags)),
        None => lost(Count::LostPaths, 1, inode.0),
    }
}

/// Drops the path that was recorded for this id.
#[inline(always)]
pub fn forget(id: u64) {
    _ = PATHS.remove(id);
}

/// Whether there is a path of the inode with this id.
#[inline(always)]
pub fn is_known(id: u64) -> bool {
    PATHS.get_ptr(id).is_some()
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn path_walk(id: u64, dentry: u64, mount: u64, flags: u64) -> i64 {
    let dentry = Dentry(dentry);
    let flags = flags as u32;
    if PATHS.insert(id, &BLANK, BPF_ANY.into()).is_err() {
        lost(Count::LostPaths, 1, dentry.0);
        return 0;
    }
    let Some(path) = PATHS.get_ptr_mut(id) else {
        return 0;
    };
    let mut state = Walk {
        path,
        dentry,
        mount,
        len: loops::zero() as u32,
        done: loops::zero() as u32,
    };
    loops::repeat(MAX_COMPONENTS, step, &mut state);
    let deleted = if dentry.is_unlinked() {
        path_flag::DELETED
    } else {
        0
    };
    let truncated = if state.done == 0 {
        path_flag::TRUNCATED
    } else {
        0
    };
    // SAFETY: a live map value; only this program writes to a path being recorded.
    unsafe {
        (*path).len = state.len;
        (*path).flags = flags | deleted | truncated;
    }
    0
}

/// One component. Returns 1 to stop.
unsafe extern "C" fn step(_index: u64, state: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `walk` gave it.
    let walk = unsafe { &mut *state.cast::<Walk>() };
    let mount = VfsMount(walk.mount);
    if walk.mount != 0 && mount.root() == Some(walk.dentry) {
        let Some((below, at)) = mount.mountpoint() else {
            walk.done = 1;
            return 1;
        };
        walk.mount = below.0;
        walk.dentry = at;
        return 0;
    }
    let Some(parent) = walk.dentry.parent() else {
        return 1;
    };
    // A file outside every tree (memfd) is its own parent, and has a name all the same.
    if parent == walk.dentry && walk.len > 0 {
        walk.done = 1;
        return 1;
    }
    let Some((name, len)) = walk.dentry.name() else {
        return 1;
    };
    let len = if len > MAX_NAME { MAX_NAME } else { len };
    let used = walk.len + len + 1;
    if used > PATH_LEN as u32 {
        return 1;
    }
    if !prepend(walk.path, used, len, name) {
        return 1;
    }
    walk.len = used;
    walk.dentry = parent;
    0
}

/// Writes `/name` so that it begins `used` bytes before the end of the path.
#[inline(always)]
fn prepend(path: *mut Path, used: u32, len: u32, name: u64) -> bool {
    let start = opaque((PATH_LEN as u64).wrapping_sub(u64::from(used))) as usize;
    if start >= PATH_LEN {
        return false;
    }
    // SAFETY: a live map value; start is inside the path, and behind the path there is room for
    // one name.
    unsafe {
        let bytes = (&raw mut (*path).bytes).cast::<u8>();
        *bytes.add(start) = b'/';
        bpf_probe_read_kernel(
            bytes.add(start + 1).cast(),
            len & MAX_NAME,
            name as *const c_void,
        ) == 0
    }
}
