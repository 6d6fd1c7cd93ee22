//! Commands in the background: a call that waits must not keep the actor from being told more.

use std::os::fd::RawFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{Builder, JoinHandle};

use crate::actor::Actor;
use crate::command::{self, Arguments, Command};
use crate::memory::Mapping;
use crate::reply::{self, DONE, Failure, Reply, usage, value};
use crate::slots::Slots;
use crate::sys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "begin",
        arguments: "NAME COMMAND ...",
        summary: "performs a command on descriptors and mappings, on a thread of its own",
        run: begin,
    },
    Command {
        name: "finish",
        arguments: "NAME",
        summary: "waits for the thread, and answers as its command did",
        run: finish,
    },
    Command {
        name: "begin-closing",
        arguments: "NAME SLOT COUNT",
        summary: "so many threads that each close(2) a duplicate at once, one of them SLOT itself",
        run: begin_closing,
    },
    Command {
        name: "begin-own-table",
        arguments: "NAME",
        summary: "a thread with a table of descriptors of its own, as they are now; it ends with `finish`",
        run: begin_own_table,
    },
];

/// A command under way.
pub struct Thread {
    /// Nothing for the threads that only close.
    performed: JoinHandle<(Reply, Option<[Shadow; 2]>)>,
    /// Where it waits for this to be dropped.
    waits: Option<Sender<()>>,
}

/// What the command may use: as it was when it began, or as it left it.
struct Shadow {
    fds: Slots<RawFd>,
    maps: Slots<Mapping>,
}

fn begin(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (name, line) = (arguments.word(0), arguments.rest());
    actor.threads.free(name)?;
    if ["fork", "exec-self", "begin"].contains(&arguments.word(1)) {
        return usage("a thread cannot be asked for that");
    }
    let line = line.split_once(' ').map(|(_, rest)| rest.to_owned());
    let line = line.unwrap_or_default();
    let mut own = Actor::new();
    (own.fds, own.maps) = (actor.fds.copy(), actor.maps.copy());
    let before = Shadow {
        fds: actor.fds.copy(),
        maps: actor.maps.copy(),
    };
    let spawned = Builder::new().spawn(move || {
        let reply = command::perform(&mut own, &line);
        let Actor { fds, maps, .. } = own;
        (reply, Some([before, Shadow { fds, maps }]))
    });
    let performed = spawned.map_err(|error| Failure::of(&error, "clone"))?;
    let waits = None;
    actor.threads.put(name, Thread { performed, waits });
    DONE
}

fn finish(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let Thread { performed, waits } = actor.threads.take(arguments.word(0))?;
    drop(waits);
    let Ok((reply, left)) = performed.join() else {
        return usage("the thread did not survive the command");
    };
    if let Some([before, left]) = left {
        actor.fds.drop_those_lost(&before.fds, &left.fds);
        actor.maps.drop_those_lost(&before.maps, &left.maps);
    }
    reply
}

fn begin_closing(actor: &mut Actor, arguments: &Arguments) -> Reply {
    const STACK: usize = 64 << 10;
    let (name, slot) = (arguments.word(0), arguments.word(1));
    let count: usize = arguments.number(2)?;
    actor.threads.free(name)?;
    let first = *actor.fds.get(slot)?;
    let mut fds = vec![first];
    while fds.len() < count {
        fds.push(sys::dup(first)?);
    }
    let barrier = Arc::new(Barrier::new(count));
    let mut threads = Vec::new();
    for fd in fds {
        let barrier = Arc::clone(&barrier);
        let spawned = Builder::new().stack_size(STACK).spawn(move || {
            barrier.wait();
            sys::close(fd)
        });
        threads.push(spawned.map_err(|error| Failure::of(&error, "clone"))?);
    }
    let spawned = Builder::new().spawn(move || {
        let ends = threads.into_iter().map(JoinHandle::join);
        let closed = ends.filter(|end| matches!(end, Ok(Ok(())))).count();
        (Ok(reply::Answer::Values(closed.to_string())), None)
    });
    let performed = spawned.map_err(|error| Failure::of(&error, "clone"))?;
    actor.fds.take(slot)?;
    let waits = None;
    actor.threads.put(name, Thread { performed, waits });
    Ok(value(count))
}

fn begin_own_table(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let name = arguments.word(0);
    actor.threads.free(name)?;
    let (told, has_it) = channel();
    let (waits, end) = channel::<()>();
    let spawned = Builder::new().spawn(move || {
        _ = told.send(sys::unshare(libc::CLONE_FILES));
        _ = end.recv();
        (DONE, None)
    });
    let performed = spawned.map_err(|error| Failure::of(&error, "clone"))?;
    has_it.recv().expect("the thread says so")?;
    let waits = Some(waits);
    actor.threads.put(name, Thread { performed, waits });
    DONE
}
