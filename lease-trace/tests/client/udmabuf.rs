//! udmabuf: a memfd's pages as a dma-buf, pinned for as long as that descriptor is open.

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::sys;

pub const COMMANDS: &[Command] = &[Command {
    name: "udmabuf",
    arguments: "SLOT MEMFD OFFSET LEN",
    summary: "UDMABUF_CREATE: pins that part of a memfd that was sealed against shrinking",
    run: create,
}];

/// `struct udmabuf_create` of linux/udmabuf.h.
#[repr(C)]
pub struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

fn create(actor: &mut Actor, arguments: &Arguments) -> Reply {
    const CLOEXEC: u32 = 1;
    let slot = arguments.word(0);
    actor.fds.free(slot)?;
    let request = Create {
        memfd: actor.fds.get(arguments.word(1))?.cast_unsigned(),
        flags: CLOEXEC,
        offset: arguments.length(2)? as u64,
        size: arguments.length(3)? as u64,
    };
    // The maker is of no more use once there is a buffer.
    let maker = sys::open("/dev/udmabuf", libc::O_RDWR | libc::O_CLOEXEC)?;
    let made = sys::udmabuf_create(maker, &request);
    sys::close(maker)?;
    actor.fds.put(slot, made?);
    DONE
}
