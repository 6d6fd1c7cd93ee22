//! One step of a sequence: what is done, how it is chosen, and the commands that do it.
//!
//! Steps name places (process 2, descriptor 1), never what is there, so that a sequence still means
//! something after any step was left out of it.

mod commands;
mod listed;

use proptest::prelude::*;

/// Processes at one time.
pub const PROCESSES: usize = 4;
/// Names in the directory.
pub const FILES: usize = 3;
/// Places for descriptors, mappings and rings in each process.
pub const FDS: usize = 3;
pub const MAPS: usize = 2;
pub const RINGS: usize = 2;
/// Pages of a new file, and the most that are mapped.
pub const PAGES: usize = 4;

/// A descriptor's number is this and its place. Those of rings are lower: a process that ends
/// releases its descriptors from the highest on, so its leases go before the kernel's worker begins
/// to take its rings down.
const FD_BASE: usize = 40;
const RING_BASE: usize = 20;

/// What one process, or in the end the test itself, does. `p` is the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new process with nothing.
    Spawn {
        p: usize,
    },
    /// A child with all that its parent has.
    Fork {
        p: usize,
        child: usize,
    },
    Exit {
        p: usize,
    },
    Kill {
        p: usize,
    },
    /// Of its own program. One descriptor has CLOEXEC, and no ring.
    Exec {
        p: usize,
        fd: usize,
    },
    Open {
        p: usize,
        fd: usize,
        file: usize,
        write: bool,
    },
    Close {
        p: usize,
        fd: usize,
    },
    CloseRange {
        p: usize,
        first: usize,
        last: usize,
    },
    Dup {
        p: usize,
        fd: usize,
        to: usize,
    },
    Dup2 {
        p: usize,
        fd: usize,
        over: usize,
    },
    /// By SCM_RIGHTS.
    Pass {
        p: usize,
        fd: usize,
        receiver: usize,
        to: usize,
    },
    /// In a message that nobody receives: its socket is closed.
    Drop {
        p: usize,
        fd: usize,
    },
    /// By IORING_OP_CLOSE.
    UringClose {
        p: usize,
        fd: usize,
        worker: bool,
    },
    Lease {
        p: usize,
        fd: usize,
        write: bool,
    },
    /// Tries to open what is leased, without waiting for the lease to be broken.
    Break {
        p: usize,
        file: usize,
        write: bool,
    },
    /// Opens what is leased, after the holders have had time to react and have not.
    Outwait {
        p: usize,
        fd: usize,
        file: usize,
        write: bool,
    },
    Unlock {
        p: usize,
        fd: usize,
    },
    Map {
        p: usize,
        map: usize,
        fd: usize,
        pages: usize,
    },
    MapOver {
        p: usize,
        map: usize,
        page: usize,
        pages: usize,
        fd: usize,
    },
    Remap {
        p: usize,
        map: usize,
        pages: usize,
    },
    /// To where another mapping is.
    RemapOver {
        p: usize,
        map: usize,
        over: usize,
    },
    Unmap {
        p: usize,
        map: usize,
    },
    Ring {
        p: usize,
        ring: usize,
    },
    CloseRing {
        p: usize,
        ring: usize,
    },
    Pin {
        p: usize,
        ring: usize,
        map: usize,
        page: usize,
        pages: usize,
    },
    Unpin {
        p: usize,
        ring: usize,
    },
    /// The pins of another ring, shared.
    Clone {
        p: usize,
        ring: usize,
        from: usize,
    },
    RegisterFile {
        p: usize,
        ring: usize,
        fd: usize,
    },
    UnregisterFile {
        p: usize,
        ring: usize,
    },
    Truncate {
        p: usize,
        fd: usize,
        pages: usize,
    },
    Punch {
        p: usize,
        fd: usize,
        page: usize,
        pages: usize,
    },
    Unlink {
        file: usize,
    },
}

