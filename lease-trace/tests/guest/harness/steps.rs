//! The tool, step by step: traced by ptrace(2) from system call to system call, and ended by SIGKILL
//! before any of those that change what outlives it.

use std::io;
use std::process::Child;

use super::Tool;

/// What a system call changes that stays when the caller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// mkdir(2)
    Directory,
    /// `BPF_MAP_UPDATE_ELEM`
    Word,
    /// `BPF_OBJ_PIN`
    Pin,
    /// unlink(2), rmdir(2), unlinkat(2)
    Removal,
}

impl Step {
    fn of(registers: &libc::user_regs_struct) -> Option<Self> {
        const BPF_MAP_UPDATE_ELEM: u64 = 2;
        const BPF_OBJ_PIN: u64 = 6;
        match (registers.orig_rax.cast_signed(), registers.rdi) {
            (libc::SYS_mkdir | libc::SYS_mkdirat, _) => Some(Self::Directory),
            (libc::SYS_bpf, BPF_MAP_UPDATE_ELEM) => Some(Self::Word),
            (libc::SYS_bpf, BPF_OBJ_PIN) => Some(Self::Pin),
            (libc::SYS_unlink | libc::SYS_rmdir | libc::SYS_unlinkat, _) => Some(Self::Removal),
            _ => None,
        }
    }
}

/// All steps of an invocation that runs to its end.
pub fn steps(arguments: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let status = trace(arguments, |step| {
        steps.push(step);
        true
    });
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    assert_eq!(code, Some(0), "{arguments:?} after {} steps", steps.len());
    steps
}

/// Ends an invocation before the step of that number, counted from 0.
pub fn kill_before(arguments: &[&str], number: usize) {
    let mut taken = 0;
    let status = trace(arguments, |_| {
        taken += 1;
        taken <= number
    });
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    assert!(killed, "{arguments:?} ended before step {number}: {status}");
}

/// Runs until `goes_on` is false before a step; the status of its end, as wait(2) has it.
fn trace(arguments: &[&str], mut goes_on: impl FnMut(Step) -> bool) -> libc::c_int {
    #[expect(
        clippy::zombie_processes,
        reason = "waited for by its pid, as its tracer"
    )]
    let mut process = Tool::new(arguments).before(trace_me).spawn();
    // The stop after execve(2).
    let mut status = wait(&process);
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, &process, options as usize);
    let mut is_entry = true;
    while libc::WIFSTOPPED(status) {
        let signal = match libc::WSTOPSIG(status) {
            stop if stop == libc::SIGTRAP | 0x80 => {
                if is_entry
                    && let Some(step) = Step::of(&registers(&process))
                    && !goes_on(step)
                {
                    process.kill().expect("SIGKILL to a child of ours");
                }
                is_entry = !is_entry;
                0
            }
            libc::SIGTRAP => 0,
            other => other,
        };
        ptrace(libc::PTRACE_SYSCALL, &process, signal as usize);
        status = wait(&process);
    }
    // Reaped already: nobody waits for it any more.
    drop(process.stderr.take());
    status
}

fn trace_me() -> io::Result<()> {
    // SAFETY: takes no memory; whoever started this process is its tracer from now on.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// After SIGKILL the process may be gone: what is asked of it then is not done, and is not needed.
fn ptrace(request: libc::c_uint, process: &Child, data: usize) {
    // SAFETY: these requests take a number, and touch no memory of this process.
    unsafe { libc::ptrace(request, process.id(), 0_usize, data) };
}

fn registers(process: &Child) -> libc::user_regs_struct {
    // SAFETY: made of integers, for which zero is a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the registers of a stopped tracee there, which outlive the call.
    let returned = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGS,
            process.id(),
            0_usize,
            &raw mut registers,
        )
    };
    assert_eq!(returned, 0, "{}", io::Error::last_os_error());
    registers
}

fn wait(process: &Child) -> libc::c_int {
    let mut status = 0;
    // SAFETY: the kernel writes one number, to a place that outlives the call.
    let pid = unsafe { libc::waitpid(process.id().cast_signed(), &raw mut status, libc::__WALL) };
    assert_eq!(
        pid,
        process.id().cast_signed(),
        "{}",
        io::Error::last_os_error()
    );
    status
}
