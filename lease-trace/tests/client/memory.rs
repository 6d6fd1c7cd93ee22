//! Mappings: made, touched, moved, dropped, and read into by others.

use std::ptr;

use libc::c_int;

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Failure, Reply, usage, value};
use crate::sys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "mmap",
        arguments: "SLOT FD LEN shared|private ro|rw",
        summary: "mmap(2) of an open file, from its start",
        run: map_file,
    },
    Command {
        name: "mmap-anon",
        arguments: "SLOT LEN shared|private",
        summary: "mmap(2) with MAP_ANONYMOUS, readable and writable",
        run: map_anonymous,
    },
    Command {
        name: "touch",
        arguments: "MAP",
        summary: "writes one byte in each page, or reads it where the mapping is read-only",
        run: touch,
    },
    Command {
        name: "mremap",
        arguments: "MAP LEN",
        summary: "mremap(2), free to move; less than before drops the tail",
        run: remap,
    },
    Command {
        name: "mmap-over",
        arguments: "MAP OFFSET FD LEN shared|private ro|rw",
        summary: "mmap(2) with MAP_FIXED: another file in place of a part of the mapping",
        run: map_over,
    },
    Command {
        name: "mmap-pages",
        arguments: "MAP FD",
        summary: "mmap(2) with MAP_FIXED of the file's first page in place of each page of the mapping",
        run: map_pages,
    },
    Command {
        name: "mremap-over",
        arguments: "MAP OTHER",
        summary: "mremap(2) with MREMAP_FIXED: moved to where OTHER is, which goes",
        run: remap_over,
    },
    Command {
        name: "munmap",
        arguments: "MAP",
        summary: "munmap(2) of all of it",
        run: unmap,
    },
    Command {
        name: "direct-read",
        arguments: "FD MAP",
        summary: "pread(2) into the mapping; with an O_DIRECT descriptor its pages are pinned meanwhile",
        run: direct_read,
    },
    Command {
        name: "vm-read",
        arguments: "MAP",
        summary: "process_vm_readv(2) of the mapping: its pages are pinned meanwhile",
        run: vm_read,
    },
];

const PAGE: usize = 4096;

const SHARING: &[(&str, c_int)] = &[("shared", libc::MAP_SHARED), ("private", libc::MAP_PRIVATE)];
const ACCESS: &[(&str, c_int)] = &[
    ("ro", libc::PROT_READ),
    ("rw", libc::PROT_READ | libc::PROT_WRITE),
];

/// One mapping of this process.
#[derive(Clone, Copy)]
pub struct Mapping {
    pub address: *mut libc::c_void,
    pub length: usize,
    pub protection: c_int,
}

// SAFETY: the address is a number handed to system calls, or touched page by page through volatile
// accesses; a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// A part of the mapping, for those who want less than all of it.
    fn part(&self, offset: usize, length: usize) -> Result<Self, Failure> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => {
                let address = self.address.wrapping_byte_add(offset);
                Ok(Self {
                    address,
                    length,
                    ..*self
                })
            }
            _ => usage(format!("the mapping ends at {}", self.length)),
        }
    }

    /// The part that `[OFFSET] [LEN]` from that word on ask for: without them all of it.
    pub fn part_of(&self, arguments: &Arguments, word: usize) -> Result<Self, Failure> {
        let given = |word| arguments.optional(word).map(|_| arguments.length(word));
        let offset = given(word).unwrap_or(Ok(0))?;
        let rest = self.length - offset.min(self.length);
        self.part(offset, given(word + 1).unwrap_or(Ok(rest))?)
    }
}

fn map_file(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, fd) = (arguments.word(0), *actor.fds.get(arguments.word(1))?);
    actor.maps.free(slot)?;
    let (length, sharing) = (arguments.length(2)?, arguments.choice(3, SHARING)?);
    let protection = arguments.choice(4, ACCESS)?;
    let address = sys::mmap(length, protection, sharing, fd)?;
    actor.maps.put(
        slot,
        Mapping {
            address,
            length,
            protection,
        },
    );
    DONE
}

fn map_anonymous(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, length) = (arguments.word(0), arguments.length(1)?);
    actor.maps.free(slot)?;
    let sharing = arguments.choice(2, SHARING)? | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let address = sys::mmap(length, protection, sharing, -1)?;
    actor.maps.put(
        slot,
        Mapping {
            address,
            length,
            protection,
        },
    );
    DONE
}

fn touch(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let map = *actor.maps.get(arguments.word(0))?;
    let writable = map.protection & libc::PROT_WRITE != 0;
    for offset in (0..map.length).step_by(PAGE) {
        let byte = map.address.wrapping_byte_add(offset).cast::<u8>();
        // SAFETY: `offset` is inside a mapping that this process made with this protection and that
        // only `munmap` and `mremap` change, which update the slot. Behind the end of a truncated
        // file the access raises SIGBUS, as it would in any program: that is what was asked for.
        unsafe {
            if writable {
                ptr::write_volatile(byte, 1);
            } else {
                ptr::read_volatile(byte);
            }
        }
    }
    Ok(value(map.length.div_ceil(PAGE)))
}

fn remap(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let length = arguments.length(1)?;
    let map = actor.maps.get_mut(arguments.word(0))?;
    map.address = sys::mremap(map.address, map.length, length)?;
    map.length = length;
    DONE
}

fn map_over(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(2))?;
    let (offset, length) = (arguments.length(1)?, arguments.length(3)?);
    let place = actor.maps.get(arguments.word(0))?.part(offset, length)?;
    let (sharing, protection) = (arguments.choice(4, SHARING)?, arguments.choice(5, ACCESS)?);
    sys::mmap_fixed(place.address, length, protection, sharing, fd)?;
    DONE
}

fn map_pages(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let map = *actor.maps.get(arguments.word(0))?;
    let fd = *actor.fds.get(arguments.word(1))?;
    for offset in (0..map.length).step_by(PAGE) {
        let page = map.part(offset, PAGE)?;
        sys::mmap_fixed(page.address, PAGE, map.protection, libc::MAP_SHARED, fd)?;
    }
    DONE
}

fn remap_over(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, other) = (arguments.word(0), arguments.word(1));
    let (map, place) = (*actor.maps.get(slot)?, *actor.maps.get(other)?);
    let address = sys::mremap_fixed(map.address, map.length, place.address)?;
    actor.maps.take(other)?;
    actor.maps.put(slot, Mapping { address, ..map });
    DONE
}

fn unmap(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    let map = *actor.maps.get(slot)?;
    sys::munmap(map.address, map.length)?;
    actor.maps.take(slot)?;
    DONE
}

fn direct_read(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (fd, map) = (
        *actor.fds.get(arguments.word(0))?,
        *actor.maps.get(arguments.word(1))?,
    );
    Ok(value(sys::pread(fd, map.address, map.length)?))
}

fn vm_read(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let map = *actor.maps.get(arguments.word(0))?;
    Ok(value(sys::vm_read(map.address, map.length)?))
}
