//! How deep the programs go, as the verifier adds it up (`check_max_stack_depth`, kernel/bpf/verifier.c):
//! so a chain of calls that is too deep is found here, and not by a kernel that refuses to load it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::{Object, generated::bpf_insn};

use super::object::OBJECT;

/// `MAX_CALL_FRAMES` and `MAX_BPF_STACK` (include/linux/bpf_verifier.h, include/linux/filter.h).
const MOST_FRAMES: usize = 8;
const MOST_STACK: u32 = 512;
/// Each frame takes a multiple of so many bytes, and one at least.
const GRAIN: u32 = 32;
/// The frame pointer.
const R10: u8 = 10;

/// One function of a program: its own stack in bytes, and those that it calls or hands to a helper, by the
/// number of their first instruction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    stack: u32,
    calls: BTreeSet<usize>,
}

/// The functions of a program, by the number of their first instruction.
fn parts(program: &[bpf_insn]) -> BTreeMap<usize, Part> {
    let called = (0..program.len()).filter_map(|at| callee(program, at));
    let starts: BTreeSet<usize> = called.chain([0]).collect();
    let ends = starts.iter().copied().skip(1).chain([program.len()]);
    let part = |(start, end): (usize, usize)| {
        let body = &program[start..end];
        let calls = (start..end).filter_map(|at| callee(program, at));
        let part = Part {
            stack: stack(body),
            calls: calls.collect(),
        };
        (start, part)
    };
    starts.iter().copied().zip(ends).map(part).collect()
}

/// The function that an instruction calls (`BPF_PSEUDO_CALL`) or takes the address of (`BPF_PSEUDO_FUNC`).
fn callee(program: &[bpf_insn], at: usize) -> Option<usize> {
    let insn = &program[at];
    let is_call = insn.code == 0x85 && insn.src_reg() == 1;
    let is_address = insn.code == 0x18 && insn.src_reg() == 4;
    (is_call || is_address).then(|| at.strict_add(1).strict_add_signed(insn.imm as isize))
}

/// How far below the frame pointer a function reads or writes, or points.
fn stack(body: &[bpf_insn]) -> u32 {
    let mut pointers = HashSet::new();
    let mut lowest = 0;
    for insn in body {
        let (code, to, from) = (insn.code, insn.dst_reg(), insn.src_reg());
        let offset = match code & 7 {
            // BPF_LDX
            1 if from == R10 => i32::from(insn.off),
            // BPF_ST, BPF_STX
            2 | 3 if to == R10 => i32::from(insn.off),
            // BPF_ADD | BPF_K of a copy of the frame pointer
            7 if code == 0x07 && pointers.contains(&to) => insn.imm,
            _ => 0,
        };
        lowest = lowest.min(offset);
        match (code, from) {
            // BPF_MOV | BPF_X
            (0xbf, R10) => _ = pointers.insert(to),
            (0xbf, _) => _ = pointers.remove(&to),
            _ => {}
        }
    }
    lowest.unsigned_abs()
}

/// The most frames and the most bytes of stack on any way down from this function. What calls itself is none
/// that a kernel would load.
fn deepest(
    parts: &BTreeMap<usize, Part>,
    start: usize,
    known: &mut BTreeMap<usize, (usize, u32)>,
) -> (usize, u32) {
    if let Some(known) = known.get(&start) {
        return *known;
    }
    let part = &parts[&start];
    let below = part
        .calls
        .iter()
        .map(|called| deepest(parts, *called, known));
    let (frames, bytes) = below.fold((0, 0), |(frames, bytes), (more, deeper)| {
        (frames.max(more), bytes.max(deeper))
    });
    let own = part.stack.max(1).next_multiple_of(GRAIN);
    let found = (frames + 1, bytes + own);
    known.insert(start, found);
    found
}

#[test]
fn no_program_goes_deeper_than_a_kernel_lets_it() {
    let mut object = Object::parse(OBJECT).expect("an object");
    let code = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object.relocate_calls(&code).expect("whole programs");
    assert!(object.programs.len() > 50, "{}", object.programs.len());
    let mut too_deep = Vec::new();
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let parts = parts(&function.instructions);
        let (frames, bytes) = deepest(&parts, 0, &mut BTreeMap::new());
        if frames > MOST_FRAMES || bytes > MOST_STACK {
            too_deep.push(format!("{name}: {frames} frames, {bytes} bytes of stack"));
        }
    }
    assert!(too_deep.is_empty(), "{}", too_deep.join("\n"));
}

#[test]
fn frames_and_stack_are_added_up_along_calls_and_callbacks() {
    #[rustfmt::skip]
    let program = aya_obj::copy_instructions(&[
        // r1 = r10; r1 += -40
        0xbf, 0xa1, 0, 0, 0, 0, 0, 0,
        0x07, 0x01, 0, 0, 0xd8, 0xff, 0xff, 0xff,
        // call +3: the first function below
        0x85, 0x10, 0, 0, 3, 0, 0, 0,
        // r2 = the second one's address; exit
        0x18, 0x42, 0, 0, 4, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0x95, 0, 0, 0, 0, 0, 0, 0,
        // *(u64 *)(r10 - 8) = r1; exit
        0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0,
        0x95, 0, 0, 0, 0, 0, 0, 0,
        // call -3: the first; exit
        0x85, 0x10, 0, 0, 0xfd, 0xff, 0xff, 0xff,
        0x95, 0, 0, 0, 0, 0, 0, 0,
    ])
    .expect("whole instructions");
    let parts = parts(&program);
    let stacks: Vec<_> = parts.iter().map(|(at, part)| (*at, part.stack)).collect();
    assert_eq!(stacks, [(0, 40), (6, 8), (8, 0)]);
    assert_eq!(parts[&0].calls, BTreeSet::from([6, 8]));
    assert_eq!(deepest(&parts, 0, &mut BTreeMap::new()), (3, 64 + 32 + 32));
}
