//! The one function of the kernel's, no helper, that programs call, and the one variable that they read.
//! aya knows of none, so both are completed in the object before it is read.

use std::borrow::Cow;

use lease_trace_common::config::{CAST, PREEMPT_COUNT};

use crate::kernel::{btf::Btf, offsets};

/// `BPF_JMP | BPF_CALL`, and a call of one of the kernel's functions (include/uapi/linux/bpf.h,
/// `BPF_PSEUDO_KFUNC_CALL`) in the place of the source register.
const CALL: u8 = 0x85;
const OF_KERNEL: u8 = 2 << 4;
/// `BPF_LD | BPF_IMM | BPF_DW`, and a variable of the kernel's (`BPF_PSEUDO_BTF_ID`) in the place of the
/// source register.
const LOAD: u8 = 0x18;
const VARIABLE: u8 = 3 << 4;
/// `BPF_ALU64 | BPF_MOV | BPF_K`: `r0 = 0`.
const MOVE: u8 = 0xb7;

/// The object with its casts as this kernel wants them; where there is none, with something that the
/// verifier accepts in code that is never reached.
pub fn complete<'a>(object: &'a [u8], btf: &Btf) -> Cow<'a, [u8]> {
    let placeholder = instruction(CALL, 0, CAST);
    let completed = btf.function_id("bpf_rdonly_cast").map_or_else(
        || instruction(MOVE, 0, 0),
        |id| instruction(CALL, OF_KERNEL, id),
    );
    let mut object = Cow::Borrowed(object);
    // Whatever is in the object begins at a multiple of eight.
    let places: Vec<_> = object
        .chunks_exact(placeholder.len())
        .enumerate()
        .filter(|(_, word)| *word == placeholder)
        .map(|(number, _)| number * placeholder.len())
        .collect();
    for place in places {
        object.to_mut()[place..place + completed.len()].copy_from_slice(&completed);
    }
    if let Some((variable, _)) = offsets::preempt_count(btf) {
        complete_loads(object.to_mut(), variable);
    }
    object
}

/// Puts the variable with this id in the place of each load of [`PREEMPT_COUNT`], which is two
/// instructions long.
fn complete_loads(object: &mut [u8], variable: u32) {
    let [low, high] = [PREEMPT_COUNT as u32, (PREEMPT_COUNT >> 32) as u32];
    for at in (0..object.len().saturating_sub(15)).step_by(8) {
        let register = object[at + 1];
        let placeholder = [instruction(LOAD, register, low), instruction(0, 0, high)].concat();
        if object[at..at + 16] == placeholder {
            let load = instruction(LOAD, register | VARIABLE, variable);
            object[at..at + 16].copy_from_slice(&[load, instruction(0, 0, 0)].concat());
        }
    }
}

/// An instruction without an offset (Documentation/bpf/standardization/instruction-set.rst).
fn instruction(code: u8, registers: u8, immediate: u32) -> [u8; 8] {
    let [a, b, c, d] = immediate.to_le_bytes();
    [code, registers, 0, 0, a, b, c, d]
}
