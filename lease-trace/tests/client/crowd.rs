//! Many processes at once, each with leases and a pin of its own. They are not spoken to one by one:
//! all let go at the same moment, and end at the same moment.

use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Failure, Reply, usage, value};
use crate::sys;
use crate::uring_abi::REGISTER_BUFFERS;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "crowd",
        arguments: "SLOT COUNT LEASES DIRECTORY",
        summary: "so many processes, each with so many leased files and a page of one in a ring",
        run: gather,
    },
    Command {
        name: "crowd-unlock",
        arguments: "SLOT",
        summary: "F_SETLEASE with F_UNLCK of all of them, and waits until it is done",
        run: unlock,
    },
    Command {
        name: "crowd-end",
        arguments: "SLOT",
        summary: "exit(2) of all of them, and waits until they are gone",
        run: end,
    },
];

/// Children that wait for an end of file on one pipe, then on the other, and tell of each step by a
/// line on a third.
pub struct Crowd {
    pids: Vec<i32>,
    hold_leases: Option<OwnedFd>,
    hold_pins: OwnedFd,
    told: OwnedFd,
}

fn gather(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, directory) = (arguments.word(0), arguments.word(3));
    let (count, leases): (u32, u32) = (arguments.number(1)?, arguments.number(2)?);
    actor.crowds.free(slot)?;
    let (unlock, hold_leases) = sys::pipe()?;
    let (end, hold_pins) = sys::pipe()?;
    let (told, tell) = sys::pipe()?;
    let mut pids = Vec::new();
    for number in 0..count {
        match sys::fork()? {
            0 => {
                drop((hold_leases, hold_pins));
                let path = format!("{directory}/{number}");
                let failed = member(&path, leases, [&unlock, &end], &tell).is_err();
                if failed {
                    _ = sys::write_line(tell.as_raw_fd(), "failed");
                }
                std::process::exit(i32::from(failed))
            }
            pid => pids.push(pid),
        }
        hear(&told, 1)?;
    }
    actor.crowds.put(
        slot,
        Crowd {
            pids,
            hold_leases: Some(hold_leases),
            hold_pins,
            told,
        },
    );
    Ok(value(count))
}

/// What each of them does.
fn member(path: &str, leases: u32, steps: [&OwnedFd; 2], tell: &OwnedFd) -> Result<(), Failure> {
    const PAGE: usize = 4096;
    let ring = sys::io_uring_setup(1)?;
    let mut fds = Vec::new();
    for number in 0..leases {
        let fd = sys::open(&format!("{path}-{number}"), libc::O_RDWR | libc::O_CREAT)?;
        sys::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK, "F_SETLEASE")?;
        fds.push(fd);
    }
    sys::truncate(fds[0], PAGE)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let buffer = libc::iovec {
        iov_base: sys::mmap(PAGE, protection, libc::MAP_SHARED, fds[0])?,
        iov_len: PAGE,
    };
    sys::io_uring_register(ring, REGISTER_BUFFERS, (&raw const buffer).cast(), 1)?;
    let [unlock, end] = steps;
    sys::write_line(tell.as_raw_fd(), "")?;
    _ = sys::read_line(unlock.as_raw_fd());
    for fd in fds {
        sys::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK, "F_SETLEASE")?;
    }
    sys::write_line(tell.as_raw_fd(), "")?;
    _ = sys::read_line(end.as_raw_fd());
    Ok(())
}

/// Waits until so many of them have told of their step.
fn hear(told: &OwnedFd, count: usize) -> Result<(), Failure> {
    for _ in 0..count {
        if sys::read_line(told.as_raw_fd()).as_deref() != Some("") {
            return usage("one of the crowd failed");
        }
    }
    Ok(())
}

fn unlock(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let crowd = actor.crowds.get_mut(arguments.word(0))?;
    crowd.hold_leases = None;
    hear(&crowd.told, crowd.pids.len())?;
    DONE
}

fn end(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let crowd = actor.crowds.take(arguments.word(0))?;
    drop((crowd.hold_leases, crowd.hold_pins));
    for pid in crowd.pids {
        sys::wait(pid)?;
    }
    DONE
}
