//! The open file through which pins are taken: the one that the system call under way works on.

use lease_trace_common::context::{Context, NAME_LEN, NO_FD, Place, place};

use crate::{
    kernel::current,
    kernel::{Dentry, File, InodePtr},
    state::stakes::StakeRef,
};

/// Notes the file through which the current task takes the pins of this stake.
#[inline(always)]
pub fn note(stake: StakeRef) {
    // SAFETY: part of a live map value.
    context_note(unsafe { &raw mut (*stake.get_ptr()).context });
}

/// A function of its own, written straight into the record: the programs that pin have no stack
/// left.
#[unsafe(no_mangle)]
extern "C" fn context_note(context: *mut Context) -> i64 {
    // SAFETY: `note` passes a part of a live map value, or the verifier a null pointer.
    let Some(context) = (unsafe { context.as_mut() }) else {
        return 0;
    };
    *context = Context::NONE;
    let (fd, file) = match place(&current::call()) {
        Place::Descriptor(fd) => (fd as i32, current::current().file(fd)),
        Place::RegisteredRing(ring) => (NO_FD, current::current().registered_ring(ring)),
        Place::Nowhere => return 0,
    };
    let Some(file) = file else { return 0 };
    context.fd = fd;
    context.mode = file.inode().map_or(0, InodePtr::mode);
    // SAFETY: the name has room for NAME_LEN bytes.
    unsafe { copy_name(file, (&raw mut context.name).cast()) };
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
