//! A lease and a pin of lease-trace's own, right after everything is attached: whether the hooks see
//! what they are there for. A kernel may call what is watched past its hook: inlined, copied by the
//! compiler, replaced by a live patch.
//!
//! The file is in memory and has no name. The pin goes before the lease and no rule is in force yet,
//! so that there is nothing to tell and nothing to judge.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _},
    ptr::NonNull,
    thread,
    time::{Duration, Instant},
};

use lease_trace_common::{control, stake::pins};

use super::{Error, maps::Maps, of_monitor, pinned};
use crate::kernel::{limits, points::UNPROVED, uring::Ring};
use aya::maps::MapData;

const PAGE: usize = 4096;
/// A hook may be missed now and then, which is counted elsewhere.
const ATTEMPTS: u32 = 3;
/// A ring may drop its pins a little later.
const PATIENCE: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

const LEASE_SET: &str = "new leases are not seen";
const PIN_TAKEN: &str = "pins taken by io_uring are not seen";
const PIN_DROPPED: &str = "pins dropped by io_uring are counted as held for ever";
const LEASE_ENDED: &str = "the end of a lease is not seen";

/// What is not seen of a lease and a pin of this process, by the maps of the directory. Nothing where
/// this kernel does not let it be tried, or where the records do not have this process's number.
///
/// What is to be judged behind the end of a lease is judged at the end itself if the test does not come past there.
pub fn run() -> Result<Option<String>, Error> {
    if !limits::sees_all_processes() {
        return Ok(None);
    }
    let maps = of_monitor()?;
    let mut unseen = None;
    for _ in 0..ATTEMPTS {
        unseen = attempt(&maps)?;
        if unseen.is_none() {
            return Ok(None);
        }
    }
    if matches!(unseen, Some((UNPROVED, _))) {
        pinned::set_words(&[(control::JUDGES_UNLOCKED, 0), (control::TRIAL, 0)])?;
    }
    Ok(unseen.map(|(loss, functions)| {
        format!("{loss}: a test of lease-trace's own was missed by the hooks on {functions}")
    }))
}

type Unseen = Option<(&'static str, &'static str)>;

fn attempt(maps: &Maps<MapData>) -> Result<Unseen, Error> {
    let page = match Page::leased() {
        Ok(page) => page,
        Err(error) => {
            log::debug!("no test: no lease on a file of one's own: {error}");
            return Ok(None);
        }
    };
    if own(maps)?.0 != 1 {
        return Ok(Some((LEASE_SET, "lease_setup and generic_setlease")));
    }
    let unseen = match page.pinned() {
        Ok(ring) if own(maps)?.1 != 1 => {
            drop(ring);
            Some((PIN_TAKEN, "pin_user_pages and pin_user_pages_fast"))
        }
        Ok(ring) => match ring.unregister() {
            Ok(()) if !comes_to(maps, |(_, pins)| pins == 0)? => Some((
                PIN_DROPPED,
                "unpin_user_page, unpin_user_pages and unpin_user_folio",
            )),
            Ok(()) => None,
            Err(error) => {
                log::debug!("no test of pins dropped: {error}");
                None
            }
        },
        Err(error) => {
            log::debug!("no test of pins: {error}");
            None
        }
    };
    let judges = pinned::word(control::JUDGES_UNLOCKED) != 0;
    if judges {
        pinned::set_words(&[(control::TRIAL, std::process::id().into())])?;
    }
    drop(page);
    if !comes_to(maps, |(leases, _)| leases == 0)? {
        return Ok(Some((LEASE_ENDED, "lease_modify")));
    }
    if judges && pinned::word(control::TRIAL) != 0 {
        return Ok(Some((UNPROVED, "lease_dispose_list or locks_dispose_list")));
    }
    Ok(unseen)
}

/// Leases and pins of this process, as the maps have them.
fn own(maps: &Maps<MapData>) -> Result<(u64, u64), Error> {
    let process = std::process::id();
    let leases = maps.entries("LEASES", &maps.leases)?.into_iter();
    let leases = leases.filter(|(_, lease)| lease.setter.tgid == process);
    let stakes = maps.settled_stakes()?.into_iter();
    let own = stakes.filter(|(key, _)| key.tgid == process);
    let pins = own.map(|(_, stake)| pins(stake.word)).sum();
    Ok((leases.count() as u64, pins))
}

fn comes_to(maps: &Maps<MapData>, is_so: impl Fn((u64, u64)) -> bool) -> Result<bool, Error> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so(own(maps)?) {
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    Ok(true)
}

/// A mapped page of a file without a name, which has a lease until this is dropped.
struct Page {
    file: File,
    start: NonNull<libc::c_void>,
}

impl Page {
    fn leased() -> io::Result<Self> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"lease-trace-test".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, so it is nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(PAGE as u64)?;
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mapped at zero"))?;
        let page = Self { file, start };
        // A write lease wants the file to be counted as open for writing, which a memfd is not.
        // SAFETY: takes numbers.
        let returned =
            unsafe { libc::fcntl(page.file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
        if returned < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(page)
    }

    /// The ring that has the page pinned.
    fn pinned(&self) -> io::Result<Ring> {
        let ring = Ring::new()?;
        // SAFETY: the page is mapped as long as this lives.
        unsafe { ring.register(self.start.as_ptr(), PAGE) }?;
        Ok(ring)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `leased` made, and nobody else has the address.
        unsafe { libc::munmap(self.start.as_ptr(), PAGE) };
    }
}
