//! The compiled object: loaded with what this kernel's BTF says.

use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use lease_trace_common::config::Config;

use super::{Options, attach::Link, cast, error::Error, raw::RawObject};
use crate::kernel::{btf, host, offsets};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lease-trace.bpf.o"));

/// The maps that have an entry for each lease, stake or file.
const SIZED: [&str; 7] = [
    "COVERS",
    "FREE_SLOTS",
    "INODES",
    "LEASES",
    "PATHS",
    "SLOT_OF",
    "STAKES",
];

/// The object with its maps made and its programs not yet loaded.
pub struct Object {
    pub ebpf: Ebpf,
    /// The kernel's BTF, as aya wants it.
    pub btf: Btf,
    /// The same, to be asked for prototypes.
    pub types: btf::Btf,
    /// Of the programs that are attached and not pinned.
    pub links: Vec<Link>,
}

impl Object {
    /// The programs that deny; to be read before any map is taken out.
    pub fn denials(&self) -> Result<RawObject, Error> {
        RawObject::new(&cast::complete(OBJECT, &self.types), &self.btf, &self.ebpf)
    }
}

/// What becomes of the programs.
#[derive(Clone, Copy, Default)]
pub struct Purpose {
    /// Walks also enter what they find into the maps.
    pub adopts: bool,
    /// A policy may come into force.
    pub judges: bool,
}

/// Checks what can be checked beforehand, then makes the maps.
pub fn load(options: Options, purpose: Purpose) -> Result<Object, Error> {
    if let Some(obstacle) = host::capabilities() {
        return Err(obstacle.into());
    }
    // Asked beforehand, because in this mode the kernel hides the helpers from some program types
    // and then says EINVAL.
    if host::lockdown().is_some_and(|mode| mode == "confidentiality") {
        return Err(Error::Refused {
            call: "reading kernel memory with bpf(2)".to_owned(),
        });
    }
    let types = host::btf()?;
    if let Some(obstacle) = host::helpers(&types) {
        return Err(obstacle.into());
    }
    let known = offsets::config(&types).map_err(|error| host::Obstacle {
        what: error.to_string(),
        remedy: "this kernel is not supported yet; please report it with its BTF".to_owned(),
        kernel: true,
    })?;
    let config = Config {
        pins_all: u32::from(options.pins_all),
        audit: u32::from(options.audit),
        adopt: u32::from(purpose.adopts),
        policy: u32::from(purpose.judges),
        capacity: options.capacity,
        plain: known.plain & u32::from(!options.audit),
        ..known
    };
    log::debug!("offsets read");
    let btf = Btf::from_sys_fs().map_err(|error| Error::Load(error.to_string()))?;
    log::debug!("BTF parsed");
    let mut loader = EbpfLoader::new();
    for map in SIZED {
        loader.map_max_entries(map, options.capacity);
    }
    let ebpf = loader
        .btf(Some(&btf))
        .override_global("CONFIG", &config, true)
        .load(&cast::complete(OBJECT, &types))?;
    log::debug!("maps made");
    Ok(Object {
        ebpf,
        btf,
        types,
        links: Vec::new(),
    })
}
