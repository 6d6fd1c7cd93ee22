//! What userspace hands over at load time: offsets from BTF and modes. It becomes `.rodata`, so
//! the verifier takes every field for a constant and drops the branches that are off.

pub use crate::offsets::{ABSENT, Offsets};

/// Where `struct page` has `compound_head` and `struct folio` its `mapping`, and how large the former is,
/// wherever that is known, in bytes: what is read fast relies on it.
pub const PAGE_HEAD: u32 = 8;
pub const FOLIO_MAPPING: u32 = 24;
pub const PAGE_SIZE: u32 = 64;

/// The number by which the programs call `bpf_rdonly_cast` (6.2; kernel/bpf/helpers.c), until the
/// loader has put in what the kernel wants there. No helper has it.
pub const CAST: u32 = 0x4c54_0001;

/// What the programs load in the place of the address of [`PREEMPT_COUNT_IN`], until the loader has put in
/// its BTF id.
pub const PREEMPT_COUNT: u64 = 0x4c54_0002_4c54_0002;

/// Per-processor variables of which one has the processor's `preempt_count`, with the member that it is, if
/// it is one: `pcpu_hot` from 6.2 to 6.14 (arch/x86/include/asm/preempt.h).
pub const PREEMPT_COUNT_IN: [(&str, Option<&str>); 2] = [
    ("__preempt_count", None),
    ("pcpu_hot", Some("preempt_count")),
];

/// Everything the programs are told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub offsets: Offsets,
    /// `FOLL_LONGTERM` of this kernel.
    pub foll_longterm: u32,
    /// 1: short-term pins are tracked like long-term ones (`--pins all`).
    pub pins_all: u32,
    /// 1: `file.f_ref` (dead when negative), 0: `file.f_count` (dead when zero).
    pub file_ref: u32,
    /// 1: every FOLL_PIN reference is counted, whatever it is on (`--cross-check`).
    pub cross_check: u32,
    /// 1: the iterators also enter what they find into the maps.
    pub adopt: u32,
    /// Entries of each map that has one for each lease, stake or file.
    pub capacity: u32,
    /// Slots of the map of inodes, a power of two, less one.
    pub slot_mask: u32,
    /// BTF id of `struct cpumask`, an array of words, for [`CAST`]; 0 if there is no such function.
    pub words: u32,
    /// The same, if `struct page` is as [`PAGE_HEAD`] and its like have it; else 0.
    pub pages: u32,
    /// 1: it is, and there is no cross-check, so that what is done for each page can be done the shortest way.
    pub plain: u32,
    /// 1: a policy may come into force. Else nothing of what judges by one is left of the programs.
    pub policy: u32,
    /// 1: somebody may ask for leases that are set and end. Else nobody is told of them.
    pub tells_of_leases: u32,
    /// 1: a call may be seen to begin by a kprobe, which keeps what each was called with, and to return
    /// by fexit, which has that itself for those that are not tracked.
    pub mixed: u32,
    /// Offset in bytes of `preempt_count` in the variable that [`PREEMPT_COUNT`] stands for;
    /// [`ABSENT`]: this kernel's BTF has none.
    pub preempt_count: u32,
}

crate::pod!(Config);
