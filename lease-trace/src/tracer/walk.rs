//! Walks over every task's descriptors and mappings with BPF iterators.

use std::io::Read as _;

use aya::{Btf, Ebpf, programs::Iter};
use lease_trace_common::event::{Found, MAPPING};

use super::{
    error::{Error, chain, is_eperm, program_reason},
    snapshot::Holder,
};

/// Walks everything; returns who keeps which lease alive.
pub fn walk(ebpf: &mut Ebpf, btf: &Btf) -> Result<Vec<Holder>, Error> {
    let mut holders = Vec::new();
    for (program, target) in [("walk_files", "task_file"), ("walk_mappings", "task_vma")] {
        holders.extend(run(ebpf, btf, program, target)?);
    }
    holders.sort_unstable();
    holders.dedup();
    Ok(holders)
}

fn run(ebpf: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<Vec<Holder>, Error> {
    let failed = |reason: String| Error::Walk(format!("{target} iterator: {reason}"));
    let program: &mut Iter = ebpf
        .program_mut(name)
        .ok_or_else(|| failed(format!("the object has no program {name}")))?
        .try_into()
        .map_err(|error| failed(chain(&error)))?;
    match program.load(target, btf) {
        Ok(()) | Err(aya::programs::ProgramError::AlreadyLoaded) => {}
        Err(error) if is_eperm(&error) => {
            return Err(Error::Refused {
                call: "bpf(2) for loading an iterator".to_owned(),
            });
        }
        Err(error) => return Err(failed(program_reason(&error))),
    }
    let link = program.attach().map_err(|error| failed(chain(&error)))?;
    let link = program
        .take_link(link)
        .map_err(|error| failed(chain(&error)))?;
    let mut file = link.into_file().map_err(|error| failed(chain(&error)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes.chunks_exact(size_of::<Found>()).map(holder).collect())
}

fn holder(record: &[u8]) -> Holder {
    // SAFETY: `record` has exactly the size of a `Found`, for which every bit pattern is a
    // value; the read does not assume alignment.
    let found = unsafe { record.as_ptr().cast::<Found>().read_unaligned() };
    Holder {
        lease: found.lease,
        tgid: found.tgid,
        comm: comm(&found.comm),
        fd: (found.fd != MAPPING).then_some(found.fd),
    }
}

fn comm(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
