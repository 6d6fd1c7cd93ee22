//! userfaultfd: whoever touches a page that is not there waits until the descriptor is closed.

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::sys;

pub const COMMANDS: &[Command] = &[Command {
    name: "uffd",
    arguments: "SLOT MAP",
    summary: "userfaultfd(2) for the missing pages of the mapping: who needs one waits for the close of SLOT",
    run: watch,
}];

/// `struct uffdio_api` of linux/userfaultfd.h.
#[repr(C)]
pub struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

impl Api {
    pub const fn new() -> Self {
        /// `UFFD_API`
        const API: u64 = 0xaa;
        Self {
            version: API,
            features: 0,
            ioctls: 0,
        }
    }
}

/// `struct uffdio_register`.
#[repr(C)]
pub struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

fn watch(actor: &mut Actor, arguments: &Arguments) -> Reply {
    /// `UFFDIO_REGISTER_MODE_MISSING`
    const MISSING: u64 = 1;
    let slot = arguments.word(0);
    actor.fds.free(slot)?;
    let mapping = *actor.maps.get(arguments.word(1))?;
    let descriptor = sys::userfaultfd()?;
    actor.fds.put(slot, descriptor);
    let mut register = Register {
        start: mapping.address.addr() as u64,
        len: mapping.length as u64,
        mode: MISSING,
        ioctls: 0,
    };
    sys::uffd_register(descriptor, &mut Api::new(), &mut register)?;
    DONE
}
