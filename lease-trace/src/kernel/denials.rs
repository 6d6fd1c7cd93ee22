//! The programs that can deny a release, and the kernel functions whose return value each
//! replaces.

use lease_trace_common::cause::Cause;

use super::bpf::Kind;

/// One program and where it goes: the first hook that is accepted.
pub struct Denial {
    pub program: &'static str,
    pub cause: Cause,
    pub hooks: &'static [(Kind, &'static str)],
    pub prototype: &'static str,
}

/// A system call that can drop the last reference. Its 32-bit twin, `__ia32_sys_*`, has no program:
/// kernels that accept `__x64_sys_*` for its name do not accept that (see docs/kernels.md).
macro_rules! system_call {
    ($name:literal, $cause:ident) => {
        Denial {
            program: concat!("deny_", $name),
            cause: Cause::$cause,
            hooks: &[(Kind::ModifyReturn, concat!("__x64_sys_", $name))],
            prototype: "long int(const struct pt_regs *)",
        }
    };
}

/// A release path that several programs are for can be denied if all of them are accepted.
pub const DENIALS: [Denial; 8] = [
    // The hook that every unlock passes, F_SETLEASE and F_SETDELEG alike.
    Denial {
        program: "deny_unlock",
        cause: Cause::Unlock,
        hooks: &[
            (Kind::Lsm, "bpf_lsm_file_lock"),
            (Kind::ModifyReturn, "security_file_lock"),
        ],
        prototype: "int(struct file *, unsigned int)",
    },
    system_call!("close", Close),
    system_call!("dup2", Dup2),
    system_call!("dup3", Dup2),
    system_call!("close_range", CloseRange),
    system_call!("munmap", Munmap),
    system_call!("mmap", Munmap),
    system_call!("mremap", Munmap),
];

#[cfg(test)]
mod tests {
    use lease_trace_common::policy::DENIABLE;

    use super::*;

    #[test]
    fn every_way_that_can_be_denied_has_a_program() {
        for cause in DENIABLE {
            assert!(DENIALS.iter().any(|denial| denial.cause == cause));
        }
        for denial in &DENIALS {
            assert!(DENIABLE.contains(&denial.cause), "{}", denial.program);
        }
    }
}
