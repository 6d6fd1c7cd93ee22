//! The programs that deny, in place. What this kernel accepts is found out by loading and
//! attaching.

use std::{io, path::Path};

use lease_trace_common::policy::cause_bit;

use super::{error::chain, object::Object, raw::Link};
use crate::kernel::{
    bpf::Kind,
    denials::{DENIALS, Denial},
    host,
};

/// The programs in place.
pub struct Denials {
    links: Vec<Link>,
    /// Set of `cause_bit`s: the release paths that can be denied now.
    pub deniable: u32,
    /// `deny_close: fmod_ret`
    pub attached: Vec<String>,
}

impl Denials {
    /// Attaches every program that this kernel accepts.
    pub fn attach(object: &Object) -> Self {
        let mut denials = Self {
            links: Vec::new(),
            deniable: 0,
            attached: Vec::new(),
        };
        let mut refused = 0;
        for denial in &DENIALS {
            match attach(object, denial) {
                Ok((how, link)) => {
                    denials.links.push(link);
                    denials.attached.push(format!("{}: {how}", denial.program));
                    denials.deniable |= cause_bit(denial.cause as u32);
                }
                Err(reason) => {
                    log::debug!("{}: {reason}", denial.program);
                    refused |= cause_bit(denial.cause as u32);
                }
            }
        }
        // Several calls can be one release path: it can be denied if all of them can.
        denials.deniable &= !refused;
        denials
    }

    /// What keeps the programs attached.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Keeps the programs attached until the files are removed.
    pub fn pin(&self, directory: &Path) -> io::Result<()> {
        self.links.iter().try_for_each(|link| link.pin(directory))
    }
}

fn attach(object: &Object, denial: &Denial) -> Result<(&'static str, Link), String> {
    let mut reasons = Vec::new();
    for (kind, function) in denial.hooks {
        if *kind == Kind::Lsm && !host::bpf_lsm_is_active() {
            reasons.push("bpf is not among the active LSMs".to_owned());
            continue;
        }
        let attached = (|| {
            let types = &object.types;
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
            let loaded = object.raw.load(denial.program, *kind, id);
            loaded
                .and_then(|loaded| loaded.attach(denial.program.to_owned()))
                .map_err(|refusal| chain(&refusal))
        })();
        match attached {
            Ok(link) => return Ok((kind.name(), link)),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}
