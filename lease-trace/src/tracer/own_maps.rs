//! The maps of the object, made in the kernel. aya could load the object as a whole, but reads all of the kernel's
//! types for that, and relocates and loads what is relocated and loaded here once more (raw.rs).

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{Map, MapData},
};
use aya_obj::{EbpfSectionKind, Object, generated::BPF_F_MMAPABLE};
use lease_trace_common::{config::Config, stake::InodeSlot};

use super::{error::Error, logs};
use crate::kernel::globals;

/// The maps that have an entry for each lease, stake or file.
const SIZED: [&str; 6] = [
    "COVERS",
    "FREE_SLOTS",
    "LEASES",
    "PATHS",
    "SLOT_OF",
    "STAKES",
];

/// Maps by name; those of globals are named after their section.
pub struct OwnMaps(HashMap<String, Map>);

impl OwnMaps {
    /// Makes all that the object has; `config` is what its programs find in the global of that name, and
    /// `capacity` the room for leases, stakes and files.
    pub fn make(object: &mut Object, config: &Config, capacity: u32) -> Result<Self, Error> {
        let config = [("CONFIG", bytes_of(config))];
        Self::make_with(object, config, capacity)
    }

    /// The same with what more the object's globals are to have, by name.
    pub fn make_with<'a>(
        object: &mut Object,
        globals: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        capacity: u32,
    ) -> Result<Self, Error> {
        let globals = globals.into_iter();
        object
            .patch_map_data(globals.map(|(name, bytes)| (name, (bytes, true))).collect())
            .map_err(|error| Error::Load(error.to_string()))?;
        let made = object.maps.iter().map(|(name, defined)| {
            let mut defined = defined.clone();
            if SIZED.contains(&name.as_str()) {
                defined.set_max_entries(capacity);
            } else if name == InodeSlot::MAP {
                // As many as the programs' mask lets through.
                let slots = capacity.next_power_of_two();
                defined.set_value_size(size_of::<InodeSlot>() as u32 * slots);
            } else if name == logs::MAP {
                defined.set_max_entries(logs::RING);
            }
            Ok((name.clone(), make(name, defined)?))
        });
        made.collect::<Result<_, Error>>().map(Self)
    }

    /// Takes a map out.
    pub fn take(&mut self, name: &str) -> Result<Map, Error> {
        self.0.remove(name).ok_or_else(|| missing(name))
    }

    pub fn get_mut(&mut self, name: &str) -> Result<&mut Map, Error> {
        self.0.get_mut(name).ok_or_else(|| missing(name))
    }

    /// A descriptor of a map.
    pub fn descriptor(&self, name: &str) -> Result<OwnedFd, Error> {
        let map = self.0.get(name).ok_or_else(|| missing(name))?;
        let bad = |reason: &str| Error::maps("cannot share the map", name, reason);
        let (Map::Array(map)
        | Map::HashMap(map)
        | Map::LruHashMap(map)
        | Map::Queue(map)
        | Map::RingBuf(map)) = map
        else {
            return Err(bad("its type is not one of those expected"));
        };
        map.fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| bad(&error.to_string()))
    }
}

fn make(name: &str, mut defined: aya_obj::Map) -> Result<Map, Error> {
    // The value of such a map begins with a page, so that cache lines are where the object has them.
    if let (EbpfSectionKind::Bss, aya_obj::Map::Legacy(map)) =
        (defined.section_kind(), &mut defined)
    {
        map.def.map_flags |= BPF_F_MMAPABLE;
    }
    let (section, kind) = (defined.data().to_vec(), defined.section_kind());
    let map = MapData::create(defined, name, None)?;
    // A new map is zeroes.
    if section.iter().any(|byte| *byte != 0) {
        // SAFETY: the map was made for values as long as the section.
        unsafe { globals::fill(map.fd().as_fd(), &section) }
            .map_err(|error| Error::maps("cannot fill the map", name, error))?;
    }
    if kind == EbpfSectionKind::Rodata {
        globals::freeze(map.fd().as_fd())
            .map_err(|error| Error::maps("cannot freeze the map", name, error))?;
    }
    Map::from_map_data(map).map_err(|error| Error::maps("cannot use the map", name, error))
}

fn missing(name: &str) -> Error {
    Error::maps(
        "cannot find the map",
        name,
        "it is not in the object, or was taken out",
    )
}

/// What programs are told, as bytes.
pub fn bytes_of<T: Pod>(told: &T) -> &[u8] {
    // SAFETY: a `Pod` of ours is made of integers, without padding (asserted on the type): all its bytes are there.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(told).cast(), size_of::<T>()) }
}
