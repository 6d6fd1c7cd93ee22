//! Notifications, from the kernel's ring to whoever tells them. To tell one takes longer than to make
//! one, and the first stack that is named takes long: so a thread empties the ring as it fills, and
//! what waits, waits in memory of ours.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::maps::{Map, MapData, RingBuf};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::{sync::Notify, task};

use super::error::Error;

/// Told in one go; then signals and timers are looked at.
const BATCH: usize = 256;

/// As many wait at most, some 50 MB; the rest stays in the ring.
const MOST: usize = 1 << 16;

/// How long the ring is left alone where no more can wait. Nobody says when there is room again, and the ring
/// takes what comes meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// The ring, what was taken from it, and the thread that takes.
pub struct Notifications {
    shared: Arc<Shared>,
    /// Readable: the thread ends.
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    came: Notify,
}

struct Queue {
    ring: RingBuf<MapData>,
    taken: VecDeque<Vec<u8>>,
}

impl Notifications {
    pub fn of(map: Map) -> Result<Self, Error> {
        let ring = RingBuf::try_from(map)
            .map_err(|error| Error::maps("cannot open the map", "EVENTS", error))?;
        let readable = duplicate(&ring).map_err(Error::Wait)?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                ring,
                taken: VecDeque::new(),
            }),
            came: Notify::new(),
        });
        let end = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Error::Wait(error.into()))?;
        let end = Arc::new(end);
        let thread = thread::Builder::new().name("ring".to_owned()).spawn({
            let (shared, end) = (Arc::clone(&shared), Arc::clone(&end));
            move || empty(&shared, readable.as_fd(), end.as_fd())
        });
        Ok(Self {
            shared,
            end,
            thread: Some(thread.map_err(Error::Wait)?),
        })
    }

    /// Waits for some. Safe to cancel: what is not returned is kept.
    pub async fn next(&mut self) -> Vec<Vec<u8>> {
        // Or timers and signals would not be heard of in a flood.
        task::yield_now().await;
        loop {
            let batch = self.shared.queue().take(BATCH);
            if !batch.is_empty() {
                return batch;
            }
            self.shared.came.notified().await;
        }
    }

    /// All that are there now.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut queue = self.shared.queue();
        queue.fill();
        queue.take(usize::MAX)
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        // A counter of 64 bits takes a one.
        _ = rustix::io::write(&*self.end, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Whoever panicked left nothing half done in it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes what is in the ring; false if there is more than may wait.
    fn fill(&mut self) -> bool {
        while self.taken.len() < MOST {
            let Some(record) = self.ring.next() else {
                return true;
            };
            self.taken.push_back(record.to_vec());
        }
        false
    }

    fn take(&mut self, most: usize) -> Vec<Vec<u8>> {
        let batch = self.taken.len().min(most);
        let batch = self.taken.drain(..batch).collect();
        if self.taken.is_empty() {
            self.taken.shrink_to(BATCH);
        }
        batch
    }
}

/// Empties the ring whenever there is something in it.
fn empty(shared: &Shared, ring: BorrowedFd<'_>, end: BorrowedFd<'_>) {
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(ring, PollFlags::IN),
            PollFd::from_borrowed_fd(end, PollFlags::IN),
        ];
        if let Err(error) = poll(&mut ready, None)
            && error != rustix::io::Errno::INTR
        {
            log::error!("cannot wait for notifications: {error}");
            return;
        }
        if !ready[1].revents().is_empty() {
            return;
        }
        let has_room = shared.queue().fill();
        shared.came.notify_one();
        if !has_room {
            thread::sleep(PAUSE);
        }
    }
}

/// A descriptor of the ring that can be waited for while another thread reads it.
fn duplicate(ring: &RingBuf<MapData>) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor belongs to the ring, which is borrowed as long as this one is.
    let fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    fd.try_clone_to_owned()
}
