//! Which steps can be done in the state that there is, and what of them is certain.

use super::{Buffer, Id, Lease, Model, Pending, Process, one_mapping};
use crate::oracle::op::{Op, PAGES};

impl Model {
    /// Whether the step can be done, and what follows is certain.
    pub fn allows(&self, op: Op) -> bool {
        match op {
            Op::Spawn { p } => self.processes[p].is_none(),
            Op::Fork { p, child } => self.is_alive(p) && self.processes[child].is_none(),
            Op::Exit { p } | Op::Kill { p } => self.is_alive(p) && self.end_is_certain(p),
            Op::Open { p, fd, file, write } => {
                let mut leases = self.leases_of(file);
                self.is_alive(p)
                    && self.fd(p, fd).is_none()
                    && !leases.any(|lease| lease.is_in_the_way(write))
            }
            Op::Break { p, file, write } => {
                let mut leases = self.leases_of(file);
                self.is_alive(p) && leases.any(|lease| lease.is_in_the_way(write))
            }
            Op::Outwait { p, fd, file, write } => {
                let mut leases = self.leases_of(file);
                // A break that began before has no limit.
                self.allows(Op::Break { p, file, write })
                    && self.fd(p, fd).is_none()
                    && leases.all(|lease| lease.pending == Pending::Nothing)
            }
            // The kernel keeps the time of a downgrade that is over (`fl_downgrade_time`), and does
            // it again at the next occasion: such a lease is no write lease any more for long.
            Op::Lease { p, fd, write } => self
                .open(p, fd)
                .is_some_and(|open| !write || open.lease.is_none_or(|lease| !lease.timed_out)),
            Op::Close { p, fd }
            | Op::Drop { p, fd }
            | Op::Exec { p, fd }
            | Op::UringClose { p, fd, .. } => self.fd(p, fd).is_some(),
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
            Op::Remap { p, map, pages } => self.mapping(p, map).is_some_and(|mapping| {
                // What grows must be one mapping, and so must what moves.
                pages <= mapping.len() || one_mapping(mapping).is_some()
            }),
            Op::RemapOver { p, map, over } => {
                let [map, place] = [map, over].map(|map| self.mapping(p, map));
                map.zip(place).is_some_and(|(map, place)| {
                    !std::ptr::eq(map, place)
                        && map.len() == place.len()
                        && one_mapping(map).is_some()
                })
            }
            Op::Truncate { p, fd, .. } | Op::Punch { p, fd, .. } => {
                self.open(p, fd).is_some_and(|open| open.write)
            }
            Op::Unlink { file } => self.names[file].is_some(),
            _ => self.allows_in_ring(op),
        }
    }

    fn allows_in_ring(&self, op: Op) -> bool {
        match op {
            Op::Ring { p, ring } => self.is_alive(p) && self.ring(p, ring).is_none(),
            Op::CloseRing { p, ring } => self.close_is_certain(p, ring),
            Op::Pin {
                p,
                ring,
                map,
                page,
                pages,
            } => {
                self.ring(p, ring).is_some_and(|ring| {
                    ring.buffer.is_none()
                        && ring.maker == self.process(p).program
                        && !self.has_older_pins(p)
                }) && self.has_pages(p, map, page, pages)
            }
            Op::Unpin { p, ring } => self.unpin_is_certain(p, ring),
            Op::Clone { p, ring, from } => {
                let [to, from] = [ring, from].map(|ring| self.ring(p, ring));
                to.zip(from)
                    .is_some_and(|(to, from)| to.buffer.is_none() && from.buffer.is_some())
            }
            Op::RegisterFile { p, ring, fd } => {
                self.ring(p, ring).is_some_and(|ring| ring.file.is_none())
                    && self.fd(p, fd).is_some()
            }
            Op::UnregisterFile { p, ring } => {
                self.ring(p, ring).is_some_and(|ring| ring.file.is_some())
            }
            _ => unreachable!("{op} has nothing to do with rings"),
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
            // Each takes a second: one in so many will do.
            Op::Outwait { p, fd, file, .. } => p == fd && fd == file,
            Op::Map { p, fd, .. } => self.open(p, fd).is_some_and(|open| open.write),
            // Behind the end of its file there is nothing to pin.
            Op::Remap { p, map, pages } => self
                .mapping(p, map)
                .is_none_or(|mapping| mapping.first().is_none_or(|(_, at)| at + pages <= PAGES)),
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
            // Linux 6.12 is the first that clones; rings of several programs have nothing in common.
            Op::Lease { .. } | Op::Break { .. } | Op::Clone { .. } => true,
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
            Op::Break { .. } => true,
            _ => false,
        }
    }

