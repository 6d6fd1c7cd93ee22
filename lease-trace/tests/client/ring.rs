//! io_uring: registered buffers, which are long-term pins, and registered files, which keep an open
//! file description alive. Nothing is submitted to these, so they are never mapped; `uring-close`
//! makes a ring for itself.

use std::{io, ptr};

use io_uring::{IoUring, opcode, squeue, types};

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Failure, Reply, value};
use crate::sys;
use crate::uring_abi::{
    CloneBuffers, REGISTER_BUFFERS, REGISTER_CLONE_BUFFERS, REGISTER_FILES, REGISTER_RING_FDS,
    RingUpdate, UNREGISTER_BUFFERS, UNREGISTER_FILES, USE_REGISTERED_RING,
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
        name: "register-files-pages",
        arguments: "RING COUNT DIRECTORY",
        summary: "IORING_REGISTER_BUFFERS of a page each of so many new files in a directory",
        run: register_pages_of_files,
    },
    Command {
        name: "register-ring",
        arguments: "RING",
        summary: "IORING_REGISTER_RING_FDS; answers with the ring's place among the registered ones",
        run: register_ring,
    },
    Command {
        name: "register-buffers-at",
        arguments: "PLACE MAP",
        summary: "IORING_REGISTER_BUFFERS of a registered ring: no descriptor is named",
        run: register_buffers_at,
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
    Command {
        name: "uring-close",
        arguments: "SLOT caller|worker",
        summary: "IORING_OP_CLOSE in a ring of its own, done by the caller or a worker thread",
        run: close,
    },
];

fn setup(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.fds.free(slot)?;
    actor.fds.put(slot, sys::io_uring_setup(4)?);
    DONE
}

fn register_pages_of_files(actor: &mut Actor, arguments: &Arguments) -> Reply {
    const PAGE: usize = 4096;
    let ring = *actor.fds.get(arguments.word(0))?;
    let (count, directory): (u32, _) = (arguments.number(1)?, arguments.word(2));
    let page = |number: u32| {
        let fd = sys::open(
            &format!("{directory}/{number}"),
            libc::O_RDWR | libc::O_CREAT,
        )?;
        sys::truncate(fd, PAGE)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let address = sys::mmap(PAGE, protection, libc::MAP_SHARED, fd)?;
        sys::close(fd)?;
        Ok(libc::iovec {
            iov_base: address,
            iov_len: PAGE,
        })
    };
    let buffers = (0..count).map(page).collect::<Result<Vec<_>, Failure>>()?;
    sys::io_uring_register(ring, REGISTER_BUFFERS, buffers.as_ptr().cast(), count)?;
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

fn register_ring(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    let mut update = RingUpdate {
        offset: u32::MAX,
        resv: 0,
        data: u64::from(ring.cast_unsigned()),
    };
    let update = &raw mut update;
    sys::io_uring_register(ring, REGISTER_RING_FDS, update.cast(), 1)?;
    // SAFETY: the local that the kernel has written to; nobody else refers to it.
    Ok(value(unsafe { (*update).offset }))
}

fn register_buffers_at(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let place = arguments.number(0)?;
    let map = *actor.maps.get(arguments.word(1))?;
    let buffer = libc::iovec {
        iov_base: map.address,
        iov_len: map.length,
    };
    let what = REGISTER_BUFFERS | USE_REGISTERED_RING;
    sys::io_uring_register(place, what, (&raw const buffer).cast(), 1)?;
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

fn close(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    let fd = types::Fd(*actor.fds.get(slot)?);
    let by = [
        ("caller", squeue::Flags::empty()),
        ("worker", squeue::Flags::ASYNC),
    ];
    let entry = opcode::Close::new(fd)
        .build()
        .flags(arguments.choice(1, &by)?);
    let returned = submit(&entry).map_err(|error| Failure::of(&error, "io_uring_enter"))?;
    if returned < 0 {
        return Err(Failure::Kernel {
            errno: -returned,
            operation: "IORING_OP_CLOSE".to_owned(),
        });
    }
    actor.fds.take(slot)?;
    DONE
}

/// Submits one entry and waits for what it returns, through stops and signals.
fn submit(entry: &squeue::Entry) -> io::Result<i32> {
    let mut ring = IoUring::new(1)?;
    // SAFETY: the entry refers to a descriptor by its number, and to no memory.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    loop {
        if let Some(completion) = ring.completion().next() {
            return Ok(completion.result());
        }
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}
