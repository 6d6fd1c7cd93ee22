//! io_uring's table of registered buffers: made empty, then filled, replaced and emptied entry by
//! entry, where `register-buffers` makes one with a single entry at once.

use std::os::fd::RawFd;
use std::ptr;

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::sys;
use crate::uring_abi::{
    REGISTER_BUFFERS_UPDATE, REGISTER_BUFFERS2, RSRC_REGISTER_SPARSE, RsrcRegister, RsrcUpdate2,
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "sparse-buffers",
        arguments: "RING ENTRIES",
        summary: "IORING_REGISTER_BUFFERS2 with IORING_RSRC_REGISTER_SPARSE: a table that pins nothing",
        run: sparse,
    },
    Command {
        name: "update-buffer",
        arguments: "RING ENTRY MAP [OFFSET] [LEN]",
        summary: "IORING_REGISTER_BUFFERS_UPDATE: pins the mapping, or a part of it, as that entry",
        run: update,
    },
    Command {
        name: "empty-buffer",
        arguments: "RING ENTRY",
        summary: "the same with nothing: drops the entry's pins",
        run: empty,
    },
];

fn sparse(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    let request = RsrcRegister {
        nr: arguments.number(1)?,
        flags: RSRC_REGISTER_SPARSE,
        ..RsrcRegister::default()
    };
    sys::io_uring_register(
        ring,
        REGISTER_BUFFERS2,
        (&raw const request).cast(),
        size_of::<RsrcRegister>() as u32,
    )?;
    DONE
}

fn update(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let part = actor.maps.get(arguments.word(2))?.part_of(arguments, 3)?;
    let buffer = libc::iovec {
        iov_base: part.address,
        iov_len: part.length,
    };
    replace_by(actor, arguments, &buffer)
}

fn empty(actor: &mut Actor, arguments: &Arguments) -> Reply {
    replace_by(actor, arguments, &NOTHING)
}

fn replace_by(actor: &Actor, arguments: &Arguments, buffer: &libc::iovec) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    replace(ring, arguments.number(1)?, buffer)
}

/// In the place of a buffer: the entry is empty then.
pub const NOTHING: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// Puts this buffer in the place of what an entry has.
pub fn replace(ring: RawFd, entry: u32, buffer: &libc::iovec) -> Reply {
    let request = RsrcUpdate2 {
        offset: entry,
        data: ptr::from_ref(buffer) as u64,
        nr: 1,
        ..RsrcUpdate2::default()
    };
    sys::io_uring_register(
        ring,
        REGISTER_BUFFERS_UPDATE,
        (&raw const request).cast(),
        size_of::<RsrcUpdate2>() as u32,
    )?;
    DONE
}
