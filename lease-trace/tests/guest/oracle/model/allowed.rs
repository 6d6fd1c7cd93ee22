//! Which steps can be done in the state that there is, and what of them is certain.

use std::collections::BTreeSet;

use super::{Id, Model, Process, Ring};
use crate::oracle::op::Op;

impl Model {
    /// Whether the step can be done, and what follows is certain.
    pub fn allows(&self, op: Op) -> bool {
        match op {
            Op::Spawn { p } => self.processes[p].is_none(),
            Op::Fork { p, child } => self.is_alive(p) && self.processes[child].is_none(),
            Op::Exit { p } | Op::Kill { p } => self.is_alive(p) && self.end_is_certain(p),
            Op::Open { p, fd, file, write } => {
                // No lease is broken here: break_timeout.rs has that.
                let mut leases = self.names[file]
                    .into_iter()
                    .flat_map(|id| self.leases_on(id));
                self.is_alive(p)
                    && self.fd(p, fd).is_none()
                    && leases.all(|lease| !write && !lease.write)
            }
            Op::Close { p, fd } | Op::Lease { p, fd, .. } => self.fd(p, fd).is_some(),
            Op::CloseRange { p, first, last } => {
                first <= last && self.fd(p, first).is_some() && self.fd(p, last).is_some()
            }
            Op::Dup { p, fd, to } => self.fd(p, fd).is_some() && self.fd(p, to).is_none(),
            Op::Dup2 { p, fd, over } => {
                fd != over && self.fd(p, fd).is_some() && self.fd(p, over).is_some()
            }
            Op::Pass {
                p,
                fd,
                receiver,
                to,
            } => {
                p != receiver
                    && self.is_alive(receiver)
                    && self.fd(p, fd).is_some()
                    && self.fd(receiver, to).is_none()
            }
            Op::Unlock { p, fd } => self.open(p, fd).is_some_and(|open| open.lease.is_some()),
            Op::Map { p, map, fd, .. } => {
                self.fd(p, fd).is_some() && self.mapping(p, map).is_none()
            }
            Op::MapOver {
                p,
                map,
                page,
                pages,
                fd,
            } => self.fd(p, fd).is_some() && self.has_pages(p, map, page, pages),
            Op::Unmap { p, map } => self.mapping(p, map).is_some(),
            Op::Ring { p, ring } => self.is_alive(p) && self.ring(p, ring).is_none(),
            Op::CloseRing { p, ring } => self.ring(p, ring).is_some(),
            Op::Pin {
                p,
                ring,
                map,
                page,
                pages,
            } => {
                let own = self
                    .ring(p, ring)
                    .is_some_and(|ring| ring.buffer.is_none() && Some(ring.maker) == self.pid(p));
                own && self.has_pages(p, map, page, pages)
            }
            Op::Unpin { p, ring } => self.unpin_is_certain(p, ring),
            Op::Truncate { p, fd, .. } | Op::Punch { p, fd, .. } => {
                self.open(p, fd).is_some_and(|open| open.write)
            }
            Op::Unlink { file } => self.names[file].is_some(),
        }
    }

    /// Whether the step is not likely to be refused, or to stand in the way of leases to come.
    pub fn leads_somewhere(&self, op: Op) -> bool {
        let opens_of = |inode| self.opens.values().filter(move |open| open.inode == inode);
        match op {
            Op::Open { file, write, .. } => self.names[file].is_none_or(|inode| {
                let mut opens = opens_of(inode);
                opens.all(|open| !write && !open.write)
            }),
            Op::Lease { p, fd, write } => self.open(p, fd).is_some_and(|open| {
                open.lease.is_none()
                    && if write {
                        opens_of(open.inode).count() == 1
                    } else {
                        opens_of(open.inode).all(|open| !open.write)
                    }
            }),
            Op::Map { p, fd, .. } => self.open(p, fd).is_some_and(|open| open.write),
            Op::Pin {
                p,
                map,
                page,
                pages,
                ..
            } => self.pinnable(p, map, page, pages) == pages,
            _ => true,
        }
    }

    /// Whether the file to be opened does not exist yet.
    pub fn is_new(&self, op: Op) -> bool {
        matches!(op, Op::Open { file, .. } if self.names[file].is_none())
    }

    /// Whether the descriptor to be mapped can be written through.
    pub fn is_writable(&self, op: Op) -> bool {
        match op {
            Op::Map { p, fd, .. } | Op::MapOver { p, fd, .. } => {
                self.open(p, fd).is_some_and(|open| open.write)
            }
            _ => false,
        }
    }

    /// Whether the kernel may refuse this step, for reasons that are its own.
    pub fn may_be_refused(&self, op: Op) -> bool {
        match op {
            Op::Lease { .. } => true,
            Op::Pin {
                p,
                map,
                page,
                pages,
                ..
            } => {
                // Linux 6.1 wants all of a buffer to be of one file.
                let mapping = self.mapping(p, map).expect("allowed");
                let mut others = mapping[page..page + pages].iter();
                self.pinnable(p, map, page, pages) < pages
                    || others.any(|(id, _)| *id != mapping[page].0)
            }
            _ => false,
        }
    }

    /// Whether the kernel must refuse this step.
    pub fn must_be_refused(&self, op: Op) -> bool {
        match op {
            Op::Pin {
                p,
                map,
                page,
                pages,
                ..
            } => self.pinnable(p, map, page, pages) < pages,
            _ => false,
        }
    }

    /// How many pages from `page` on can be pinned: io_uring wants to write, and pages behind the
    /// end of a file are no pages.
    pub(super) fn pinnable(&self, p: usize, map: usize, page: usize, pages: usize) -> usize {
        let mapping = self.mapping(p, map).expect("allowed");
        let part = mapping[page..page + pages].iter();
        part.take_while(|(id, place)| {
            let open = &self.opens[id];
            open.write && *place < self.inodes[&open.inode].pages
        })
        .count()
    }

    /// A process that ends drops its descriptors, then what only its mappings hold; by then the
    /// kernel's worker may have begun to take its rings down. So it must not matter.
    fn end_is_certain(&self, p: usize) -> bool {
        let process = self.process(p);
        let others = |holds: &dyn Fn(&Process) -> bool| {
            self.alive()
                .any(|other| other.pid != process.pid && holds(other))
        };
        let ending = process
            .rings
            .iter()
            .flatten()
            .filter(|id| !others(&|other| other.rings.contains(&Some(**id))));
        let pinned: BTreeSet<Id> = ending
            .filter_map(|id| self.rings[id].buffer.as_ref())
            .flat_map(|buffer| buffer.keys().copied())
            .collect();
        let mut mapped = process.maps.iter().flatten().flatten();
        !mapped.any(|(id, _)| {
            let open = &self.opens[id];
            open.lease.is_some()
                && pinned.contains(&open.inode)
                && !process.fds.contains(&Some(*id))
                && !others(&|other| other.holds(*id))
        })
    }

    /// Whose pins go is certain if the ring's maker drops them, or nobody else has any there
    /// (docs/verification.md, "Who a release belongs to").
    fn unpin_is_certain(&self, p: usize, ring: usize) -> bool {
        let Some(Ring {
            maker,
            buffer: Some(buffer),
        }) = self.ring(p, ring)
        else {
            return false;
        };
        let sole = |inode: &Id| {
            let mut stakes = self.stakes.iter();
            stakes.all(|((pid, of), stake)| of != inode || pid == maker || stake.pins == 0)
        };
        Some(*maker) == self.pid(p) || buffer.keys().all(sole)
    }
}