    fn leases_of(&self, file: usize) -> impl Iterator<Item = Lease> {
        let named = self.names[file].into_iter();
        named.flat_map(|inode| self.leases_on(inode))
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
    /// kernel's workers may have begun to take its rings down, each at the same time as the others.
    /// So it must not matter.
    fn end_is_certain(&self, p: usize) -> bool {
        let process = self.process(p);
        let ending = self.rings_ending_with(|other| other.pid == process.pid);
        let last = |id: &Id| !process.fds.contains(&Some(*id)) && !self.others_hold(p, *id);
        let mut mapped = process.maps.iter().flatten().flatten();
        !mapped.any(|(id, _)| last(id) && self.lease_goes_with_pins(*id, &ending, None))
            && !ending.iter().any(|ring| {
                let file = self.rings[ring].file;
                file.is_some_and(|id| self.lease_goes_with_pins(id, &ending, Some(*ring)))
            })
            && self.is_seen_to_end(&ending, |id| self.others_hold(p, id))
    }

    /// The ring goes, if no other process has it.
    fn close_is_certain(&self, p: usize, ring: usize) -> bool {
        let Some(id) = self.processes[p]
            .as_ref()
            .and_then(|process| process.rings[ring])
        else {
            return false;
        };
        let pid = self.pid(p);
        let is_last = self
            .rings_ending_with(|other| Some(other.pid) == pid)
            .contains(&id);
        let held = |file| self.alive().any(|process| process.holds(file));
        !is_last || self.is_seen_to_end(&[id], held)
    }

    /// The rings that only such processes have.
    fn rings_ending_with(&self, ends: impl Fn(&Process) -> bool) -> Vec<Id> {
        let held = |id: &Id| {
            let mut others = self.alive().filter(|process| !ends(process));
            others.any(|process| process.rings.contains(&Some(*id)))
        };
        self.rings.keys().copied().filter(|id| !held(id)).collect()
    }

    /// A worker lets go of a ring's file some time later. If that is the last reference, the lease
    /// is gone then; if not, nothing shows when.
    fn is_seen_to_end(&self, ending: &[Id], held: impl Fn(Id) -> bool) -> bool {
        let by_a_ring = |file: Id| {
            let mut others = self.rings.iter().filter(|(id, _)| !ending.contains(id));
            others.any(|(_, ring)| ring.file == Some(file))
        };
        let mut files = ending.iter().filter_map(|id| self.rings[id].file);
        !files.any(|file| held(file) || by_a_ring(file))
    }

    /// Whether the end of these rings, but for one, drops pins in a file of which this open file
    /// description has a lease. A ring drops its own before its file.
    fn lease_goes_with_pins(&self, id: Id, ending: &[Id], but: Option<Id>) -> bool {
        let open = &self.opens[&id];
        let others = ending.iter().filter(|ring| Some(**ring) != but);
        let mut pinned = others
            .filter_map(|ring| self.buffers.get(&self.rings[ring].buffer?))
            .flat_map(|buffer| buffer.pages.keys());
        open.lease.is_some() && pinned.any(|inode| *inode == open.inode)
    }

    fn others_hold(&self, p: usize, id: Id) -> bool {
        let pid = self.pid(p);
        let mut others = self.alive().filter(|other| Some(other.pid) != pid);
        others.any(|other| other.holds(id))
    }

    /// Whether it has pins from before an exec: a worker that drops them, or later ones, knows an
    /// address space, and a stake has one only.
    fn has_older_pins(&self, p: usize) -> bool {
        let Process { pid, program, .. } = self.process(p);
        let mut buffers = self.buffers.values();
        buffers.any(|buffer| buffer.owner == *pid && buffer.program != *program)
    }

    /// Whose pins go is certain if their owner drops them, or nobody else has any there
    /// (docs/verification.md, "Who a release belongs to").
    fn unpin_is_certain(&self, p: usize, ring: usize) -> bool {
        let buffer = self.ring(p, ring).and_then(|ring| ring.buffer);
        let Some(Buffer { owner, pages, .. }) = buffer.map(|id| &self.buffers[&id]) else {
            return false;
        };
        let sole = |inode: &Id| {
            let mut stakes = self.stakes.iter();
            stakes.all(|((pid, of), stake)| of != inode || pid == owner || stake.pins == 0)
        };
        Some(*owner) == self.pid(p) || pages.keys().all(sole)
    }
}
