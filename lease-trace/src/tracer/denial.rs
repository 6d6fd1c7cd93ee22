//! The programs that can deny a release, and the kernel functions whose return value each
//! replaces. What this kernel accepts is found out by loading and attaching.

use std::{io, path::Path};

use lease_trace_common::{cause::Cause, policy::cause_bit};

use super::{
    object::Object,
    raw::{Link, RawObject},
};
use crate::kernel::{bpf::Kind, btf::Btf, host};

/// One program and where it goes: the first hook that is accepted.
struct Denial {
    program: &'static str,
    cause: Cause,
    hooks: &'static [(Kind, &'static str)],
    prototype: &'static str,
}

const SYSCALL: &str = "long int(const struct pt_regs *)";

const DENIALS: &[Denial] = &[
    Denial {
        program: "deny_unlock",
        cause: Cause::Unlock,
        hooks: &[
            (Kind::Lsm, "bpf_lsm_file_lock"),
            (Kind::ModifyReturn, "security_file_lock"),
        ],
        prototype: "int(struct file *, unsigned int)",
    },
    Denial {
        program: "deny_close",
        cause: Cause::Close,
        hooks: &[(Kind::ModifyReturn, "__x64_sys_close")],
        prototype: SYSCALL,
    },
    Denial {
        program: "deny_close_range",
        cause: Cause::CloseRange,
        hooks: &[(Kind::ModifyReturn, "__x64_sys_close_range")],
        prototype: SYSCALL,
    },
    Denial {
        program: "deny_dup2",
        cause: Cause::Dup2,
        hooks: &[(Kind::ModifyReturn, "__x64_sys_dup2")],
        prototype: SYSCALL,
    },
    Denial {
        program: "deny_dup3",
        cause: Cause::Dup2,
        hooks: &[(Kind::ModifyReturn, "__x64_sys_dup3")],
        prototype: SYSCALL,
    },
    Denial {
        program: "deny_munmap",
        cause: Cause::Munmap,
        hooks: &[(Kind::ModifyReturn, "__x64_sys_munmap")],
        prototype: SYSCALL,
    },
];

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
        for denial in DENIALS {
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
        // dup2 and dup3 are one way out: it can be denied if both can.
        denials.deniable &= !refused;
        denials
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
