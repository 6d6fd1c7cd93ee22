//! VFIO: memory that a device may reach through the IOMMU, pinned for as long as it is mapped
//! there. The device itself is left alone.

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply};
use crate::sys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "vfio-attach",
        arguments: "CONTAINER GROUP",
        summary: "VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU (type 1) of two open descriptors",
        run: attach,
    },
    Command {
        name: "vfio-map",
        arguments: "CONTAINER IOVA MAP ro|rw [OFFSET] [LEN]",
        summary: "VFIO_IOMMU_MAP_DMA: pins the mapping, or a part of it, for devices to reach at IOVA",
        run: map,
    },
    Command {
        name: "vfio-unmap",
        arguments: "CONTAINER IOVA LEN",
        summary: "VFIO_IOMMU_UNMAP_DMA: drops those pins",
        run: unmap,
    },
];

const READ: u32 = 1;
const WRITE: u32 = 2;

/// `struct vfio_iommu_type1_dma_map` of linux/vfio.h.
#[repr(C)]
pub struct Map {
    size_of_this: u32,
    flags: u32,
    address: u64,
    iova: u64,
    length: u64,
}

/// `struct vfio_iommu_type1_dma_unmap`, without the data that flags may ask for.
#[repr(C)]
pub struct Unmap {
    size_of_this: u32,
    flags: u32,
    iova: u64,
    length: u64,
}

const _: () = assert!(size_of::<Map>() == 32 && size_of::<Unmap>() == 24);

fn attach(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let container = *actor.fds.get(arguments.word(0))?;
    let group = *actor.fds.get(arguments.word(1))?;
    sys::vfio_set_container(group, container)?;
    sys::vfio_set_iommu(container)?;
    DONE
}

fn map(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let container = *actor.fds.get(arguments.word(0))?;
    let memory = actor.maps.get(arguments.word(2))?.part_of(arguments, 4)?;
    let request = Map {
        size_of_this: size_of::<Map>() as u32,
        flags: arguments.choice(3, &[("ro", READ), ("rw", READ | WRITE)])?,
        address: memory.address as u64,
        iova: arguments.length(1)? as u64,
        length: memory.length as u64,
    };
    sys::vfio_map(container, &request)?;
    DONE
}

fn unmap(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let container = *actor.fds.get(arguments.word(0))?;
    let mut request = Unmap {
        size_of_this: size_of::<Unmap>() as u32,
        flags: 0,
        iova: arguments.length(1)? as u64,
        length: arguments.length(2)? as u64,
    };
    sys::vfio_unmap(container, &mut request)?;
    DONE
}
