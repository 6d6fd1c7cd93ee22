//! System calls on processes and signals.

use std::ffi::{CString, c_int};
use std::ptr;

use super::check;
use crate::reply::{Failure, usage};

/// fork(2): 0 in the child.
pub fn fork() -> Result<i32, Failure> {
    // SAFETY: every command runs while this process has one thread (`thread` refuses to fork), so
    // the child may go on running Rust code.
    check(unsafe { libc::fork() }, "fork")
}

/// Waits for a child's end and says how it was: `exited 0`, `killed SIGKILL`.
pub fn wait(pid: i32) -> Result<String, Failure> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) }, "waitpid")?;
    if libc::WIFEXITED(status) {
        return Ok(format!("exited {}", libc::WEXITSTATUS(status)));
    }
    let signal = libc::WTERMSIG(status);
    let named = crate::process::SIGNALS
        .iter()
        .find(|(_, number)| *number == signal);
    Ok(named.map_or_else(
        || format!("killed {signal}"),
        |(name, _)| format!("killed SIG{name}"),
    ))
}

pub fn kill(pid: i32, signal: c_int) -> Result<(), Failure> {
    // SAFETY: takes numbers, touches no memory.
    check(unsafe { libc::kill(pid, signal) }, "kill").map(drop)
}

/// exit(2): the end of the calling thread alone.
pub fn exit_thread() -> ! {
    loop {
        // SAFETY: takes a number. The thread's stack stays mapped, so what other threads borrowed
        // from it is still there.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

pub fn unshare_user() -> Result<(), Failure> {
    // SAFETY: takes a number, touches no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, "unshare").map(drop)
}

pub fn ptrace_seize(pid: i32) -> Result<(), Failure> {
    // SAFETY: takes numbers; nothing of this process is touched.
    let returned = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    check(returned, "PTRACE_SEIZE").map(drop)
}

pub fn steal_fd(pid: i32, fd: c_int) -> Result<c_int, Failure> {
    // SAFETY: takes numbers, touches no memory.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let pidfd = check(pidfd, "pidfd_open")? as c_int;
    // SAFETY: as above.
    let stolen = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0) };
    let stolen = check(stolen, "pidfd_getfd").map(|fd| fd as c_int);
    super::close(pidfd)?;
    stolen
}

/// pause(2), for ever: a signal that is handled or ignored does not end it.
pub fn pause() -> ! {
    loop {
        // SAFETY: takes nothing, touches no memory.
        unsafe { libc::pause() };
    }
}

/// What a signal does.
#[derive(Clone, Copy)]
pub enum Disposition {
    Ignore,
    Default,
    /// A handler that does nothing; without `restart` the call that it interrupts fails.
    Catch {
        restart: bool,
    },
}

extern "C" fn caught(_signal: c_int) {}

pub fn set_signal(signal: c_int, what: Disposition) -> Result<(), Failure> {
    // SAFETY: `sigaction` is made of integers and a pointer that may be null.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = match what {
        Disposition::Ignore => libc::SIG_IGN,
        Disposition::Default => libc::SIG_DFL,
        Disposition::Catch { .. } => caught as *const () as libc::sighandler_t,
    };
    if let Disposition::Catch { restart: true } = what {
        action.sa_flags = libc::SA_RESTART;
    }
    // SAFETY: the only handler does nothing, which is allowed in signal context.
    check(
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) },
        "sigaction",
    )
    .map(drop)
}

/// Installs a seccomp filter that forbids vhangup(2), or one that wants to be notified of it.
pub fn filter(listens: bool) -> Result<(), Failure> {
    let (forbid, flags) = if listens {
        (
            libc::SECCOMP_RET_USER_NOTIF,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        )
    } else {
        (libc::SECCOMP_RET_ERRNO | libc::EXDEV as u32, 0)
    };
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equals = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    // SAFETY: these only fill in a structure.
    let steps = unsafe {
        [
            libc::BPF_STMT(load, 0),
            libc::BPF_JUMP(equals, libc::SYS_vhangup as u32, 0, 1),
            libc::BPF_STMT(answer, forbid),
            libc::BPF_STMT(answer, libc::SECCOMP_RET_ALLOW),
        ]
    };
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_ptr().cast_mut(),
    };
    // SAFETY: numbers, and a program that the kernel copies.
    unsafe {
        check(
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            "PR_SET_NO_NEW_PRIVS",
        )?;
        check(
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            ),
            "seccomp",
        )
        .map(drop)
    }
}

/// vhangup(2): what [`filter`] forbids.
pub fn hang_up() -> Result<(), Failure> {
    // SAFETY: takes nothing, touches no memory.
    check(unsafe { libc::vhangup() }, "vhangup").map(drop)
}

pub fn set_comm(name: &str) -> Result<(), Failure> {
    let Ok(name) = CString::new(name) else {
        return usage("a name has no NUL in it");
    };
    // SAFETY: the kernel reads up to 16 bytes of a NUL-terminated string.
    check(
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) },
        "PR_SET_NAME",
    )
    .map(drop)
}

pub fn set_uid(uid: u32) -> Result<(), Failure> {
    // SAFETY: takes numbers, touches no memory.
    check(unsafe { libc::setresuid(uid, uid, uid) }, "setresuid").map(drop)
}

pub fn uid() -> u32 {
    // SAFETY: takes nothing, touches no memory.
    unsafe { libc::getuid() }
}

pub fn set_dumpable() -> Result<(), Failure> {
    // SAFETY: takes numbers, touches no memory.
    check(
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) },
        "PR_SET_DUMPABLE",
    )
    .map(drop)
}

pub fn unshare(namespaces: c_int) -> Result<(), Failure> {
    // SAFETY: takes flags; this process has one thread, so nothing is shared with another.
    check(unsafe { libc::unshare(namespaces) }, "unshare").map(drop)
}

/// A tmpfs on a directory, seen in this mount namespace only.
pub fn mount_tmpfs(directory: &str) -> Result<(), Failure> {
    let Ok(directory) = CString::new(directory) else {
        return usage("a path has no NUL in it");
    };
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: literals and null pointers, which MS_PRIVATE does not read.
    let returned = unsafe {
        libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            private,
            ptr::null(),
        )
    };
    check(returned, "mount /")?;
    // SAFETY: NUL-terminated strings that outlive the call, and no options.
    let returned = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            directory.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            ptr::null(),
        )
    };
    check(returned, "mount tmpfs").map(drop)
}

/// RLIMIT_NOFILE, both limits.
pub fn set_open_files(most: u64) -> Result<(), Failure> {
    set_limit(libc::RLIMIT_NOFILE, most)
}

/// RLIMIT_MEMLOCK, both limits, in bytes.
pub fn set_locked_memory(most: u64) -> Result<(), Failure> {
    set_limit(libc::RLIMIT_MEMLOCK, most)
}

fn set_limit(what: libc::__rlimit_resource_t, most: u64) -> Result<(), Failure> {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the kernel reads one structure that outlives the call.
    let returned = unsafe { libc::setrlimit(what, &raw const limit) };
    check(returned, "setrlimit").map(drop)
}
