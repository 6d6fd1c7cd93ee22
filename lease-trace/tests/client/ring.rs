//! io_uring: registered buffers, which are long-term pins, and registered files, which keep an open
//! file description alive. Nothing is ever submitted, so the ring itself is never mapped.

use std::ptr;

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::sys;
use crate::uring_abi::{
    CloneBuffers, REGISTER_BUFFERS, REGISTER_CLONE_BUFFERS, REGISTER_FILES, UNREGISTER_BUFFERS,
    UNREGISTER_FILES,
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "uring",
        arguments: "SLOT",
        summary: "io_uring_setup(2); the ring is a descriptor like any other, with CLOEXEC",
        run: setup,
    },
    Command {
        name: "register-buffers",
        arguments: "RING MAP [OFFSET] [LEN]",
        summary: "IORING_REGISTER_BUFFERS: pins the mapping, or a part of it",
        run: register_buffers,
    },
    Command {
        name: "unregister-buffers",
        arguments: "RING",
        summary: "IORING_UNREGISTER_BUFFERS: drops those pins",
        run: unregister_buffers,
    },
    Command {
        name: "clone-buffers",
        arguments: "RING FROM",
        summary: "IORING_REGISTER_CLONE_BUFFERS: shares another ring's pins",
        run: clone_buffers,
    },
    Command {
        name: "register-files",
        arguments: "RING FD",
        summary: "IORING_REGISTER_FILES: the ring keeps the file open",
        run: register_files,
    },
    Command {
        name: "unregister-files",
        arguments: "RING",
        summary: "IORING_UNREGISTER_FILES",
        run: unregister_files,
    },
];

fn setup(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.fds.free(slot)?;
    actor.fds.put(slot, sys::io_uring_setup(4)?);
    DONE
}

fn register_buffers(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    let map = actor.maps.get(arguments.word(1))?.part_of(arguments, 2)?;
    let buffer = libc::iovec {
        iov_base: map.address,
        iov_len: map.length,
    };
    sys::io_uring_register(ring, REGISTER_BUFFERS, (&raw const buffer).cast(), 1)?;
    DONE
}

fn unregister_buffers(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    sys::io_uring_register(ring, UNREGISTER_BUFFERS, ptr::null(), 0)?;
    DONE
}

fn clone_buffers(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (ring, from) = (
        *actor.fds.get(arguments.word(0))?,
        *actor.fds.get(arguments.word(1))?,
    );
    let request = CloneBuffers {
        src_fd: from.cast_unsigned(),
        ..CloneBuffers::default()
    };
    sys::io_uring_register(ring, REGISTER_CLONE_BUFFERS, (&raw const request).cast(), 1)?;
    DONE
}

fn register_files(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (ring, fd) = (
        *actor.fds.get(arguments.word(0))?,
        *actor.fds.get(arguments.word(1))?,
    );
    sys::io_uring_register(ring, REGISTER_FILES, (&raw const fd).cast(), 1)?;
    DONE
}

fn unregister_files(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    sys::io_uring_register(ring, UNREGISTER_FILES, ptr::null(), 0)?;
    DONE
}
