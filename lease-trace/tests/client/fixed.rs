//! A request that reads into a registered buffer: the buffer's pins stay until the request is over, though the
//! buffer is taken out of the table before.

use std::os::fd::{AsRawFd, IntoRawFd};

use io_uring::{opcode, types};

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::uring_abi::REGISTER_BUFFERS;
use crate::{direct, sys, table};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "pipe",
        arguments: "READ WRITE",
        summary: "pipe(2)",
        run: pipe,
    },
    Command {
        name: "fixed-begin",
        arguments: "SLOT FD MAP",
        summary: "registers the mapping in a ring of its own, and begins IORING_OP_READ_FIXED of one byte into it",
        run: begin,
    },
    Command {
        name: "fixed-empty",
        arguments: "SLOT",
        summary: "IORING_REGISTER_BUFFERS_UPDATE with nothing: its pins go when the request is over (`direct-wait`)",
        run: empty,
    },
];

fn pipe(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (read, write) = (arguments.word(0), arguments.word(1));
    actor.fds.free(read)?;
    actor.fds.free(write)?;
    let (reader, writer) = sys::pipe()?;
    actor.fds.put(read, reader.into_raw_fd());
    actor.fds.put(write, writer.into_raw_fd());
    DONE
}

fn begin(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.flights.free(slot)?;
    let fd = types::Fd(*actor.fds.get(arguments.word(1))?);
    let map = *actor.maps.get(arguments.word(2))?;
    let ring = direct::new_ring()?;
    let buffer = libc::iovec {
        iov_base: map.address,
        iov_len: map.length,
    };
    let (raw, buffer) = (ring.as_raw_fd(), &raw const buffer);
    sys::io_uring_register(raw, REGISTER_BUFFERS, buffer.cast(), 1)?;
    let entry = opcode::ReadFixed::new(fd, map.address.cast(), 1, 0).build();
    // SAFETY: the byte is of a mapping in a slot.
    unsafe { direct::submit(actor, slot, ring, &entry) }
}

fn empty(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = actor.flights.get_mut(arguments.word(0))?.as_raw_fd();
    table::replace(ring, 0, &table::NOTHING)
}
