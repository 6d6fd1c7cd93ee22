//! The programs in place, and how often their hooks were passed without them. The kernel runs no
//! program that is running on the same CPU already, which it may be if its task was preempted
//! inside, and counts what it leaves out.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use super::{attach::Link, denial::Denials, error::Error, object::Object, pinned};
use crate::kernel::bpf;

/// Programs in place.
pub struct Hooks(Vec<Hook>);

struct Hook {
    /// Of the program.
    name: String,
    program: OwnedFd,
    /// How often it was passed when last asked.
    passed: u64,
}

impl Hooks {
    /// Those of this process.
    pub fn own(object: &Object, denials: Option<&Denials>) -> Result<Self, Error> {
        let programs = programs(object, denials);
        Self::of(programs.map(|(name, program)| (name.to_owned(), program.try_clone_to_owned())))
    }

    /// Those of the enforcement in place.
    pub fn in_place() -> Result<Self, Error> {
        let programs = pinned::programs().into_iter();
        Self::of(programs.map(|(name, path)| (name, bpf::open(&path))))
    }

    /// Pins those of this process in a folder, for [`Self::in_place`].
    pub fn pin(object: &Object, denials: Option<&Denials>, folder: &Path) -> Result<(), Error> {
        programs(object, denials).try_for_each(|(name, program)| {
            let at = folder.join(name);
            bpf::pin(program, &at)
                .map_err(|error| Error::maps("cannot pin", at.display().to_string(), error))
        })
    }

    fn of(programs: impl Iterator<Item = (String, io::Result<OwnedFd>)>) -> Result<Self, Error> {
        let hooks = programs.map(|(name, program)| {
            Ok(Hook {
                name,
                program: program?,
                passed: 0,
            })
        });
        hooks.collect::<io::Result<_>>().map(Self).map_err(failed)
    }

    /// How often a hook was passed without its program, since they were put in place.
    pub fn passed(&mut self) -> Result<u64, Error> {
        let mut sum = 0;
        for hook in &mut self.0 {
            let passed = bpf::recursion_misses(hook.program.as_fd()).map_err(failed)?;
            if passed != hook.passed {
                log::debug!("{}: passed {passed} times while it ran", hook.name);
                hook.passed = passed;
            }
            sum += passed;
        }
        Ok(sum)
    }
}

/// What is attached, with its name.
fn programs<'a>(
    object: &'a Object,
    denials: Option<&'a Denials>,
) -> impl Iterator<Item = (&'a str, BorrowedFd<'a>)> {
    let probes = object.ebpf.programs();
    let probes = probes.filter_map(|(name, program)| Some((name, program.fd().ok()?.as_fd())));
    let trampolines = object.links.iter().filter_map(|link| match link {
        Link::Trampoline(link) => Some(link.program()),
        Link::Probe(_) => None,
    });
    let attached = trampolines.chain(probes);
    attached.chain(denials.into_iter().flat_map(Denials::programs))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Load(format!("cannot ask for the programs in place: {error}"))
}
