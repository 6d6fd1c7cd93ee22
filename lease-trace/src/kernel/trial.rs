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

/// Whether a program of this kind may answer for this function (`bpf_lsm_NAME` for a hook of the BPF
/// LSM), so that a call can be denied.
pub fn denial(btf: &Btf, kind: Kind, function: &str) -> Result<(), Refusal> {
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
