//! Supervisor and guardian, beside the process that becomes the command.
//!
//! As with env(1), it is the calling process that executes the command, so that its parent sees
//! nothing but the command: pid, terminal, job control and exit status are its own. The two who
//! watch are nobody's children whom it would have to wait for, and in a session of their own,
//! where no signal of the terminal reaches them.

use std::{
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    process,
};

use anyhow::Context as _;
use libc::sock_filter;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    filter,
    guardian::{self, OnDeath},
    judge::Judge,
    listener::Listener,
    outstanding::Outstanding,
    supervisor::Supervisor,
    tell,
    witness::Witness,
};
use crate::{
    enrich::{Names, cgroup::Cgroups},
    exit::{self, Exit},
    tracer::{self, wakeup::Watch},
};

/// What is to be done.
pub struct Orders {
    pub judge: Judge,
    pub options: tracer::Options,
    pub on_death: OnDeath,
}

/// The ends by which the two are given the listener.
pub struct Family {
    supervisor: OwnedFd,
    guardian: OwnedFd,
}

/// Starts both and waits until the supervisor watches. `Err` in the inner result: it has said why
/// it cannot.
pub fn start(orders: Orders) -> anyhow::Result<Result<Family, Exit>> {
    let outstanding = Outstanding::new().context("cannot map memory")?;
    let (supervisor, its) = pair()?;
    let (guardian, guardians) = pair()?;
    match fork()? {
        0 => {
            // The process between, whose end makes the two nobody's children.
            _ = rustix::process::setsid();
            match fork() {
                Ok(0) => be_guardian(orders, outstanding, guardians, its),
                Ok(_) => process::exit(0),
                Err(error) => {
                    tell::say(&format!("{error:#}"));
                    process::exit(Exit::Error.status().into())
                }
            }
        }
        between => wait(between)?,
    };
    drop((its, guardians));
    let mut status = [Exit::Error.status()];
    rustix::io::read(&supervisor, &mut status).context("cannot hear of the supervisor")?;
    Ok(match status {
        [0] => Ok(Family {
            supervisor,
            guardian,
        }),
        [3] => Err(Exit::Unsupported),
        _ => Err(Exit::Error),
    })
}

impl Family {
    /// From here on this process and all that come of it are asked about.
    pub fn adopt(self) -> anyhow::Result<()> {
        let listener = listen(&filter::program())
            .context("cannot install the seccomp filter; the kernel needs CONFIG_SECCOMP_FILTER")?;
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .context("cannot refer to this process")?;
        for socket in [&self.supervisor, &self.guardian] {
            send(socket.as_fd(), [listener.as_fd(), own.as_fd()])
                .context("cannot hand over the listener")?;
        }
        Ok(())
    }
}

/// Whether this process can have a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Free = 0,
    /// It has one already, and there can be only one.
    Taken = 1,
    /// This kernel has none to give.
    None = 2,
}

/// Asks the kernel.
pub fn room() -> anyhow::Result<Room> {
    // SAFETY: an instruction that returns, which the kernel checks, too.
    let allow = unsafe {
        libc::BPF_STMT(
            (libc::BPF_RET | libc::BPF_K) as u16,
            libc::SECCOMP_RET_ALLOW,
        )
    };
    match fork()? {
        // A filter stays, so another process tries.
        0 => {
            let errno = listen(&[allow]).err().map(|error| error.raw_os_error());
            process::exit(match errno {
                None => Room::Free,
                Some(Some(libc::EBUSY)) => Room::Taken,
                Some(_) => Room::None,
            } as i32)
        }
        child => Ok(match wait(child)? {
            Ended::Exited(0) => Room::Free,
            Ended::Exited(1) => Room::Taken,
            _ => Room::None,
        }),
    }
}

