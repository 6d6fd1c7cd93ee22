//! Many entries of a map in one call of bpf(2), which aya has no type for.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;

use super::{bpf::call_mut, undisturbed::Undisturbed};

const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// `union bpf_attr` for `BPF_MAP_LOOKUP_BATCH` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Batch {
    begin: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// All entries of an array, or of a hash map. Of this the kernel goes from bucket to bucket, and holds each while it copies
/// it: an entry that is there all the time is found once, whatever else comes and goes.
pub fn entries<K: Pod, V: Pod>(map: BorrowedFd) -> io::Result<Vec<(K, V)>> {
    /// More than any bucket has.
    const MOST: usize = 1024;
    let mut keys: Vec<MaybeUninit<K>> = Vec::with_capacity(MOST);
    let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(MOST);
    let mut found = Vec::new();
    // The number of the next bucket.
    let (mut from, mut next) = (None::<u32>, 0_u32);
    loop {
        let mut attr = Batch {
            begin: from
                .as_ref()
                .map_or(0, |from| std::ptr::from_ref(from) as u64),
            next: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: MOST as u32,
            map_fd: map.as_raw_fd() as u32,
            ..Batch::default()
        };
        let undisturbed = Undisturbed::claim();
        // SAFETY: `Batch` is this command's attribute. It points to two numbers, and to room for as
        // many keys and values of the map's types as it says; all outlive the call.
        let end = match unsafe { call_mut(BPF_MAP_LOOKUP_BATCH, &mut attr) } {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        drop(undisturbed);
        let count = attr.count as usize;
        // SAFETY: the kernel has written so many of them; any bit pattern is a value of a `Pod`.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        let written = keys.drain(..).zip(values.drain(..));
        // SAFETY: as above.
        found.extend(
            written.map(|(key, value)| unsafe { (key.assume_init(), value.assume_init()) }),
        );
        if end {
            return Ok(found);
        }
        from = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_is_as_long_as_the_kernel_has_it() {
        assert_eq!(size_of::<Batch>(), 56);
    }
}
