//! What `run` asks of the maps in place, whoever put them there: whether a call would leave pins
//! uncovered, and to be woken when that changes.

use std::{io, os::fd::AsFd as _};

use aya::maps::MapData;
use lease_trace_common::{control, count::Count, stake::StakeKey};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Error, maps,
    maps::Maps,
    of_monitor,
    pinned::{self, ControlMap},
    snapshot::{Reference, StakeView},
    walk::{Over, Walker},
};
use crate::kernel::wake::WakeRing;

/// The maps, opened.
pub struct Watch {
    /// Of which directory they are; another one is made for other maps.
    directory: Option<u64>,
    control_map: ControlMap,
    maps: Maps<MapData>,
    walker: Walker,
    wake: AsyncFd<WakeRing>,
}

impl Watch {
    /// Nothing where nobody watches leases and pins. Must be called inside a tokio runtime.
    pub fn open() -> Result<Option<Self>, Error> {
        let directory = pinned::inode();
        let Some(control_map) = ControlMap::open() else {
            return Ok(None);
        };
        if control_map.source()?.is_none() {
            return Ok(None);
        }
        // From here on it is woken; what it looks at, it looks at later.
        pinned::set_words(&[(control::WAITED, 1)])?;
        let map = pinned::open("WAKE")?;
        let failed = |error: io::Error| Error::maps("cannot wait on the map", "WAKE", error);
        let ring = map
            .fd()
            .as_fd()
            .try_clone_to_owned()
            .and_then(WakeRing::new)
            .map_err(failed)?;
        // SAFETY: the descriptor belongs to the ring and stays open as long as it lives, which is
        // as long as the registration.
        let wake = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Some(Self {
            directory,
            control_map,
            maps: of_monitor()?,
            walker: pinned::walker()?,
            wake: wake.map_err(|error| failed(error.into()))?,
        }))
    }

    /// Whether somebody still keeps these maps right.
    pub fn is_kept(&self) -> bool {
        pinned::inode() == self.directory && matches!(self.control_map.source(), Ok(Some(_)))
    }

    /// Whether any process has pins under a lease: else no call can be a breach.
    pub fn covers_any(&self) -> Result<bool, Error> {
        // In this order: both only grow, so that what is covered now is never overlooked.
        let uncovered = maps::counts(&self.maps.counts)?[Count::Uncovered as usize];
        let covered = maps::counts(&self.maps.counts)?[Count::Covered as usize];
        Ok(covered != uncovered)
    }

    /// The references of one process to leased files.
    pub fn references(&self, tgid: u32, over: Over) -> io::Result<Vec<Reference>> {
        self.walker.references(tgid, over)
    }

    /// What a process has in an inode; nothing if that is over.
    pub fn stake(&self, tgid: u32, inode: u64) -> Result<Option<StakeView>, Error> {
        self.maps.stake(StakeKey::new(tgid, inode))
    }

    /// Waits until pins may be covered otherwise, or gone. Whatever happens after it has returned
    /// wakes the next call.
    pub async fn woken(&self) -> Result<(), Error> {
        let mut ready = self.wake.readable().await.map_err(Error::Wait)?;
        ready.clear_ready();
        ready.get_inner().make_room();
        Ok(())
    }
}
