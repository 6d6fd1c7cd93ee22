//! The seccomp filter: which system calls are asked about at all. Everything that cannot release
//! a lease is let through by the kernel, with nobody asked.
//!
//! Written out because no library does it: seccompiler knows no notification and kills what
//! comes through the 32-bit entry, and libseccomp is a C library that a static program would have
//! to carry.

use std::collections::HashMap;

use libc::sock_filter;

use super::nr::{self, abi};

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h).
const NR: u32 = 0;
const ARCH: u32 = 4;

const fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

const fn high(argument: u32) -> u32 {
    low(argument) + 4
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// The accumulator becomes the index register, which is X in the comparisons.
const KEEP: u32 = libc::BPF_MISC | libc::BPF_TAX;
const GO: u32 = libc::BPF_JMP | libc::BPF_JA;
const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const EQUALS_X: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X;
const ABOVE_X: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_X;
const AT_LEAST_X: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_X;

/// Places in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Label {
    Compat,
    Native,
    Fcntl,
    Unlock,
    Mmap,
    Mremap,
    SameHigh,
    Ask,
    Allow,
}

#[derive(Default)]
struct Assembler {
    /// Code and operand of each instruction, and where to go if its comparison holds.
    steps: Vec<(u32, u32, Option<Label>)>,
    places: HashMap<Label, usize>,
}

impl Assembler {
    fn here(&mut self, label: Label) {
        self.places.insert(label, self.steps.len());
    }

    fn step(&mut self, code: u32, operand: u32) {
        self.steps.push((code, operand, None));
    }

    fn go_if(&mut self, code: u32, operand: u32, to: Label) {
        self.steps.push((code, operand, Some(to)));
    }

    fn go(&mut self, to: Label) {
        self.go_if(GO, 0, to);
    }

    fn assemble(self) -> Vec<sock_filter> {
        let Self { steps, places } = self;
        let steps = steps.into_iter().enumerate();
        steps
            .map(|(at, (code, operand, to))| {
                let distance = to.map_or(0, |to| places[&to] - at - 1);
                let (jt, k) = if code == GO {
                    (0, distance as u32)
                } else {
                    (distance, operand)
                };
                sock_filter {
                    code: code as u16,
                    jt: u8::try_from(jt).expect("the program is short"),
                    jf: 0,
                    k,
                }
            })
            .collect()
    }
}

/// The instructions so far, and where their jumps go.
pub fn program() -> Vec<sock_filter> {
    let mut program = Assembler::default();
    program.step(LOAD, ARCH);
    program.go_if(EQUALS, abi::X86_64, Label::Native);
    program.go_if(EQUALS, abi::I386, Label::Compat);
    program.go(Label::Allow);
    program.here(Label::Native);
    program.step(LOAD, NR);
    program.step(AND, !abi::X32_BIT);
    calls(&mut program, &nr::NATIVE);
    program.here(Label::Compat);
    program.step(LOAD, NR);
    calls(&mut program, &nr::COMPAT);
    arguments(&mut program);
    program.here(Label::Ask);
    program.step(RETURN, libc::SECCOMP_RET_USER_NOTIF);
    program.here(Label::Allow);
    program.step(RETURN, libc::SECCOMP_RET_ALLOW);
    program.assemble()
}

/// Goes by the number of the call, which is loaded.
fn calls(program: &mut Assembler, numbers: &nr::Numbers) {
    for number in numbers.always {
        program.go_if(EQUALS, *number, Label::Ask);
    }
    for number in numbers.fcntl {
        program.go_if(EQUALS, *number, Label::Fcntl);
    }
    program.go_if(EQUALS, numbers.mmap, Label::Mmap);
    program.go_if(EQUALS, numbers.mremap, Label::Mremap);
    program.go(Label::Allow);
}

