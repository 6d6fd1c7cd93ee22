//! The programs in place, and how often their hooks were missed, as the kernel counts it. A
//! program runs once at a time on a CPU: a trampoline's leaves out what another task calls while its own
//! is preempted inside, a kprobe's what an interrupt calls in the middle of any kprobe. And a return
//! is left out for which there was no instance when its call began.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use super::{denial::Denials, error::Error, object::Object, pinned, raw::Link};
use crate::kernel::{
    bpf,
    btf::Btf,
    link::{self, Tells},
};

/// Programs in place.
pub struct Hooks {
    hooks: Vec<Hook>,
    tells: Tells,
}

struct Hook {
    /// Of the link.
    name: String,
    program: OwnedFd,
    /// What keeps it attached.
    link: OwnedFd,
    /// How often it was missed when last asked; `None`: the kernel did not tell all of it.
    missed: Option<u64>,
}

impl Hooks {
    /// Those of this process.
    pub fn own(object: &Object, denials: Option<&Denials>) -> Result<Self, Error> {
        let hooks = links(object, denials).map(|link| {
            let (name, program) = link.program();
            Ok((
                name.to_owned(),
                program.try_clone_to_owned()?,
                link.attached().try_clone_to_owned()?,
            ))
        });
        Self::of(hooks, Tells::of(&object.types))
    }

    /// Those of the enforcement in place.
    pub fn in_place() -> Result<Self, Error> {
        let tells = Tells::of(&Btf::of_kernel().map_err(failed)?);
        let hooks = pinned::programs().into_iter().map(|program| {
            let link = bpf::open(&program.link)?;
            Ok((program.name, bpf::open(&program.program)?, link))
        });
        Self::of(hooks, tells)
    }

    /// Pins those of this process in a directory, for [`Self::in_place`].
    pub fn pin(object: &Object, denials: Option<&Denials>, directory: &Path) -> Result<(), Error> {
        links(object, denials).try_for_each(|link| {
            let (name, program) = link.program();
            let at = directory.join(name);
            bpf::pin(program, &at)
                .map_err(|error| Error::maps("cannot pin", at.display().to_string(), error))
        })
    }

    fn of(
        hooks: impl Iterator<Item = io::Result<(String, OwnedFd, OwnedFd)>>,
        tells: Tells,
    ) -> Result<Self, Error> {
        let hooks = hooks.map(|hook| {
            let (name, program, link) = hook?;
            Ok(Hook {
                name,
                program,
                link,
                missed: Some(0),
            })
        });
        let hooks = hooks.collect::<io::Result<_>>().map_err(failed)?;
        Ok(Self { hooks, tells })
    }

    /// The numbers of the programs.
    pub fn programs(&self) -> impl Iterator<Item = u32> {
        let programs = self.hooks.iter();
        programs.filter_map(|hook| Some(bpf::recursion_misses(hook.program.as_fd()).ok()?.0))
    }

    /// How often a hook was missed, since they were put in place, as far as this
    /// kernel tells.
    pub fn missed(&mut self) -> Result<u64, Error> {
        let mut sum = 0;
        // What a program missed is counted with the program, which may have several links.
        let mut counted = HashSet::new();
        for hook in &mut self.hooks {
            let (id, recursions) = bpf::recursion_misses(hook.program.as_fd()).map_err(failed)?;
            let recursions = if counted.insert(id) { recursions } else { 0 };
            let by_link = link::missed(hook.link.as_fd(), self.tells).map_err(failed)?;
            let missed = by_link.map(|by_link| recursions + by_link);
            if missed != hook.missed {
                let name = &hook.name;
                match by_link {
                    Some(by_link) => log::debug!(
                        "{name}: missed {recursions} times while it ran, {by_link} times by its link"
                    ),
                    None => log::debug!(
                        "{name}: missed {recursions} times while it ran; what its link misses this \
                         kernel does not tell"
                    ),
                }
                hook.missed = missed;
            }
            sum += missed.unwrap_or(recursions);
        }
        Ok(sum)
    }
}

/// What is attached.
fn links<'a>(object: &'a Object, denials: Option<&'a Denials>) -> impl Iterator<Item = &'a Link> {
    let denials = denials.into_iter().flat_map(Denials::links);
    object.links.iter().chain(denials)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Load(format!("cannot ask for the programs in place: {error}"))
}
