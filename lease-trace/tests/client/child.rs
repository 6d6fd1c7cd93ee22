//! Forked actors: made, spoken to, given descriptors, and waited for.

use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{Answer, DONE, Failure, Reply, usage, value};
use crate::sys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "fork",
        arguments: "NAME",
        summary: "fork(2); answers with the child's pid",
        run: fork,
    },
    Command {
        name: "fork-apart",
        arguments: "COMMANDS ANSWERS",
        summary: "fork(2); the child is spoken to through these two FIFOs, and outlives its parent",
        run: fork_apart,
    },
    Command {
        name: "wait",
        arguments: "NAME",
        summary: "waits until the child has ended, and says how",
        run: wait,
    },
    Command {
        name: "kill",
        arguments: "NAME SIGNAL",
        summary: "sends a child a signal, like KILL",
        run: kill,
    },
    Command {
        name: "socketpair",
        arguments: "SLOT OTHER",
        summary: "socketpair(2): two more ends for messages, closed like any descriptor",
        run: socketpair,
    },
    Command {
        name: "send-fd",
        arguments: "SLOT NAME|parent",
        summary: "SCM_RIGHTS: puts a descriptor into a message to a child, to the parent, or out of an end",
        run: send_fd,
    },
    Command {
        name: "recv-fd",
        arguments: "SLOT NAME|parent",
        summary: "takes a descriptor out of such a message",
        run: receive_fd,
    },
];

/// A forked actor, seen from its parent.
pub struct Child {
    pid: i32,
    commands: OwnedFd,
    answers: OwnedFd,
    socket: OwnedFd,
}

fn fork(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let name = arguments.word(0);
    if name == "parent" {
        return usage("`parent` is what a child calls this process");
    }
    actor.children.free(name)?;
    let (stdin, commands) = sys::pipe()?;
    let (answers, stdout) = sys::pipe()?;
    let (socket, other_socket) = sys::pair()?;
    match sys::fork()? {
        0 => {
            sys::dup2(stdin.as_raw_fd(), libc::STDIN_FILENO)?;
            sys::dup2(stdout.as_raw_fd(), libc::STDOUT_FILENO)?;
            // The ends of other conversations: kept open, they would hide their ends of file.
            actor.children.clear();
            actor.parent = Some(other_socket);
            Ok(Answer::Silent)
        }
        pid => {
            actor.children.put(
                name,
                Child {
                    pid,
                    commands,
                    answers,
                    socket,
                },
            );
            Ok(value(pid))
        }
    }
}

fn fork_apart(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (commands, answers) = (arguments.word(0), arguments.word(1));
    match sys::fork()? {
        0 => {
            for (path, flags, number) in [
                (commands, libc::O_RDONLY, libc::STDIN_FILENO),
                (answers, libc::O_WRONLY, libc::STDOUT_FILENO),
            ] {
                let fd = sys::open(path, flags)?;
                sys::dup2(fd, number)?;
                sys::close(fd)?;
            }
            actor.children.clear();
            actor.parent = None;
            Ok(Answer::Silent)
        }
        pid => Ok(value(pid)),
    }
}

/// Hands a line to a child and its answer back. A command that ends the child is answered here,
/// with how it ended.
pub fn forward(actor: &mut Actor, name: &str, line: &str) -> Reply {
    let child = actor.children.get(name)?;
    if sys::write_line(child.commands.as_raw_fd(), line).is_err() {
        return reap(actor, name);
    }
    let mut text = String::new();
    while let Some(line) = sys::read_line(child.answers.as_raw_fd()) {
        text += &line;
        if line == "ok" || line.starts_with("ok ") || line.starts_with("error ") {
            return Ok(Answer::Verbatim(text));
        }
        text.push('\n');
    }
    reap(actor, name)
}

fn reap(actor: &mut Actor, name: &str) -> Reply {
    let ended = sys::wait(actor.children.get(name)?.pid)?;
    actor.children.take(name)?;
    Ok(value(ended))
}

fn wait(actor: &mut Actor, arguments: &Arguments) -> Reply {
    reap(actor, arguments.word(0))
}

fn kill(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let signal = arguments.choice(1, crate::process::SIGNALS)?;
    sys::kill(actor.children.get(arguments.word(0))?.pid, signal)?;
    DONE
}

fn socketpair(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, other) = (arguments.word(0), arguments.word(1));
    actor.fds.free(slot)?;
    actor.fds.free(other)?;
    let (one, two) = sys::pair()?;
    actor.fds.put(slot, one.into_raw_fd());
    actor.fds.put(other, two.into_raw_fd());
    DONE
}

fn send_fd(actor: &mut Actor, arguments: &Arguments) -> Reply {
    sys::send_fd(
        peer(actor, arguments.word(1))?,
        *actor.fds.get(arguments.word(0))?,
    )?;
    DONE
}

fn receive_fd(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    actor.fds.free(slot)?;
    let fd = sys::receive_fd(peer(actor, arguments.word(1))?)?;
    actor.fds.put(slot, fd);
    DONE
}

fn peer(actor: &Actor, name: &str) -> Result<RawFd, Failure> {
    if let Ok(end) = actor.fds.get(name) {
        return Ok(*end);
    }
    if name != "parent" {
        return Ok(actor.children.get(name)?.socket.as_raw_fd());
    }
    match &actor.parent {
        Some(socket) => Ok(socket.as_raw_fd()),
        None => usage("this actor was not forked from another"),
    }
}
