//! Rings: the pins that they have, and the files that they keep open.

use std::collections::{BTreeMap, BTreeSet};

use super::{Buffer, Fault, Id, Model, Process, Ring, one_mapping};
use crate::oracle::told::{KWORKER, Told};

impl Model {
    /// The kernel's worker takes down those that nobody holds any more: the buffers, then the file.
    pub(super) fn let_go_of_rings(&mut self, gone: impl Iterator<Item = Id>) {
        for id in gone {
            let held = |process: &Process| process.rings.contains(&Some(id));
            if !self.alive().any(held)
                && let Some(Ring { buffer, file, .. }) = self.rings.remove(&id)
            {
                self.drop_buffer(buffer);
                self.let_go_of(file.into_iter(), KWORKER, "other");
            }
        }
    }

    pub(super) fn make_ring(&mut self, p: usize, ring: usize) {
        let (id, maker) = (self.new_id(), self.process(p).program);
        let new = Ring {
            maker,
            buffer: None,
            file: None,
        };
        self.rings.insert(id, new);
        self.process_mut(p).rings[ring] = Some(id);
    }

    pub(super) fn unregister(&mut self, p: usize, ring: usize) {
        let id = self.process(p).rings[ring].expect("allowed");
        let buffer = self.rings.get_mut(&id).expect("held").buffer.take();
        if self.fault != Some(Fault::ForgetUnpin) {
            self.drop_buffer(buffer);
        }
    }

    /// The pins go once no ring has them any more.
    fn drop_buffer(&mut self, buffer: Option<Id>) {
        let Some(id) = buffer else { return };
        if self.rings.values().all(|ring| ring.buffer != buffer)
            && let Some(Buffer { owner, pages, .. }) = self.buffers.remove(&id)
        {
            self.unpin(owner, pages);
        }
    }

    /// Two rings have the same pins.
    pub(super) fn share(&mut self, p: usize, ring: usize, from: usize) {
        let [to, from] = [ring, from].map(|ring| self.process(p).rings[ring].expect("allowed"));
        let buffer = self.rings[&from].buffer;
        self.rings.get_mut(&to).expect("held").buffer = buffer;
    }

    /// Pages are pinned until one cannot be. Where the kernel then refuses, they are dropped again.
    pub(super) fn register(&mut self, p: usize, ring: usize, part: &[(Id, usize)], done: bool) {
        let process = self.process(p);
        let (pid, program) = (process.pid, process.program);
        let ring = process.rings[ring].expect("allowed");
        let through = one_mapping(part);
        let mut by_inode: BTreeMap<Id, i64> = BTreeMap::new();
        for (id, _) in part {
            *by_inode.entry(self.opens[id].inode).or_default() += 1;
        }
        // Neighbours of one file are taken together: of bare pins the first ones are told.
        let inodes: Vec<Id> = part.iter().map(|(id, _)| self.opens[id].inode).collect();
        for run in inodes.chunk_by(Id::eq) {
            self.pin(pid, run[0], run.len() as i64, through);
        }
        if done {
            let id = self.new_id();
            let buffer = Buffer {
                owner: pid,
                program,
                pages: by_inode,
            };
            self.buffers.insert(id, buffer);
            self.rings.get_mut(&ring).expect("held").buffer = Some(id);
        } else {
            self.unpin(pid, by_inode);
        }
    }

    /// `through`: the open file description behind the only mapping of the call.
    fn pin(&mut self, pid: i64, inode: Id, pages: i64, through: Option<Id>) {
        let there: BTreeSet<Id> = self.leases_on(inode).map(|lease| lease.id).collect();
        let mut found = self.leases_by_descriptor(pid, inode);
        found.extend(
            through
                .and_then(|id| self.opens[&id].lease)
                .map(|lease| lease.id),
        );
        let stake = self.stakes.entry((pid, inode)).or_default();
        if stake.leases.len() < there.len() && (stake.leases.is_empty() || stake.pins == 0) {
            stake.leases.extend(found);
        }
        if stake.pins == 0 && stake.leases.is_empty() {
            stake.bare = true;
            self.told.push(Told {
                pins: pages,
                ..Told::plain("bare-pin", pid, self.inodes[&inode].ino)
            });
        }
        stake.pins += pages;
    }

    fn unpin(&mut self, pid: i64, buffer: BTreeMap<Id, i64>) {
        for (inode, pages) in buffer {
            let own: BTreeSet<Id> = self
                .leases_on(inode)
                .filter(|lease| lease.setter == pid)
                .map(|lease| lease.id)
                .collect();
            let stake = self.stakes.get_mut(&(pid, inode)).expect("pinned");
            stake.pins -= pages;
            if stake.pins > 0 {
                continue;
            }
            // Without pins nobody is covered by what others have set.
            stake.leases = own;
            let was_bare = std::mem::take(&mut stake.bare);
            let ino = self.inodes[&inode].ino;
            if std::mem::take(&mut stake.zombie) {
                self.told.push(Told::plain("at-rest", pid, ino));
            } else if was_bare {
                self.told.push(Told::plain("bare-pin-end", pid, ino));
            }
        }
    }
}
