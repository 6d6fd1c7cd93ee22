//! The open file through which pins are taken: the one that the system call under way works on.

use lease_trace_common::context::{Context, NAME_LEN, NO_FD, Place, place};

use crate::{
    read::{Dentry, File, InodePtr},
    stakes::StakeRef,
    task,
};

/// Notes the file through which the current task takes the pins of this stake.
#[inline(always)]
pub fn note(stake: StakeRef) {
    context_note(u64::from(stake.key.tgid), stake.key.inode);
}

/// A function of its own, written straight into the record: the programs that pin have no stack
/// left.
#[unsafe(no_mangle)]
extern "C" fn context_note(tgid: u64, inode_id: u64) -> i64 {
    let Some(stake) = StakeRef::find(tgid as u32, inode_id) else {
        return 0;
    };
    // SAFETY: a live map value.
    let context = unsafe { &raw mut (*stake.get_ptr()).context };
    // SAFETY: as above.
    unsafe { *context = Context::NONE };
    let (fd, file) = match place(&task::call()) {
        Place::Descriptor(fd) => (fd as i32, task::current().file(fd)),
        Place::RegisteredRing(ring) => (NO_FD, task::current().registered_ring(ring)),
        Place::Nowhere => return 0,
    };
    let Some(file) = file else { return 0 };
    // SAFETY: as above; the name has room for NAME_LEN bytes.
    unsafe {
        (*context).fd = fd;
        (*context).mode = file.inode().map_or(0, InodePtr::mode);
        copy_name(file, (&raw mut (*context).name).cast());
    }
    0
}

/// # Safety
/// `to` has room for NAME_LEN bytes.
#[inline(always)]
unsafe fn copy_name(file: File, to: *mut u8) {
    if let Some(dentry) = file.dentry() {
        // SAFETY: the caller guarantees the room.
        unsafe { Dentry::copy_name(dentry, to, NAME_LEN as u32) };
    }
}
