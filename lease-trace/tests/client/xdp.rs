//! AF_XDP: the memory of a socket's frames (its umem), pinned when it is registered and dropped
//! with the socket. No network interface is needed for that.

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::sys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "xdp-socket",
        arguments: "SLOT",
        summary: "socket(2) of AF_XDP; a descriptor like any other",
        run: socket,
    },
    Command {
        name: "xdp-umem",
        arguments: "SOCKET MAP",
        summary: "XDP_UMEM_REG: pins the mapping until the socket goes",
        run: register,
    },
];

/// `struct xdp_umem_reg` of linux/if_xdp.h, as far as every kernel has it.
#[repr(C)]
pub struct UmemReg {
    address: u64,
    length: u64,
    chunk_size: u32,
    headroom: u32,
    flags: u32,
    padding: u32,
}

const _: () = assert!(size_of::<UmemReg>() == 32);

const CHUNK: u32 = 4096;

fn socket(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.fds.free(slot)?;
    actor.fds.put(slot, sys::xdp_socket()?);
    DONE
}

fn register(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let socket = *actor.fds.get(arguments.word(0))?;
    let map = *actor.maps.get(arguments.word(1))?;
    let umem = UmemReg {
        address: map.address as u64,
        length: map.length as u64,
        chunk_size: CHUNK,
        headroom: 0,
        flags: 0,
        padding: 0,
    };
    sys::register_umem(socket, &umem)?;
    DONE
}
