//! The records of inodes: a map of one value with all slots, so that the programs look nothing up. Reading it as a value
//! would copy all of it, so the pages that are read are mapped.

use std::{
    io,
    os::fd::AsFd as _,
    ptr::{NonNull, null_mut},
};

use aya::maps::{Map, MapData, MapError};
use lease_trace_common::stake::InodeSlot;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A page has so many slots.
const IN_PAGE: usize = PAGE / size_of::<InodeSlot>();
const PAGE: usize = 4096;

/// The map.
pub struct Inodes {
    map: MapData,
    /// More than what `--capacity` lets be used, where that is no power of two.
    slots: u32,
}

impl Inodes {
    /// Reads how many slots it has.
    pub fn of(map: Map) -> Result<Self, MapError> {
        let Map::Array(map) = map else {
            return Err(MapError::InvalidMapType { map_type: 0 });
        };
        let slots = map.info()?.value_size() / size_of::<InodeSlot>() as u32;
        Ok(Self { map, slots })
    }

    /// What a slot has now; nothing if there is none of that number. The programs go on writing to it: its words may be
    /// of different moments.
    pub fn get(&self, slot: u32) -> io::Result<Option<InodeSlot>> {
        if slot >= self.slots {
            return Ok(None);
        }
        let slot = slot as usize;
        let mapping = self.mapped(slot / IN_PAGE * PAGE, PAGE)?;
        Ok(Some(mapping.slot(slot % IN_PAGE)))
    }

    /// All slots, as [`Self::get`] has them.
    pub fn all(&self) -> io::Result<Vec<(u32, InodeSlot)>> {
        let mapping = self.mapped(0, self.slots as usize * size_of::<InodeSlot>())?;
        Ok((0..self.slots)
            .map(|slot| (slot, mapping.slot(slot as usize)))
            .collect())
    }

    fn mapped(&self, offset: usize, len: usize) -> io::Result<Mapping> {
        let fd = self.map.fd().as_fd();
        // SAFETY: the kernel chooses where: nothing of this process is replaced.
        let start = unsafe {
            mmap(
                null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                fd,
                offset as u64,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, len })
    }
}

/// A part of the map that begins with a slot; unmapped when dropped.
struct Mapping {
    start: NonNull<InodeSlot>,
    /// In bytes.
    len: usize,
}

impl Mapping {
    fn slot(&self, index: usize) -> InodeSlot {
        assert!(
            index < self.len / size_of::<InodeSlot>(),
            "a slot that is mapped"
        );
        // SAFETY: it is mapped, asserted above, and made of integers, for which each value is one. The programs write
        // meanwhile, word by word: so it is read once.
        unsafe { self.start.add(index).read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this, and no reference into it is left: slots are copied.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

const _: () = assert!(PAGE.is_multiple_of(size_of::<InodeSlot>()));