/// Any step, whether it can be done or not.
pub fn any_op() -> impl Strategy<Value = Op> {
    let (p, fd, map, ring) = (0..PROCESSES, 0..FDS, 0..MAPS, 0..RINGS);
    let (page, pages) = (0..PAGES, 1..=PAGES);
    let on = (p.clone(), fd.clone());
    let in_ring = (p.clone(), ring.clone());
    prop_oneof![
        6 => p.clone().prop_map(|p| Op::Spawn { p }),
        10 => (p.clone(), p.clone()).prop_map(|(p, child)| Op::Fork { p, child }),
        1 => p.clone().prop_map(|p| Op::Exit { p }),
        1 => p.clone().prop_map(|p| Op::Kill { p }),
        2 => on.clone().prop_map(|(p, fd)| Op::Exec { p, fd }),
        40 => (on.clone(), 0..FILES, any_write())
            .prop_map(|((p, fd), file, write)| Op::Open { p, fd, file, write }),
        10 => on.clone().prop_map(|(p, fd)| Op::Close { p, fd }),
        2 => (on.clone(), fd.clone())
            .prop_map(|((p, first), last)| Op::CloseRange { p, first, last }),
        6 => (on.clone(), fd.clone()).prop_map(|((p, fd), to)| Op::Dup { p, fd, to }),
        6 => (on.clone(), fd.clone()).prop_map(|((p, fd), over)| Op::Dup2 { p, fd, over }),
        20 => (on.clone(), on.clone())
            .prop_map(|((p, fd), (receiver, to))| Op::Pass { p, fd, receiver, to }),
        60 => (on.clone(), any_write()).prop_map(|((p, fd), write)| Op::Lease { p, fd, write }),
        3 => on.clone().prop_map(|(p, fd)| Op::Drop { p, fd }),
        4 => (on.clone(), any::<bool>())
            .prop_map(|((p, fd), worker)| Op::UringClose { p, fd, worker }),
        16 => on.clone().prop_map(|(p, fd)| Op::Unlock { p, fd }),
        2 => (p.clone(), 0..FILES, any_write())
            .prop_map(|(p, file, write)| Op::Break { p, file, write }),
        1 => (on.clone(), 0..FILES, any_write())
            .prop_map(|((p, fd), file, write)| Op::Outwait { p, fd, file, write }),
        60 => (on.clone(), map.clone(), pages.clone())
            .prop_map(|((p, fd), map, pages)| Op::Map { p, map, fd, pages }),
        16 => (on.clone(), map.clone(), page.clone(), pages.clone())
            .prop_map(|((p, fd), map, page, pages)| Op::MapOver { p, map, page, pages, fd }),
        12 => (p.clone(), map.clone()).prop_map(|(p, map)| Op::Unmap { p, map }),
        10 => (p.clone(), map.clone(), pages.clone())
            .prop_map(|(p, map, pages)| Op::Remap { p, map, pages }),
        10 => (p.clone(), map.clone(), map.clone())
            .prop_map(|(p, map, over)| Op::RemapOver { p, map, over }),
        16 => (p.clone(), ring.clone()).prop_map(|(p, ring)| Op::Ring { p, ring }),
        3 => (p.clone(), ring.clone()).prop_map(|(p, ring)| Op::CloseRing { p, ring }),
        200 => (p.clone(), ring.clone(), map, page.clone(), pages.clone())
            .prop_map(|(p, ring, map, page, pages)| Op::Pin { p, ring, map, page, pages }),
        30 => in_ring.clone().prop_map(|(p, ring)| Op::Unpin { p, ring }),
        20 => (in_ring.clone(), ring.clone())
            .prop_map(|((p, ring), from)| Op::Clone { p, ring, from }),
        8 => (in_ring.clone(), fd)
            .prop_map(|((p, ring), fd)| Op::RegisterFile { p, ring, fd }),
        4 => in_ring.prop_map(|(p, ring)| Op::UnregisterFile { p, ring }),
        3 => (on.clone(), 0..=PAGES).prop_map(|((p, fd), pages)| Op::Truncate { p, fd, pages }),
        4 => (on, page, pages).prop_map(|((p, fd), page, pages)| Op::Punch { p, fd, page, pages }),
        1 => (0..FILES).prop_map(|file| Op::Unlink { file }),
    ]
}

fn any_write() -> impl Strategy<Value = bool> + Clone {
    proptest::bool::weighted(0.7)
}

/// The name of a file.
pub const fn name(file: usize) -> &'static str {
    ["a", "b", "c"][file]
}
