//! One step of a sequence: what is done, how it is chosen, and the commands that do it.
//!
//! Steps name places (process 2, descriptor 1), never what is there, so that a sequence still means
//! something after any step was left out of it.

use std::fmt;

use proptest::prelude::*;

/// Processes at one time.
pub const PROCESSES: usize = 4;
/// Names in the folder.
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
    Lease {
        p: usize,
        fd: usize,
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
pub fn any() -> impl Strategy<Value = Op> {
    let (p, fd, map, ring) = (0..PROCESSES, 0..FDS, 0..MAPS, 0..RINGS);
    let (page, pages) = (0..PAGES, 1..=PAGES);
    let on = (p.clone(), fd.clone());
    prop_oneof![
        6 => p.clone().prop_map(|p| Op::Spawn { p }),
        10 => (p.clone(), p.clone()).prop_map(|(p, child)| Op::Fork { p, child }),
        1 => p.clone().prop_map(|p| Op::Exit { p }),
        1 => p.clone().prop_map(|p| Op::Kill { p }),
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
        16 => on.clone().prop_map(|(p, fd)| Op::Unlock { p, fd }),
        60 => (on.clone(), map.clone(), pages.clone())
            .prop_map(|((p, fd), map, pages)| Op::Map { p, map, fd, pages }),
        16 => (on.clone(), map.clone(), page.clone(), pages.clone())
            .prop_map(|((p, fd), map, page, pages)| Op::MapOver { p, map, page, pages, fd }),
        12 => (p.clone(), map.clone()).prop_map(|(p, map)| Op::Unmap { p, map }),
        16 => (p.clone(), ring.clone()).prop_map(|(p, ring)| Op::Ring { p, ring }),
        3 => (p.clone(), ring.clone()).prop_map(|(p, ring)| Op::CloseRing { p, ring }),
        200 => (p.clone(), ring.clone(), map, page.clone(), pages.clone())
            .prop_map(|(p, ring, map, page, pages)| Op::Pin { p, ring, map, page, pages }),
        30 => (p, ring).prop_map(|(p, ring)| Op::Unpin { p, ring }),
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

impl Op {
    /// What the actors are told, in order, and who. A process that is made or ended, and what the
    /// test does itself, is not among it. `is_new`: the file to be opened does not exist; `writable`:
    /// the descriptor of a mapping can be written to.
    pub fn commands(self, path: &str, is_new: bool, writable: bool) -> Vec<(usize, String)> {
        let access = if writable { "rw" } else { "ro" };
        match self {
            Self::Spawn { .. }
            | Self::Fork { .. }
            | Self::Exit { .. }
            | Self::Kill { .. }
            | Self::Unlink { .. } => Vec::new(),
            Self::Open { p, fd, write, .. } => {
                let access = if write { "rw" } else { "ro" };
                let mut commands = vec![
                    // Not to wait, should the model be wrong and a lease be in the way.
                    (p, format!("open f{fd} {path} {access},creat,nonblock")),
                    move_fd(p, fd),
                ];
                if is_new && write {
                    commands.push((p, format!("truncate f{fd} {}", PAGES << 12)));
                }
                commands
            }
            Self::Close { p, fd } => vec![(p, format!("close f{fd}"))],
            Self::CloseRange { p, first, last } => {
                vec![(p, format!("close_range f{first} f{last}"))]
            }
            Self::Dup { p, fd, to } => vec![(p, format!("dup f{fd} f{to}")), move_fd(p, to)],
            Self::Dup2 { p, fd, over } => vec![(p, format!("dup2 f{fd} f{over}"))],
            Self::Pass {
                p,
                fd,
                receiver,
                to,
            } => vec![
                (p, format!("send-fd f{fd} near")),
                (receiver, format!("recv-fd f{to} far")),
                move_fd(receiver, to),
            ],
            Self::Lease { p, fd, write } => {
                let mode = if write { "w" } else { "r" };
                vec![(p, format!("setlease f{fd} {mode}"))]
            }
            Self::Unlock { p, fd } => vec![(p, format!("setlease f{fd} u"))],
            Self::Map { p, map, fd, pages } => {
                vec![(
                    p,
                    format!("mmap m{map} f{fd} {} shared {access}", pages << 12),
                )]
            }
            Self::MapOver {
                p,
                map,
                page,
                pages,
                fd,
            } => vec![(
                p,
                format!(
                    "mmap-over m{map} {} f{fd} {} shared {access}",
                    page << 12,
                    pages << 12
                ),
            )],
            Self::Unmap { p, map } => vec![(p, format!("munmap m{map}"))],
            Self::Ring { p, ring } => vec![
                (p, format!("uring r{ring}")),
                (p, format!("move-fd r{ring} {}", RING_BASE + ring)),
            ],
            Self::CloseRing { p, ring } => vec![(p, format!("close r{ring}"))],
            Self::Pin {
                p,
                ring,
                map,
                page,
                pages,
            } => vec![(
                p,
                format!(
                    "register-buffers r{ring} m{map} {} {}",
                    page << 12,
                    pages << 12
                ),
            )],
            Self::Unpin { p, ring } => vec![(p, format!("unregister-buffers r{ring}"))],
            Self::Truncate { p, fd, pages } => {
                vec![(p, format!("truncate f{fd} {}", pages << 12))]
            }
            Self::Punch { p, fd, page, pages } => vec![(
                p,
                format!("punch-hole f{fd} {} {}", page << 12, pages << 12),
            )],
        }
    }
}

fn move_fd(p: usize, fd: usize) -> (usize, String) {
    (p, format!("move-fd f{fd} {}", FD_BASE + fd))
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = |write| if write { "write" } else { "read" };
        match *self {
            Self::Spawn { p } => write!(f, "p{p} starts"),
            Self::Fork { p, child } => write!(f, "p{p} forks p{child}"),
            Self::Exit { p } => write!(f, "p{p} exits"),
            Self::Kill { p } => write!(f, "p{p} is killed"),
            Self::Open { p, fd, file, write } => {
                let how = if write { "to write" } else { "to read" };
                write!(f, "p{p} opens {} as f{fd} {how}", name(file))
            }
            Self::Close { p, fd } => write!(f, "p{p} closes f{fd}"),
            Self::CloseRange { p, first, last } => {
                write!(f, "p{p} closes the range f{first} to f{last}")
            }
            Self::Dup { p, fd, to } => write!(f, "p{p} dups f{fd} as f{to}"),
            Self::Dup2 { p, fd, over } => write!(f, "p{p} dups f{fd} over f{over}"),
            Self::Pass {
                p,
                fd,
                receiver,
                to,
            } => write!(f, "p{p} sends f{fd} to p{receiver}, there f{to}"),
            Self::Lease { p, fd, write } => {
                write!(f, "p{p} sets a {} lease on f{fd}", access(write))
            }
            Self::Unlock { p, fd } => write!(f, "p{p} unlocks f{fd}"),
            Self::Map { p, map, fd, pages } => {
                write!(f, "p{p} maps {pages} pages of f{fd} as m{map}")
            }
            Self::MapOver {
                p,
                map,
                page,
                pages,
                fd,
            } => write!(
                f,
                "p{p} maps {pages} pages of f{fd} over m{map} from page {page}"
            ),
            Self::Unmap { p, map } => write!(f, "p{p} unmaps m{map}"),
            Self::Ring { p, ring } => write!(f, "p{p} makes the ring r{ring}"),
            Self::CloseRing { p, ring } => write!(f, "p{p} closes the ring r{ring}"),
            Self::Pin {
                p,
                ring,
                map,
                page,
                pages,
            } => write!(
                f,
                "p{p} registers {pages} pages of m{map} from page {page} with r{ring}"
            ),
            Self::Unpin { p, ring } => write!(f, "p{p} unregisters the buffers of r{ring}"),
            Self::Truncate { p, fd, pages } => write!(f, "p{p} truncates f{fd} to {pages} pages"),
            Self::Punch { p, fd, page, pages } => {
                write!(
                    f,
                    "p{p} punches {pages} pages out of f{fd} from page {page}"
                )
            }
            Self::Unlink { file } => write!(f, "{} is unlinked", name(file)),
        }
    }
}