/// Installs a filter; what it wants to be asked about is heard from the descriptor.
fn listen(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: prctl(2) with numbers; the kernel copies the program, whose length is given.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

fn be_guardian(
    orders: Orders,
    outstanding: Outstanding,
    socket: OwnedFd,
    supervisors: OwnedFd,
) -> ! {
    let on_death = orders.on_death;
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if let Err(error) = leave_behind(&[&socket, &supervisors]) {
        tell::say(&format!("cannot close what the command has: {error}"));
        process::exit(Exit::Error.status().into());
    }
    let supervisor = match fork() {
        Ok(0) => {
            drop(socket);
            be_supervisor(orders, outstanding, &supervisors)
        }
        Ok(pid) => pid,
        Err(error) => {
            tell::say(&format!("{error:#}"));
            process::exit(Exit::Error.status().into());
        }
    };
    drop(supervisors);
    let Ok(Some(Command { listener, process })) = receive(socket.as_fd()) else {
        process::exit(0);
    };
    let listener = Listener::new(listener);
    be_quiet_after(&process, supervisor);
    let Ok(ended) = wait(supervisor) else {
        process::exit(0);
    };
    if ended != Ended::Exited(0)
        && let Err(error) =
            guardian::take_over(&listener, &outstanding, on_death, &ended.to_string())
    {
        tell::say(&format!("cannot answer in the supervisor's place: {error}"));
    }
    process::exit(0)
}

fn be_supervisor(orders: Orders, outstanding: Outstanding, socket: &OwnedFd) -> ! {
    let mut ready = false;
    let done = supervise(orders, outstanding, socket, &mut ready);
    let status = exit::conclude(done.map(|()| Exit::Done)).status();
    if !ready {
        _ = rustix::io::write(socket, &[status]);
    }
    process::exit(status.into())
}

fn supervise(
    Orders { judge, options, .. }: Orders,
    outstanding: Outstanding,
    socket: &OwnedFd,
    ready: &mut bool,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        let witness = Witness::start(options)?;
        let watch = Watch::open()?;
        let names = Names::new(Cgroups::of_host());
        if let Err(error) = names.check() {
            tell::say(&format!("not seen: consumers: {error}"));
        }
        rustix::io::write(socket, &[0]).context("cannot say that all is ready")?;
        *ready = true;
        // Without one there is no command.
        let command = receive(socket.as_fd()).context("cannot take the listener")?;
        let Some(Command { listener, process }) = command else {
            return witness.end();
        };
        let listener = Listener::new(listener);
        let supervisor = Supervisor::new(listener, outstanding, judge, names, witness, watch)?;
        supervisor.run(process).await
    })
}

/// Until the supervisor has ended; if the command does before, says nothing any more.
fn be_quiet_after(command: &OwnedFd, supervisor: libc::pid_t) {
    let supervisor =
        Pid::from_raw(supervisor).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(supervisor) = supervisor else { return };
    let mut ends = [
        PollFd::new(&supervisor, PollFlags::IN),
        PollFd::new(command, PollFlags::IN),
    ];
    while poll(&mut ends, None).is_err() {}
    if !ends[1].revents().is_empty() {
        be_quiet();
    }
}

/// The command has ended, and whoever reads its stderr waits for the end of it: where a process is
/// not reaped, an older kernel does not say yet that nobody is left (6.1, kernel/exit.c,
/// `release_task`).
pub fn be_quiet() {
    if let Ok(null) = fs::OpenOptions::new().write(true).open("/dev/null") {
        _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Keeps nothing of what the command's process has but stderr and these: a leased file among it
/// would never be closed for the last time.
fn leave_behind(keep: &[&OwnedFd]) -> io::Result<()> {
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    let is_kept = |fd: RawFd| fd <= 2 || keep.iter().any(|kept| kept.as_raw_fd() == fd);
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let fd = entry?.file_name().to_str().and_then(|fd| fd.parse().ok());
        others.extend(fd.filter(|fd| !is_kept(*fd)));
    }
    std::mem::forget(null);
    for fd in others {
        // SAFETY: what this process has inherited and does not use: its own descriptors are among
        // those kept.
        unsafe { libc::close(fd) };
    }
    std::env::set_current_dir("/")
}

fn pair() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("cannot make a pair of sockets")
}

/// What the command's process hands over.
struct Command {
    listener: OwnedFd,
    /// Its pidfd.
    process: OwnedFd,
}

fn send(socket: BorrowedFd, fds: [BorrowedFd; 2]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        socket,
        &[io::IoSlice::new(&[0])],
        &mut message,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// What is in the next message; nothing if none will come.
fn receive(socket: BorrowedFd) -> io::Result<Option<Command>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut byte)],
        &mut message,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let found = message.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => Some(Command {
            listener: fds.next()?,
            process: fds.next()?,
        }),
        _ => None,
    });
    Ok(found)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Exited(i32),
    Killed(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(out, "ended with status {status}"),
            Self::Killed(signal) => write!(out, "was ended by signal {signal}"),
        }
    }
}

fn fork() -> anyhow::Result<libc::pid_t> {
    // SAFETY: this program has started no thread yet, so that the child may do whatever it may.
    match unsafe { libc::fork() } {
        pid if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()).context("cannot fork"),
    }
}

fn wait(child: libc::pid_t) -> anyhow::Result<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid(2) writes to a local.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            break;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Whoever started this ignores SIGCHLD: the process is gone and nobody was told how.
            Some(libc::ECHILD) => return Ok(Ended::Exited(0)),
            _ => return Err(error).context("cannot wait for a process"),
        }
    }
    Ok(if libc::WIFSIGNALED(status) {
        Ended::Killed(libc::WTERMSIG(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status))
    })
}
