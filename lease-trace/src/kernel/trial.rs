//! Small trials of what the kernel accepts, made by asking it: a program of two instructions is
//! loaded and forgotten.

use super::{
    bpf::{self, Kind, Program},
    btf::Btf,
};

/// Whether a program may replace the return value of this function (`fmod_ret`), so that a call
/// can be denied. `Err` says why not, in the kernel's words.
pub fn modify_return(btf: &Btf, function: &str) -> Result<(), String> {
    let function_id = btf
        .function_id(function)
        .ok_or_else(|| format!("this kernel has no function {function}"))?;
    let program = Program {
        kind: Kind::ModifyReturn,
        function_id,
        name: "trial",
        // r0 = 0; exit
        instructions: &[0xb7, 0x95],
        license: c"GPL",
        types: None,
    };
    match bpf::load(&program) {
        Ok(_forgotten) => Ok(()),
        Err(refusal) => Err(refusal.said.unwrap_or_else(|| refusal.error.to_string())),
    }
}
