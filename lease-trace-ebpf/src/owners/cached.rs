//! What files have pinned by their page caches, whoever it is: of the inodes that userspace asks about.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC, helpers::generated::bpf_seq_write, macros::map, maps::HashMap,
};
use lease_trace_common::survey::{ASKED, InCache};

use crate::kernel::{self, Cached, InodePtr, MapElement};

/// How many pins are enough, by the inode's address.
#[map]
pub static ASKED_INODES: HashMap<u64, u64> = HashMap::with_max_entries(ASKED, BPF_F_NO_PREALLOC);

/// One inode: a record if its page cache can be seen.
#[inline(always)]
pub fn inode(ctx: *const MapElement) -> i32 {
    let value = kernel::word(ctx as u64, 3).and_then(kernel::value);
    let (Some(inode), Some(enough)) = (MapElement::key(ctx), value) else {
        return 0;
    };
    // Its memory may be another's by now: whoever asks looks again whether it is not.
    if let Cached::Pins(pins) = InodePtr(inode).cached_pins(enough) {
        let record = InCache { inode, pins };
        let (seq, _) = MapElement::reader(ctx);
        // SAFETY: `seq` is the iterator's own sequence file; the record is a local, and plain data.
        unsafe {
            bpf_seq_write(
                seq.cast(),
                (&raw const record).cast_mut().cast(),
                size_of::<InCache>() as u32,
            )
        };
    }
    0
}
