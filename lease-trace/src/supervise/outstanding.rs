//! Which calls have been asked about and not answered, in memory that supervisor and guardian
//! share: what the one leaves unanswered when it dies, the other answers.

use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// Calls that may wait at one time, each of another thread: as many as there can be threads with the kernel's
/// first `pid_max`. Further ones are not taken from the kernel until there is room.
const MOST: usize = 1 << 15;

/// Id and thread; an id of 0 is free. The kernel's begin at a random number and count up
/// (kernel/seccomp.c, `seccomp_next_notify_id`).
#[repr(C)]
struct Slot {
    id: AtomicU64,
    tid: AtomicU64,
}

/// The table, by the place that each call was given.
pub struct Outstanding {
    slots: NonNull<[Slot; MOST]>,
    /// Places to give. Only the supervisor gives any.
    free: Vec<usize>,
}

/// The place of one call.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(usize);

impl Outstanding {
    /// Before the processes part.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new mapping of nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<[Slot; MOST]>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            slots: NonNull::new(address.cast())
                .ok_or_else(|| io::Error::other("mapped at zero"))?,
            free: (0..MOST).rev().collect(),
        })
    }

    fn slots(&self) -> &[Slot; MOST] {
        // SAFETY: the mapping lasts as long as this, begins with zeroes, which are values, and is
        // only ever changed atomically.
        unsafe { self.slots.as_ref() }
    }

    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// A call was taken from the kernel. Nothing without room.
    pub fn enter(&mut self, id: u64, tid: u32) -> Option<Ticket> {
        let place = self.free.pop()?;
        let slot = &self.slots()[place];
        slot.tid.store(tid.into(), Ordering::Relaxed);
        slot.id.store(id, Ordering::Release);
        Some(Ticket(place))
    }

    /// It was answered, or nobody waits for the answer.
    pub fn done(&mut self, Ticket(place): Ticket) {
        self.slots()[place].id.store(0, Ordering::Release);
        self.free.push(place);
    }

    /// Id and thread of all that is unanswered.
    pub fn left(&self) -> Vec<(u64, u32)> {
        let taken = self.slots().iter().map(|slot| {
            let id = slot.id.load(Ordering::Acquire);
            (id, slot.tid.load(Ordering::Relaxed) as u32)
        });
        taken.filter(|(id, _)| *id != 0).collect()
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nothing borrows from it any more.
        unsafe { libc::munmap(self.slots.as_ptr().cast(), size_of::<[Slot; MOST]>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_left() {
        let mut table = Outstanding::new().expect("memory");
        let first = table.enter(11, 100).expect("room");
        let second = table.enter(12, 101).expect("room");
        assert_eq!(table.left().len(), 2);
        table.done(first);
        assert_eq!(table.left(), [(12, 101)]);
        table.done(second);
        assert!(table.left().is_empty());
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut table = Outstanding::new().expect("memory");
        for id in 1..=MOST as u64 {
            assert!(table.enter(id, 1).is_some());
        }
        assert!(!table.has_room());
        assert_eq!(table.enter(99, 1), None);
    }
}
