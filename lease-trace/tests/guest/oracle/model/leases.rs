//! Leases: set, wanted broken, and ended, with the judgement of everybody whose pins they covered.

use super::{End, Id, Lease, Model, Pending};
use crate::oracle::told::Told;

impl Model {
    /// A lease on an open file description that has one only changes its mode.
    pub(super) fn set_lease(&mut self, p: usize, fd: usize, write: bool) {
        let id = self.fd(p, fd).expect("allowed");
        let (setter, lease_id) = (self.process(p).pid, self.new_id());
        let open = self.opens.get_mut(&id).expect("held");
        if let Some(lease) = &mut open.lease {
            lease.change(write);
            return;
        }
        let inode = open.inode;
        open.lease = Some(Lease {
            id: lease_id,
            setter,
            write,
            pending: Pending::Nothing,
            timed_out: false,
        });
        let own = self.stakes.entry((setter, inode)).or_default();
        own.leases.insert(lease_id);
        // It covers those, too, who have pins and a descriptor of the same open file description.
        let heirs: Vec<i64> = self
            .alive()
            .filter(|process| process.fds.contains(&Some(id)))
            .map(|process| process.pid)
            .collect();
        for pid in heirs {
            if let Some(stake) = self.stakes.get_mut(&(pid, inode))
                && stake.pins > 0
            {
                stake.leases.insert(lease_id);
            }
        }
        let ino = self.inodes[&inode].ino;
        self.told.push(Told::plain("lease-set", setter, ino));
    }

    pub(super) fn unlock(&mut self, p: usize, fd: usize) {
        let end = End {
            last_reference: false,
            by: self.process(p).pid,
            cause: "unlock",
        };
        self.end_lease(self.fd(p, fd).expect("allowed"), end);
    }

    /// The lease of an open file description ends, if it has one. Everybody whose pins it covered is
    /// judged.
    pub(super) fn end_lease(&mut self, id: Id, end: End) {
        let open = self.opens.get_mut(&id).expect("held until now");
        let inode = open.inode;
        let Some(lease) = open.lease.take() else {
            return;
        };
        let ino = self.inodes[&inode].ino;
        let told = |event, pid, pins| Told {
            event,
            pid,
            ino,
            cause: end.cause.to_owned(),
            releaser: end.by,
            pins,
        };
        self.told.push(told("lease-end", lease.setter, 0));
        let here = self.stakes.keys().filter(|(_, of)| *of == inode);
        for pid in here.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            let covers_by_descriptor = self.leases_by_descriptor(pid, inode);
            let holds = if end.last_reference {
                pid == end.by
            } else {
                self.has_descriptor(pid, id)
            };
            let stake = self.stakes.get_mut(&(pid, inode)).expect("from the keys");
            let came_late = stake.leases.is_empty() && !stake.zombie && holds;
            let was_covered = stake.leases.remove(&lease.id) || came_late;
            if !was_covered || stake.pins == 0 || stake.zombie || !stake.leases.is_empty() {
                continue;
            }
            stake.leases = covers_by_descriptor;
            if stake.leases.is_empty() {
                stake.zombie = true;
                stake.bare = false;
                self.told.push(told("zombie", pid, stake.pins));
            }
        }
    }

    /// Somebody opens the file, who does not wait: what stands in the way is to go.
    pub(super) fn want_broken(&mut self, file: usize, write: bool) {
        let inode = self.names[file].expect("allowed");
        let wanted = if write {
            Pending::Unlock
        } else {
            Pending::Downgrade
        };
        let opens = self.opens.values_mut().filter(|open| open.inode == inode);
        for lease in opens.filter_map(|open| open.lease.as_mut()) {
            if lease.is_in_the_way(write) {
                lease.pending = lease.pending.max(wanted);
            }
        }
    }

    /// The one who wants to open it has waited for long enough.
    pub(super) fn time_out(&mut self, p: usize, file: usize, write: bool) {
        let inode = self.names[file].expect("allowed");
        let end = End {
            last_reference: false,
            by: self.process(p).pid,
            cause: "break-timeout",
        };
        let opens = self.opens.iter().filter(|(_, open)| open.inode == inode);
        let in_the_way: Vec<Id> = opens
            .filter(|(_, open)| open.lease.is_some_and(|lease| lease.is_in_the_way(write)))
            .map(|(id, _)| *id)
            .collect();
        for id in in_the_way {
            if write {
                self.end_lease(id, end);
            } else if let Some(lease) = &mut self.opens.get_mut(&id).expect("listed").lease {
                lease.write = false;
                lease.timed_out = true;
            }
        }
    }
}

impl Lease {
    /// Whether it keeps others from opening the file so.
    pub(super) const fn is_in_the_way(&self, write: bool) -> bool {
        write || self.write
    }

    /// Its holder wants it to be of this mode: a downgrade that was asked for is done then.
    fn change(&mut self, write: bool) {
        self.write = write;
        if !write && self.pending == Pending::Downgrade {
            self.pending = Pending::Nothing;
        }
    }

    /// What /proc/locks calls it.
    pub(super) const fn access(&self) -> &'static str {
        match self.pending {
            Pending::Unlock => "UNLCK",
            Pending::Nothing if self.write => "WRITE",
            Pending::Downgrade | Pending::Nothing => "READ",
        }
    }
}
