//! Loads the programs that are BPF iterators.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{Btf, Ebpf, programs::Iter};

use super::{
    attach::timed,
    error::{chain, is_eperm, program_reason},
};

/// Why an iterator is not there.
pub enum Failure {
    /// EPERM although the capabilities are there.
    Refused,
    Other(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => formatter.write_str("bpf(2) was refused (EPERM)"),
            Self::Other(reason) => formatter.write_str(reason),
        }
    }
}

/// The program of this name, which walks over all of `target`.
pub fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<OwnedFd, Failure> {
    let other = |reason: &dyn std::error::Error| Failure::Other(chain(reason));
    let program: &mut Iter = ebpf
        .program_mut(name)
        .ok_or_else(|| Failure::Other("the object has no such program".to_owned()))?
        .try_into()
        .map_err(|error| other(&error))?;
    match timed(name, || program.load(target, btf)) {
        Ok(()) => {}
        Err(error) if is_eperm(&error) => return Err(Failure::Refused),
        Err(error) => return Err(Failure::Other(program_reason(&error))),
    }
    let fd = program.fd().map_err(|error| other(&error))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|error| other(&error))
}
