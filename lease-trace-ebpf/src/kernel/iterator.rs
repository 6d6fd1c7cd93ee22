//! What iterators are called with.

use core::ffi::c_void;

use super::memory::{value, word};

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct Meta {
    pub seq: *mut c_void,
    session_id: u64,
    /// Elements before this one.
    pub seq_num: u64,
}

/// Start of `struct bpf_iter__bpf_map_elem` (kernel/bpf/map_iter.c); the map, the key and the value follow.
#[repr(C)]
pub struct MapElement {
    meta: *mut Meta,
}

impl MapElement {
    /// The file that somebody reads, and how many elements came before.
    #[inline(always)]
    pub fn reader(ctx: *const Self) -> (*mut c_void, u64) {
        // SAFETY: the kernel hands over this context; both fields are its own.
        unsafe {
            let meta = (*ctx).meta;
            ((*meta).seq, (*meta).seq_num)
        }
    }

    /// The address of the key; `None` at the end.
    #[inline(always)]
    pub fn key_at(ctx: *const Self) -> Option<u64> {
        word(ctx as u64, 2)
    }

    /// The key; `None` at the end.
    #[inline(always)]
    pub fn key<K>(ctx: *const Self) -> Option<K> {
        value(Self::key_at(ctx)?)
    }
}
