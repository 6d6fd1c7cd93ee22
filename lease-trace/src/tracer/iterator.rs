//! Loads the programs that are BPF iterators.

use std::os::fd::OwnedFd;

use super::{
    error::{Error, chain},
    raw::RawObject,
};
use crate::kernel::{bpf::Kind, btf::Btf};

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

impl Failure {
    /// What becomes of it where there is no other way; `target` is what was to be walked over.
    pub fn into_error(self, target: &str) -> Error {
        match self {
            Self::Refused => Error::Refused {
                call: "bpf(2) for loading an iterator".to_owned(),
            },
            Self::Other(reason) => Error::Walk(format!("{target} iterator: {reason}")),
        }
    }
}

/// The program of this name, which walks over all of `target`.
pub fn load(
    programs: &RawObject,
    types: &Btf,
    name: &str,
    target: &str,
) -> Result<OwnedFd, Failure> {
    let id = types.function_id(&format!("bpf_iter_{target}"));
    let id = id.ok_or_else(|| Failure::Other("this kernel has none".to_owned()))?;
    match programs.load(name, Kind::Iterator, id) {
        Ok(loaded) => Ok(loaded.into_program()),
        Err(refusal) if refusal.is_eperm() => Err(Failure::Refused),
        Err(refusal) => Err(Failure::Other(chain(&refusal))),
    }
}
