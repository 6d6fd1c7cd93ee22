//! Steps as people read them.

use std::fmt;

use super::{Op, name};

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = |write| if write { "write" } else { "read" };
        match *self {
            Self::Spawn { p } => write!(f, "p{p} starts"),
            Self::Fork { p, child } => write!(f, "p{p} forks p{child}"),
            Self::Exit { p } => write!(f, "p{p} exits"),
            Self::Kill { p } => write!(f, "p{p} is killed"),
            Self::Exec { p, fd } => write!(f, "p{p} execs, with CLOEXEC on f{fd}"),
            Self::Open { p, fd, file, write } => {
                write!(f, "p{p} opens {} as f{fd} to {}", name(file), access(write))
            }
            Self::Drop { p, fd } => {
                write!(f, "p{p} sends f{fd} to nobody")
            }
            Self::UringClose { p, fd, worker } => {
                let who = if worker { "worker" } else { "caller" };
                write!(f, "p{p} closes f{fd} through io_uring, in the {who}")
            }
            Self::Break { p, file, write } => {
                write!(f, "p{p} tries to open {} to {}", name(file), access(write))
            }
            Self::Outwait { p, fd, file, write } => write!(
                f,
                "p{p} waits until {} can be opened as f{fd} to {}",
                name(file),
                access(write)
            ),
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
            Self::Remap { p, map, pages } => write!(f, "p{p} resizes m{map} to {pages} pages"),
            Self::RemapOver { p, map, over } => write!(f, "p{p} moves m{map} over m{over}"),
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
            Self::Clone { p, ring, from } => {
                write!(f, "p{p} clones the buffers of r{from} into r{ring}")
            }
            Self::RegisterFile { p, ring, fd } => write!(f, "p{p} registers f{fd} with r{ring}"),
            Self::UnregisterFile { p, ring } => {
                write!(f, "p{p} unregisters the file of r{ring}")
            }
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
