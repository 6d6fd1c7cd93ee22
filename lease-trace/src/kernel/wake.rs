//! A ring buffer that only wakes. Any number of processes wait for one another's map: none of them
//! takes records out, for then the others would find it empty and sleep on.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// A record of eight bytes and its header (kernel/bpf/ringbuf.c, `BPF_RINGBUF_HDR_SZ`).
const RECORD: u64 = 16;
/// From so many bytes on there may soon be no room for the next.
const FULL: u64 = 2048;
/// The positions have a page each: the consumer's first (kernel/bpf/ringbuf.c, `bpf_ringbuf`).
const PAGE: usize = 4096;

/// The map, opened to wait on.
pub struct WakeRing {
    map: OwnedFd,
    consumer: Page,
    producer: Page,
}

/// One mapped page that begins with a position.
struct Page(NonNull<AtomicU64>);

// SAFETY: an atomic may be used by any thread, and the page stays mapped as long as this lives.
unsafe impl Send for Page {}

impl Page {
    fn map(map: &OwnedFd, number: usize, protection: i32) -> io::Result<Self> {
        // SAFETY: a new mapping, of a page that every ring buffer has.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                (number * PAGE) as libc::off_t,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(|| io::Error::other("mapped at zero"))
    }

    fn get(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as this lives, and begins with an aligned word that
        // everybody changes atomically.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and nobody else has the address.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

impl WakeRing {
    pub fn new(map: OwnedFd) -> io::Result<Self> {
        let ring = Self {
            consumer: Page::map(&map, 0, libc::PROT_READ | libc::PROT_WRITE)?,
            producer: Page::map(&map, 1, libc::PROT_READ)?,
            map,
        };
        ring.make_room();
        Ok(ring)
    }

    /// Before anything else is looked at: from here on the next record wakes again. One record is
    /// left in any case, by which those who wake later see that there was something.
    pub fn make_room(&self) {
        let consumer = self.consumer.get();
        let taken = consumer.load(Ordering::Acquire);
        let produced = self.producer.get().load(Ordering::Acquire);
        if produced.wrapping_sub(taken) >= FULL {
            // Whoever was faster has made room.
            _ = consumer.compare_exchange(
                taken,
                produced - RECORD,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
    }
}

impl AsRawFd for WakeRing {
    fn as_raw_fd(&self) -> RawFd {
        self.map.as_raw_fd()
    }
}
