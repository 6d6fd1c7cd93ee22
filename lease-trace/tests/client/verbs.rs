//! RDMA: memory regions, the long-term pins that need neither a writable mapping nor a ring.

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply, value};
use crate::sys;

pub use crate::ibverbs::{Device, Region};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "rdma-open",
        arguments: "SLOT [DEVICE]",
        summary: "opens an RDMA device, or the first one, with a protection domain; SLOT is its descriptor, too",
        run: open,
    },
    Command {
        name: "rdma-close",
        arguments: "SLOT",
        summary: "closes it; its memory regions go with it",
        run: close,
    },
    Command {
        name: "reg-mr",
        arguments: "SLOT DEVICE MAP ro|rw [OFFSET] [LEN]",
        summary: "ibv_reg_mr(3): pins the mapping, or a part of it",
        run: register,
    },
    Command {
        name: "rereg-mr",
        arguments: "SLOT MAP [OFFSET] [LEN]",
        summary: "ibv_rereg_mr(3) with IBV_REREG_MR_CHANGE_TRANSLATION: other pages in place of its own",
        run: move_region,
    },
    Command {
        name: "rereg-mr-access",
        arguments: "SLOT ro|rw",
        summary: "ibv_rereg_mr(3) with IBV_REREG_MR_CHANGE_ACCESS: the same pages for other uses",
        run: change_access,
    },
    Command {
        name: "dereg-mr",
        arguments: "SLOT",
        summary: "ibv_dereg_mr(3): drops those pins",
        run: deregister,
    },
];

const ACCESS: &[(&str, bool)] = &[("ro", false), ("rw", true)];

fn open(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.devices.free(slot)?;
    actor.fds.free(slot)?;
    let before = sys::open_devices();
    let device = Device::open(arguments.optional(1))?;
    let name = device.name();
    actor.devices.put(slot, device);
    if let Some(fd) = sys::open_devices().difference(&before).next() {
        actor.fds.put(slot, *fd);
    }
    Ok(value(name))
}

fn close(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.devices.take(slot)?.close()?;
    actor.fds.take(slot)?;
    DONE
}

fn register(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.regions.free(slot)?;
    let writable = arguments.choice(3, ACCESS)?;
    let map = actor.maps.get(arguments.word(2))?.part_of(arguments, 4)?;
    let region = actor
        .devices
        .get(arguments.word(1))?
        .register(&map, writable)?;
    actor.regions.put(slot, region);
    DONE
}

fn move_region(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let map = actor.maps.get(arguments.word(1))?.part_of(arguments, 2)?;
    actor.regions.get(arguments.word(0))?.move_to(&map)?;
    DONE
}

fn change_access(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let writable = arguments.choice(1, ACCESS)?;
    let region = actor.regions.get(arguments.word(0))?;
    region.change_access(writable)?;
    DONE
}

fn deregister(actor: &mut Actor, arguments: &Arguments) -> Reply {
    actor.regions.take(arguments.word(0))?.deregister()?;
    DONE
}
