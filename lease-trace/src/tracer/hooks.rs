//! The programs in place, and how often their hooks were passed without them. The kernel runs no
//! program that is running on the same CPU already, which it may be if its task was preempted
//! inside, and counts what it leaves out.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::Ebpf;

use super::{denial::Denials, error::Error, pinned};
use crate::kernel::bpf;

/// Programs in place.
pub struct Hooks(Vec<OwnedFd>);

impl Hooks {
    /// Those of this process.
    pub fn own(ebpf: &Ebpf, denials: Option<&Denials>) -> Result<Self, Error> {
        let loaded = ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok())
            .map(|fd| fd.as_fd().try_clone_to_owned());
        let denials = denials.into_iter().flat_map(Denials::programs);
        Self::of(loaded.chain(denials))
    }

    /// Those of the links that are pinned.
    pub fn in_place(folder: &Path) -> Result<Self, Error> {
        let links = pinned::links();
        Self::of(links.iter().map(|name| {
            let link = bpf::open(&folder.join(name))?;
            bpf::program_of(link.as_fd())
        }))
    }

    fn of(programs: impl Iterator<Item = io::Result<OwnedFd>>) -> Result<Self, Error> {
        let programs = programs.collect::<io::Result<_>>();
        programs.map(Self).map_err(failed)
    }

    /// How often a hook was passed without its program, since they were put in place.
    pub fn passed(&self) -> Result<u64, Error> {
        let passed = self.0.iter().map(|fd| bpf::recursion_misses(fd.as_fd()));
        passed.sum::<io::Result<u64>>().map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Load(format!("cannot ask for the programs in place: {error}"))
}
