//! O_DIRECT that is under way: the kernel has the pages of the mapping pinned from when it is begun
//! until the device is done.

use io_uring::{IoUring, opcode, squeue, types};

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Failure, Reply, value};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "direct-begin",
        arguments: "SLOT FD MAP read|write",
        summary: "IORING_OP_READ or IORING_OP_WRITE in a ring of its own; does not wait",
        run: begin,
    },
    Command {
        name: "direct-done",
        arguments: "SLOT",
        summary: "whether that one is over: yes or no",
        run: done,
    },
    Command {
        name: "direct-wait",
        arguments: "SLOT",
        summary: "waits for it; answers with the bytes moved",
        run: wait,
    },
];

type Build = fn(types::Fd, *mut u8, u32) -> squeue::Entry;

fn begin(actor: &mut Actor, arguments: &Arguments) -> Reply {
    const OPERATIONS: &[(&str, Build)] = &[
        ("read", |fd, address, length| {
            opcode::Read::new(fd, address, length).build()
        }),
        ("write", |fd, address, length| {
            opcode::Write::new(fd, address, length).build()
        }),
    ];
    let slot = arguments.word(0);
    actor.flights.free(slot)?;
    let fd = types::Fd(*actor.fds.get(arguments.word(1))?);
    let map = *actor.maps.get(arguments.word(2))?;
    let build = arguments.choice(3, OPERATIONS)?;
    let entry = build(fd, map.address.cast(), map.length as u32);
    let ring = new_ring()?;
    // SAFETY: the range is a mapping in a slot.
    unsafe { submit(actor, slot, ring, &entry) }
}

/// For one request.
pub fn new_ring() -> Result<IoUring, Failure> {
    IoUring::new(1).map_err(|error| Failure::of(&error, "io_uring_setup"))
}

/// Submits the request and puts its ring into a free slot of those that are under way.
///
/// # Safety
/// What it reads or writes is in a mapping in a slot, which no Rust reference points into. Should it be unmapped
/// meanwhile, the kernel still has the pages.
pub unsafe fn submit(
    actor: &mut Actor,
    slot: &str,
    mut ring: IoUring,
    entry: &squeue::Entry,
) -> Reply {
    // SAFETY: the caller guarantees it.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(|error| Failure::of(&std::io::Error::other(error), "io_uring"))?;
    ring.submit()
        .map_err(|error| Failure::of(&error, "io_uring_enter"))?;
    actor.flights.put(slot, ring);
    DONE
}

fn done(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = actor.flights.get_mut(arguments.word(0))?;
    let over = !ring.completion().is_empty();
    Ok(value(if over { "yes" } else { "no" }))
}

fn wait(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    let ring = actor.flights.get_mut(slot)?;
    let moved = loop {
        if let Some(completion) = ring.completion().next() {
            break completion.result();
        }
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(Failure::of(&error, "io_uring_enter"));
            }
            _ => {}
        }
    };
    actor.flights.take(slot)?;
    if moved < 0 {
        return Err(Failure::Kernel {
            errno: -moved,
            operation: "O_DIRECT".to_owned(),
        });
    }
    Ok(value(moved))
}
