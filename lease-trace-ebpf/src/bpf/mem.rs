//! Records of our own, cleared and copied a word at a time: left to the compiler the same takes programs
//! over the 512 bytes of stack that 6.1 has for all their frames.

/// Sets a record to zero.
///
/// # Safety
/// `to` is a live map value, made of words, for which zero is a value.
#[inline(always)]
pub unsafe fn clear<T>(to: *mut T) {
    for n in 0..size_of::<T>() / 8 {
        // SAFETY: the caller guarantees the record.
        unsafe { to.cast::<u64>().add(n).write_volatile(0) };
    }
}

/// Copies a record.
///
/// # Safety
/// `to` is a live map value, made of words.
#[inline(always)]
pub unsafe fn copy<T>(to: *mut T, from: &T) {
    let from = core::ptr::from_ref(from).cast::<u64>();
    for n in 0..size_of::<T>() / 8 {
        // SAFETY: the caller guarantees the record; a reference is valid to read.
        unsafe {
            to.cast::<u64>()
                .add(n)
                .write_volatile(from.add(n).read_volatile());
        }
    }
}
