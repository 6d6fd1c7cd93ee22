//! Loads in tight loops, for `cargo xtask bench`: each answers how long it took, in nanoseconds of
//! CLOCK_MONOTONIC, which are executed instructions where the guest's clock counts those. Everything
//! that is not measured is done before or after.

use std::ffi::c_int;
use std::ptr;
use std::time::{Duration, Instant};

use crate::actor::Actor;
use crate::command::{self, Arguments, Command};
use crate::memory::Mapping;
use crate::reply::{Answer, Failure, Reply, value};
use crate::sys;
use crate::uring_abi::{REGISTER_BUFFERS, UNREGISTER_BUFFERS};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "time",
        arguments: "TIMES COMMAND ...",
        summary: "performs commands, separated by ` ; `, so often",
        run: commands,
    },
    Command {
        name: "time-any",
        arguments: "COMMAND ...",
        summary: "performs one command, whatever it answers",
        run: any,
    },
    Command {
        name: "time-buffers",
        arguments: "RING MAP TIMES",
        summary: "IORING_REGISTER_BUFFERS and IORING_UNREGISTER_BUFFERS",
        run: buffers,
    },
    Command {
        name: "register-again",
        arguments: "RING MAP COUNT",
        summary: "IORING_REGISTER_BUFFERS with the same mapping so many times: as many pins of each page",
        run: register_again,
    },
    Command {
        name: "time-read",
        arguments: "FD MAP TIMES",
        summary: "pread(2) from the file's start",
        run: read,
    },
    Command {
        name: "time-close",
        arguments: "PATH TIMES",
        summary: "close(2) of so many descriptors, each opened for itself",
        run: close,
    },
    Command {
        name: "time-fcntl",
        arguments: "FD TIMES",
        summary: "F_GETFL",
        run: fcntl,
    },
    Command {
        name: "time-ioctl",
        arguments: "FD TIMES",
        summary: "FIONREAD",
        run: ioctl,
    },
    Command {
        name: "time-lease",
        arguments: "FD TIMES",
        summary: "F_SETLEASE with F_WRLCK and with F_UNLCK",
        run: lease,
    },
    Command {
        name: "time-unlock",
        arguments: "DIRECTORY FILES",
        summary: "F_SETLEASE with F_UNLCK alone, of a lease on each of so many new files",
        run: unlock,
    },
];

/// How long `work` took.
fn clocked(work: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn answer(took: Duration) -> Answer {
    value(took.as_nanos())
}

fn commands(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let times: u32 = arguments.number(0)?;
    let line = arguments.rest();
    let (_, lines) = line.split_once(' ').unwrap_or_default();
    let lines: Vec<&str> = lines.split(" ; ").collect();
    Ok(answer(clocked(|| {
        for line in (0..times).flat_map(|_| &lines) {
            command::perform(actor, line)?;
        }
        Ok(())
    })?))
}

fn any(actor: &mut Actor, arguments: &Arguments) -> Reply {
    Ok(answer(clocked(|| {
        // What it answers is not what is asked.
        _ = command::perform(actor, &arguments.rest());
        Ok(())
    })?))
}

const fn iovec(map: &Mapping) -> libc::iovec {
    libc::iovec {
        iov_base: map.address,
        iov_len: map.length,
    }
}

fn buffers(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    let buffer = iovec(actor.maps.get(arguments.word(1))?);
    let times: u32 = arguments.number(2)?;
    Ok(answer(clocked(|| {
        for _ in 0..times {
            sys::io_uring_register(ring, REGISTER_BUFFERS, (&raw const buffer).cast(), 1)?;
            sys::io_uring_register(ring, UNREGISTER_BUFFERS, ptr::null(), 0)?;
        }
        Ok(())
    })?))
}

fn register_again(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let ring = *actor.fds.get(arguments.word(0))?;
    let buffer = iovec(actor.maps.get(arguments.word(1))?);
    let buffers = vec![buffer; arguments.number(2)?];
    let count = buffers.len() as u32;
    Ok(answer(clocked(|| {
        sys::io_uring_register(ring, REGISTER_BUFFERS, buffers.as_ptr().cast(), count).map(drop)
    })?))
}

fn read(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let Mapping {
        address, length, ..
    } = *actor.maps.get(arguments.word(1))?;
    let times: u32 = arguments.number(2)?;
    Ok(answer(clocked(|| {
        for _ in 0..times {
            sys::pread(fd, address, length)?;
        }
        Ok(())
    })?))
}

fn close(_: &mut Actor, arguments: &Arguments) -> Reply {
    let path = arguments.word(0);
    let fds = (0..arguments.number(1)?)
        .map(|_| sys::open(path, libc::O_RDONLY))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(answer(clocked(|| {
        fds.into_iter().try_for_each(sys::close)
    })?))
}

fn fcntl(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let times: u32 = arguments.number(1)?;
    Ok(answer(clocked(|| {
        for _ in 0..times {
            sys::fcntl(fd, libc::F_GETFL, 0, "F_GETFL")?;
        }
        Ok(())
    })?))
}

fn ioctl(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let times: u32 = arguments.number(1)?;
    Ok(answer(clocked(|| {
        for _ in 0..times {
            sys::unread(fd).map(drop)?;
        }
        Ok(())
    })?))
}

fn set_lease(fd: c_int, mode: c_int) -> Result<(), Failure> {
    sys::fcntl(fd, libc::F_SETLEASE, mode, "F_SETLEASE").map(drop)
}

fn lease(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let times: u32 = arguments.number(1)?;
    Ok(answer(clocked(|| {
        for _ in 0..times {
            set_lease(fd, libc::F_WRLCK)?;
            set_lease(fd, libc::F_UNLCK)?;
        }
        Ok(())
    })?))
}

fn unlock(_: &mut Actor, arguments: &Arguments) -> Reply {
    let directory = arguments.word(0);
    let mut took = Duration::ZERO;
    for number in 0..arguments.number::<u32>(1)? {
        let fd = sys::open(
            &format!("{directory}/{number}"),
            libc::O_RDWR | libc::O_CREAT,
        )?;
        set_lease(fd, libc::F_WRLCK)?;
        took += clocked(|| set_lease(fd, libc::F_UNLCK))?;
        sys::close(fd)?;
    }
    Ok(answer(took))
}
