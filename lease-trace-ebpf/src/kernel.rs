//! Every read of kernel memory, behind a named function. Addresses are wrapped in the type they
//! belong to; offsets come from BTF through `bpf::config`. A word that cannot be read is zero, as
//! with a null pointer; of all else a failed read is `None`.

/// An offset, as a constant of the verifier.
macro_rules! offset {
    ($field:ident) => {
        $crate::bpf::config::constant(&$crate::bpf::config::CONFIG.offsets.$field)
    };
}

/// The same of a field that a kernel may not have: `None` then.
macro_rules! offset_if_any {
    ($field:ident) => {{
        let offset = offset!($field);
        (offset != lease_trace_common::config::ABSENT).then_some(offset)
    }};
}

pub mod args;
pub mod call;
pub mod current;
mod file;
mod iterator;
pub mod leases;
pub mod memory;
mod name;
mod page;
mod page_cache;
mod pointer;
mod probe;
mod task;
mod words;

pub use self::{
    call::{ring_mm, seq_count},
    file::list_prev,
    iterator::{MapElement, Meta},
    memory::{
        Dentry, File, FileLease, Folio, InodePtr, Page, TaskPtr, VfsMount, Vma, address, copy_text,
        element, opaque, value, word,
    },
    page::{
        Backing, Head, NO_FILE, Owner, SomePages, are_alike, batch_folio, batch_len, is_head,
        mapping, owner_of,
    },
    page_cache::Cached,
    pointer::{Pointer, Probed, Typed},
    task::{Current, mm_owner},
};
