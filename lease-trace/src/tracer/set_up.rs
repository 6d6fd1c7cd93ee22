//! What a monitor of its own and enforcement begin with alike: maps pinned, programs attached,
//! the leases that exist already adopted.

use std::collections::BTreeSet;

use aya::maps::{Array, MapData};
use lease_trace_common::{control, line::Line};

use super::{
    Options,
    attach::{self, Attachment},
    bpffs,
    denial::Denials,
    error::Error,
    hooks::Hooks,
    in_force::Plan,
    lapsed,
    object::{self, Object, Purpose},
    orphans,
    own_maps::OwnMaps,
    pinned, proof, self_test,
    walk::Walker,
};
use crate::kernel::{clones, limits};

/// Everything in place but a policy.
pub struct SetUp {
    pub object: Object,
    pub directory: pinned::Directory,
    /// What an earlier monitor left behind and this one removed.
    pub recovered: Option<String>,
    pub attachments: Vec<Attachment>,
    pub denials: Option<Denials>,
    pub walker: Walker,
    /// What keeps hooks that are attached from seeing everything, and may change while they are attached.
    pub limits: BTreeSet<String>,
    /// What else keeps them from it.
    blind: Vec<String>,
    /// Why files in bpffs are missing.
    no_files: Vec<String>,
}

impl SetUp {
    /// What this kernel cannot show, with the reason.
    pub fn cannot(&self) -> Vec<String> {
        let losses = self.attachments.iter().filter_map(Attachment::loss);
        let others = self.limits.iter().chain(&self.blind).chain(&self.no_files);
        losses.chain(others.cloned()).collect()
    }
}

/// What on this host keeps hooks that are attached from seeing everything.
pub fn limits(kprobes: bool) -> BTreeSet<String> {
    let off = kprobes.then(limits::kprobes_off).flatten();
    let found = [limits::pid_namespace(), off, limits::live_patches()];
    let found = found.into_iter().flatten();
    found.map(|limit| limit.to_string()).collect()
}

/// What becomes of it when this process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are detached.
    Own,
    /// They are pinned, and stay once the directory is kept.
    Pinned,
}

/// Leases that are set have to be found when `generic_setlease` returns.
fn set_on_return(maps: &mut OwnMaps) -> Result<(), Error> {
    const MAP: &str = control::SET_ON_RETURN;
    let failed = |error| Error::maps("cannot write the map", MAP, error);
    let mut map = Array::<MapData, Line>::try_from(maps.take(MAP)?).map_err(failed)?;
    map.set(0, Line::new(1), 0).map_err(failed)
}

/// On an error nothing new stays attached or pinned. With `plan` a policy comes into force, and the programs that
/// deny are there, too.
pub fn set_up(options: Options, plan: Option<&Plan>, links: Links) -> Result<SetUp, Error> {
    let denies = plan.is_some();
    let purpose = Purpose {
        adopts: true,
        judges: denies,
        // Who takes over what is in place may ask for them.
        tells_of_leases: options.all_events || links == Links::Pinned,
    };
    let mut object = object::load(options, purpose)?;
    let state = match links {
        Links::Own => 0,
        Links::Pinned => control::STARTING,
    };
    let (directory, recovered) = pinned::create(&mut object.maps, state)?;
    let pins = (links == Links::Pinned).then(|| directory.links());
    let mut attachments = attach::attach(&mut object, options.attach, pins.as_deref())?;
    attach::require(&attachments)?;
    let mut judges_unlocked = false;
    let mut judges_returned = 0;
    if denies {
        let judging = attach::attach_unlocked(&mut object, options.attach, pins.as_deref())?;
        judges_unlocked = judging.is_watched();
        attachments.push(judging);
    }
    if plan.is_some_and(|plan| plan.bare_pins) {
        let returned = attach::attach_returned(&mut object, options.attach, pins.as_deref())?;
        let watched = (0..).zip(&returned).filter(|(_, call)| call.is_watched());
        judges_returned = watched.map(|(bit, _)| 1_u64 << bit).sum();
        attachments.extend(returned);
    }
    let kprobes = attachments.iter().any(Attachment::is_kprobe);
    pinned::set_words(&[
        (control::KPROBES, u64::from(kprobes)),
        (control::JUDGES_UNLOCKED, u64::from(judges_unlocked)),
        (control::JUDGES_RETURNED, judges_returned),
    ])?;
    if !attach::is_exact(&attachments, "lease_setup", object.host.preemption) {
        set_on_return(&mut object.maps)?;
    }
    let walker = adopt(&object, &directory)?;
    let limits = limits(kprobes);
    let blind = clones::find().into_iter().chain(self_test::run()?);
    let blind = blind.collect();
    log::debug!("tested");
    // From here on: the test is nobody's business.
    pinned::set_words(&[(control::ALL_EVENTS, u64::from(options.all_events))])?;
    let mut no_files = bpffs::make(&object, directory.path(), options.files);
    no_files.extend(proof::make(&object, &directory));
    no_files.extend(lapsed::make(&object, &directory));
    if denies {
        no_files.extend(orphans::make(&object, &directory));
    }
    log::debug!("files made");
    let denials = denies.then(|| Denials::attach(&object));
    if let (Some(denials), Some(pins)) = (&denials, &pins) {
        denials
            .pin(pins)
            .map_err(|error| Error::maps("cannot pin into", pins.display().to_string(), error))?;
    }
    if links == Links::Pinned {
        Hooks::pin(&object, denials.as_ref(), &directory.programs())?;
    }
    Ok(SetUp {
        object,
        directory,
        recovered,
        attachments,
        denials,
        walker,
        limits,
        blind,
        no_files,
    })
}

/// Adopts the leases that exist already, and pins the programs that walk for those who come later.
fn adopt(object: &Object, directory: &pinned::Directory) -> Result<Walker, Error> {
    let walker = Walker::load(object)?;
    log::debug!("iterators loaded");
    walker.all()?;
    log::debug!("leases adopted");
    pinned::set_words(&[(control::ADOPTED, 1)])?;
    walker.pin(directory.path())?;
    Ok(walker)
}
