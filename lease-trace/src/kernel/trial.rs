//! Small trials of what the kernel accepts, made by asking it: a program of two instructions is
//! loaded and forgotten.

use super::{
    bpf::{self, Kind, Program},
    btf::Btf,
};

/// Why a program was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EPERM: this process may not ask.
    Privilege,
    /// The kernel cannot do it; in its words.
    Kernel(String),
}

/// Whether a program may replace the return value of this function (`fmod_ret`), so that a call
/// can be denied.
pub fn modify_return(btf: &Btf, function: &str) -> Result<(), Refusal> {
    load(btf, function, Kind::ModifyReturn)
}

/// Whether a program may answer for the BPF LSM, `hook` being `bpf_lsm_NAME`.
pub fn lsm(btf: &Btf, hook: &str) -> Result<(), Refusal> {
    load(btf, hook, Kind::Lsm)
}

fn load(btf: &Btf, function: &str, kind: Kind) -> Result<(), Refusal> {
    let function_id = btf
        .function_id(function)
        .ok_or_else(|| Refusal::Kernel(format!("this kernel has no function {function}")))?;
    let program = Program {
        kind,
        function_id,
        name: "trial",
        // r0 = 0; exit
        instructions: &[0xb7, 0x95],
        license: c"GPL",
        types: None,
    };
    match bpf::load(&program) {
        Ok(_forgotten) => Ok(()),
        Err(refusal) => Err(match refusal.error.raw_os_error() {
            Some(libc::EPERM) => Refusal::Privilege,
            _ => Refusal::Kernel(refusal.said.unwrap_or_else(|| refusal.error.to_string())),
        }),
    }
}
