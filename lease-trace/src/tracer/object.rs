//! The compiled object: loaded with what this kernel's BTF says.

use aya::include_bytes_aligned;
use lease_trace_common::config::Config;

use super::{
    Options, cast,
    error::Error,
    kinds::Host,
    own_maps::OwnMaps,
    raw::{Link, RawObject},
};
use crate::kernel::{btf, host, offsets};

pub(super) static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lease-trace.bpf.o"));

/// The object with its maps made and its programs not yet loaded.
pub struct Object {
    pub maps: OwnMaps,
    /// The programs.
    pub raw: RawObject,
    /// The kernel's BTF.
    pub types: btf::Btf,
    /// What the kinds of hooks depend on.
    pub host: Host,
    /// Of the programs that are attached.
    pub links: Vec<Link>,
}

/// What becomes of the programs.
#[derive(Clone, Copy, Default)]
pub struct Purpose {
    /// Walks also enter what they find into the maps.
    pub adopts: bool,
    /// A policy may come into force.
    pub judges: bool,
    /// Somebody may ask for leases that are set and end.
    pub tells_of_leases: bool,
}

/// The kernel's types, and what programs of any object are told of them; checked beforehand is what can be.
pub fn ask_kernel() -> Result<(btf::Btf, Config), Error> {
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
    log::debug!("offsets read");
    Ok((types, known))
}

/// Asks the kernel, then makes the maps.
pub fn load(options: Options, purpose: Purpose) -> Result<Object, Error> {
    let (types, known) = ask_kernel()?;
    let hooks = Host::ask(&types);
    log::debug!("{hooks:?}");
    let config = Config {
        pins_all: u32::from(options.pins_all),
        cross_check: u32::from(options.cross_check),
        adopt: u32::from(purpose.adopts),
        policy: u32::from(purpose.judges),
        tells_of_leases: u32::from(purpose.tells_of_leases),
        mixed: u32::from(hooks.mixes(options.attach)),
        capacity: options.capacity,
        slot_mask: options.capacity.next_power_of_two() - 1,
        plain: known.plain & u32::from(!options.cross_check),
        ..known
    };
    let mut object = aya_obj::Object::parse(&cast::complete(OBJECT, &types))
        .map_err(|error| Error::Load(error.to_string()))?;
    let maps = OwnMaps::make(&mut object, &config, options.capacity)?;
    log::debug!("maps made");
    Ok(Object {
        raw: RawObject::new(object, &maps, purpose)?,
        maps,
        types,
        host: hooks,
        links: Vec::new(),
    })
}