/// Goes by the arguments of those calls that seldom release anything.
fn arguments(program: &mut Assembler) {
    // fcntl(fd, cmd, arg): only the end of a lease. What F_SETDELEG sets is behind a pointer.
    program.here(Label::Fcntl);
    program.step(LOAD, low(1));
    program.go_if(EQUALS, nr::F_SETDELEG, Label::Ask);
    program.go_if(EQUALS, nr::F_SETLEASE, Label::Unlock);
    program.go(Label::Allow);
    program.here(Label::Unlock);
    program.step(LOAD, low(2));
    program.go_if(EQUALS, nr::F_UNLCK, Label::Ask);
    program.go(Label::Allow);
    // mmap(address, length, protection, flags, ...): only one that replaces what is there.
    program.here(Label::Mmap);
    program.step(LOAD, low(3));
    program.step(AND, nr::MAP_FIXED | nr::MAP_FIXED_NOREPLACE);
    program.go_if(EQUALS, nr::MAP_FIXED, Label::Ask);
    program.go(Label::Allow);
    // mremap(old, old length, new length, flags, new): only one that replaces, or makes shorter.
    program.here(Label::Mremap);
    program.step(LOAD, low(3));
    program.step(AND, nr::MREMAP_FIXED);
    program.go_if(EQUALS, nr::MREMAP_FIXED, Label::Ask);
    program.step(LOAD, high(1));
    program.step(KEEP, 0);
    program.step(LOAD, high(2));
    program.go_if(ABOVE_X, 0, Label::Allow);
    program.go_if(EQUALS_X, 0, Label::SameHigh);
    program.go(Label::Ask);
    program.here(Label::SameHigh);
    program.step(LOAD, low(1));
    program.step(KEEP, 0);
    program.step(LOAD, low(2));
    program.go_if(AT_LEAST_X, 0, Label::Allow);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call, for the instructions used here
    /// (net/core/filter.c, `bpf_prog_run`).
    fn run(arch: u32, number: i64, arguments: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NR => number as u32,
            ARCH => arch,
            _ => {
                let value = arguments[(offset as usize - 16) / 8];
                (value >> (offset % 8 * 8)) as u32
            }
        };
        let program = program();
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match u32::from(code) {
                LOAD => {
                    a = word(k);
                    continue;
                }
                AND => {
                    a &= k;
                    continue;
                }
                KEEP => {
                    x = a;
                    continue;
                }
                GO => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                EQUALS => a == k,
                EQUALS_X => a == x,
                ABOVE_X => a > x,
                AT_LEAST_X => a >= x,
                other => panic!("no such instruction: {other:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    fn asks(arch: u32, number: i64, arguments: &[u64]) -> bool {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        match run(arch, number, all) {
            libc::SECCOMP_RET_USER_NOTIF => true,
            libc::SECCOMP_RET_ALLOW => false,
            other => panic!("{other:#x} is no answer of this filter"),
        }
    }

    #[test]
    fn calls_that_may_release_are_asked_about() {
        for number in [
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_dup2,
            libc::SYS_dup3,
            libc::SYS_munmap,
            libc::SYS_execve,
            libc::SYS_execveat,
        ] {
            assert!(asks(abi::X86_64, number, &[]), "{number}");
        }
        // arch/x86/entry/syscalls/syscall_32.tbl
        for number in [6, 436, 63, 330, 91, 11, 358, 90] {
            assert!(asks(abi::I386, number, &[]), "{number}");
        }
        // arch/x86/entry/syscalls/syscall_64.tbl, those of x32.
        for number in [520, 545, libc::SYS_close] {
            let number = number | i64::from(abi::X32_BIT);
            assert!(asks(abi::X86_64, number, &[]), "{number:#x}");
        }
    }

    #[test]
    fn others_are_not() {
        for number in [libc::SYS_read, libc::SYS_openat, libc::SYS_exit_group] {
            assert!(!asks(abi::X86_64, number, &[]), "{number}");
            assert!(!asks(0x4000_003e, number, &[]), "{number}, unknown machine");
        }
        // close(2) of one table is another call in the other.
        assert!(!asks(abi::I386, libc::SYS_close, &[]));
        assert!(!asks(abi::X86_64, 6, &[]));
    }

    #[test]
    fn of_fcntl_only_what_ends_a_lease_is() {
        let (setlease, unlock) = (libc::F_SETLEASE as u64, libc::F_UNLCK as u64);
        for (arch, number) in [
            (abi::X86_64, libc::SYS_fcntl),
            (abi::I386, 55),
            (abi::I386, 221),
        ] {
            assert!(asks(arch, number, &[3, setlease, unlock]));
            assert!(asks(arch, number, &[3, 1040, 0x7ffe_0000_0000]));
            // The kernel takes the low half of both (fs/fcntl.c, do_fcntl).
            assert!(asks(arch, number, &[3, 1 << 32 | setlease, 1 << 40 | 2]));
            assert!(!asks(arch, number, &[3, setlease, libc::F_RDLCK as u64]));
            assert!(!asks(arch, number, &[3, libc::F_GETFL as u64, unlock]));
        }
    }

    #[test]
    fn of_mmap_only_what_replaces_is() {
        let fixed = libc::MAP_FIXED as u64;
        let flags = |flags| [0, 4096, 1, flags, 3, 0];
        for (arch, number) in [(abi::X86_64, libc::SYS_mmap), (abi::I386, 192)] {
            assert!(asks(arch, number, &flags(fixed | 1)));
            assert!(!asks(arch, number, &flags(1)));
            assert!(!asks(
                arch,
                number,
                &flags(fixed | libc::MAP_FIXED_NOREPLACE as u64)
            ));
        }
    }

    #[test]
    fn of_mremap_what_replaces_or_shrinks_is() {
        let asks = |old: u64, new: u64, flags| {
            asks(abi::X86_64, libc::SYS_mremap, &[0, old, new, flags, 0])
        };
        let large = 1 << 40;
        assert!(asks(8192, 4096, 0));
        assert!(asks(large, 8192, 0));
        assert!(asks(large + 8192, large, 1));
        assert!(asks(4096, 4096, libc::MREMAP_FIXED as u64));
        assert!(!asks(4096, 8192, 1));
        assert!(!asks(8192, large, 1));
        assert!(!asks(large, large, 1));
    }
}
