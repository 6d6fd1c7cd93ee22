//! What one actor has: its descriptors, mappings, memory regions and children.

use std::os::fd::{OwnedFd, RawFd};

use io_uring::IoUring;

use crate::child::Child;
use crate::crowd::Crowd;
use crate::memory::Mapping;
use crate::slots::Slots;
use crate::storm::Storm;
use crate::sys;
use crate::thread::Thread;
use crate::verbs::{Device, Region};

/// The state behind the slots of one process.
///
/// Descriptors are plain numbers and nothing closes itself: only a command may let go of anything.
pub struct Actor {
    pub fds: Slots<RawFd>,
    pub maps: Slots<Mapping>,
    pub devices: Slots<Device>,
    pub regions: Slots<Region>,
    /// Rings with one request each that is under way.
    pub flights: Slots<IoUring>,
    pub children: Slots<Child>,
    pub crowds: Slots<Crowd>,
    pub storms: Slots<Storm>,
    pub threads: Slots<Thread>,
    /// Where a forked actor gets descriptors from its parent, and sends some back.
    pub parent: Option<OwnedFd>,
}

impl Actor {
    pub fn new() -> Self {
        Self {
            fds: Slots::new("descriptor"),
            maps: Slots::new("mapping"),
            devices: Slots::new("RDMA device"),
            regions: Slots::new("memory region"),
            flights: Slots::new("request"),
            children: Slots::new("child"),
            crowds: Slots::new("crowd"),
            storms: Slots::new("storm"),
            threads: Slots::new("thread"),
            parent: None,
        }
    }

    /// Takes over, after an exec, the descriptors that survived it, given as `NAME=NUMBER`.
    /// Answers with their names.
    pub fn resume(&mut self, slots: &[&str]) -> String {
        let mut names = Vec::new();
        for (name, fd) in slots.iter().filter_map(|slot| slot.split_once('=')) {
            if let Ok(fd) = fd.parse()
                && sys::is_open(fd)
            {
                self.fds.put(name, fd);
                names.push(name);
            }
        }
        names.join(" ")
    }
}
