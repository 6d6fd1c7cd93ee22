//! The programs that deny, in place. What this kernel accepts is found out by loading and
//! attaching.

use std::{io, os::fd::BorrowedFd, path::Path};

use lease_trace_common::policy::cause_bit;

use super::{
    object::Object,
    raw::{Link, RawObject},
};
use crate::kernel::{
    bpf::Kind,
    btf::Btf,
    denials::{DENIALS, Denial},
    host,
};

/// The programs in place.
pub struct Denials {
    links: Vec<(&'static str, Link)>,
    /// Set of `cause_bit`s: the ways out that can be denied now.
    pub deniable: u32,
    /// `deny_close: fmod_ret`
    pub attached: Vec<String>,
}

impl Denials {
    /// Attaches every program that this kernel accepts.
    pub fn attach(object: &Object, raw: &RawObject) -> Self {
        let mut denials = Self {
            links: Vec::new(),
            deniable: 0,
            attached: Vec::new(),
        };
        let mut refused = 0;
        for denial in &DENIALS {
            match attach(raw, &object.types, denial) {
                Ok((how, link)) => {
                    denials.links.push((denial.program, link));
                    denials.attached.push(format!("{}: {how}", denial.program));
                    denials.deniable |= cause_bit(denial.cause as u32);
                }
                Err(reason) => {
                    log::debug!("{}: {reason}", denial.program);
                    refused |= cause_bit(denial.cause as u32);
                }
            }
        }
        // Several calls can be one way out: it can be denied if all of them can.
        denials.deniable &= !refused;
        denials
    }

    /// The programs themselves, with their names.
    pub fn programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let programs = self.links.iter();
        programs.map(|(name, link)| (*name, link.program()))
    }

    /// Keeps the programs attached until the files are removed.
    pub fn pin(&self, folder: &Path) -> io::Result<()> {
        self.links
            .iter()
            .try_for_each(|(program, link)| link.pin(&folder.join(program)))
    }
}

fn attach(raw: &RawObject, types: &Btf, denial: &Denial) -> Result<(&'static str, Link), String> {
    let mut reasons = Vec::new();
    for (kind, function) in denial.hooks {
        if *kind == Kind::Lsm && !host::bpf_lsm_is_active() {
            reasons.push("bpf is not among the active LSMs".to_owned());
            continue;
        }
        let attached = (|| {
            let id = types
                .function_id(function)
                .ok_or_else(|| format!("this kernel has no {function}"))?;
            match types.prototype(function) {
                Some(prototype) if prototype == denial.prototype => {}
                other => {
                    return Err(format!(
                        "the prototype of {function} is not the one known: {}",
                        other.unwrap_or_default()
                    ));
                }
            }
            raw.load(denial.program, *kind, id)?.attach()
        })();
        match attached {
            Ok(link) => return Ok((kind.name(), link)),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}
