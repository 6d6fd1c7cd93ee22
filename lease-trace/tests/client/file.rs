//! Files and descriptors: opening, duplicating, and every way of letting go of one.

use std::os::fd::RawFd;

use libc::c_int;

use crate::command::{Arguments, Command};
use crate::reply::{DONE, Failure, Reply, usage, value};
use crate::{actor::Actor, sys};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "open",
        arguments: "SLOT PATH FLAGS",
        summary: "open(2); FLAGS joined by commas: ro rw wo creat excl trunc cloexec nonblock direct",
        run: open,
    },
    Command {
        name: "memfd",
        arguments: "SLOT LEN [hugetlb]",
        summary: "memfd_create(2) with MFD_ALLOW_SEALING, and its length",
        run: memfd,
    },
    Command {
        name: "seal",
        arguments: "SLOT",
        summary: "F_ADD_SEALS with F_SEAL_SHRINK: a memfd that keeps its length",
        run: seal,
    },
    Command {
        name: "close",
        arguments: "SLOT",
        summary: "close(2)",
        run: close,
    },
    Command {
        name: "close-32",
        arguments: "SLOT",
        summary: "close(2) through the 32-bit entry",
        run: close_32,
    },
    Command {
        name: "close_range",
        arguments: "FIRST LAST",
        summary: "close_range(2) from one slot's number to another's",
        run: close_range,
    },
    Command {
        name: "dup",
        arguments: "OLD NEW",
        summary: "dup(2) into a new slot: the same open file description",
        run: dup,
    },
    Command {
        name: "dup-many",
        arguments: "SLOT COUNT",
        summary: "dup(2) so often, without slots: they are closed when the process ends",
        run: dup_many,
    },
    Command {
        name: "open-many",
        arguments: "COUNT PATH",
        summary: "open(2) to read so often, without slots: they are closed when the process ends",
        run: open_many,
    },
    Command {
        name: "dup2",
        arguments: "OLD NEW",
        summary: "dup2(2) over a slot that is open: that one is closed",
        run: dup2,
    },
    Command {
        name: "dup3",
        arguments: "OLD NEW",
        summary: "dup3(2), the same with O_CLOEXEC",
        run: dup3,
    },
    Command {
        name: "move-fd",
        arguments: "SLOT NUMBER",
        summary: "dup2(2) to that number, and close(2) of the old one",
        run: move_fd,
    },
    Command {
        name: "cloexec",
        arguments: "SLOT on|off",
        summary: "F_SETFD: whether exec closes it",
        run: cloexec,
    },
    Command {
        name: "truncate",
        arguments: "SLOT LEN",
        summary: "ftruncate(2)",
        run: truncate,
    },
    Command {
        name: "punch-hole",
        arguments: "SLOT OFFSET LEN",
        summary: "fallocate(2) with FALLOC_FL_PUNCH_HOLE",
        run: punch_hole,
    },
    Command {
        name: "write-all",
        arguments: "SLOT LEN",
        summary: "write(2) until the file has LEN bytes from its start",
        run: write_all,
    },
];

const FLAGS: &[(&str, c_int)] = &[
    ("ro", libc::O_RDONLY),
    ("rw", libc::O_RDWR),
    ("wo", libc::O_WRONLY),
    ("creat", libc::O_CREAT),
    ("excl", libc::O_EXCL),
    ("trunc", libc::O_TRUNC),
    ("cloexec", libc::O_CLOEXEC),
    ("nonblock", libc::O_NONBLOCK),
    ("direct", libc::O_DIRECT),
    ("directory", libc::O_DIRECTORY),
];

fn open(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, path) = (arguments.word(0), arguments.word(1));
    actor.fds.free(slot)?;
    let mut flags = 0;
    for word in arguments.word(2).split(',') {
        match FLAGS.iter().find(|(name, _)| *name == word) {
            Some((_, flag)) => flags |= flag,
            None => return usage(format!("`{word}` is no open flag")),
        }
    }
    actor.fds.put(slot, sys::open(path, flags)?);
    DONE
}

fn memfd(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, length) = (arguments.word(0), arguments.length(1)?);
    actor.fds.free(slot)?;
    let huge = arguments.optional(2).map_or(Ok(0), |_| {
        arguments.choice(2, &[("hugetlb", libc::MFD_HUGETLB)])
    })?;
    let fd = sys::memfd(slot, libc::MFD_ALLOW_SEALING | huge)?;
    actor.fds.put(slot, fd);
    sys::truncate(fd, length)?;
    DONE
}

fn seal(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    sys::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK, "F_ADD_SEALS")?;
    DONE
}

fn close(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    // On failure the descriptor is still there (a tracer may have refused), and so is the slot.
    sys::close(*actor.fds.get(slot)?)?;
    actor.fds.take(slot)?;
    DONE
}

fn close_32(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let slot = arguments.word(0);
    sys::compat::close(*actor.fds.get(slot)?)?;
    actor.fds.take(slot)?;
    DONE
}

fn close_range(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (first, last) = (
        *actor.fds.get(arguments.word(0))?,
        *actor.fds.get(arguments.word(1))?,
    );
    sys::close_range(first, last)?;
    actor.fds.retain(|fd| !(first..=last).contains(fd));
    DONE
}

fn dup(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (old, new) = (*actor.fds.get(arguments.word(0))?, arguments.word(1));
    actor.fds.free(new)?;
    actor.fds.put(new, sys::dup(old)?);
    DONE
}

fn dup_many(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (old, count) = (*actor.fds.get(arguments.word(0))?, arguments.number(1)?);
    for _ in 0_u32..count {
        sys::dup(old)?;
    }
    DONE
}

fn open_many(_: &mut Actor, arguments: &Arguments) -> Reply {
    let (count, path): (u32, _) = (arguments.number(0)?, arguments.word(1));
    for _ in 0..count {
        sys::open(path, libc::O_RDONLY)?;
    }
    Ok(value(count))
}

fn dup2(actor: &mut Actor, arguments: &Arguments) -> Reply {
    sys::dup2(
        *actor.fds.get(arguments.word(0))?,
        *actor.fds.get(arguments.word(1))?,
    )?;
    DONE
}

fn dup3(actor: &mut Actor, arguments: &Arguments) -> Reply {
    sys::dup3(
        *actor.fds.get(arguments.word(0))?,
        *actor.fds.get(arguments.word(1))?,
    )?;
    DONE
}

fn move_fd(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, new) = (arguments.word(0), arguments.number(1)?);
    let old = *actor.fds.get(slot)?;
    if sys::is_open(new) {
        return usage(format!("descriptor {new} is in use"));
    }
    sys::dup2(old, new)?;
    actor.fds.put(slot, new);
    sys::close(old)?;
    DONE
}

fn cloexec(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let on = arguments.choice(1, &[("on", true), ("off", false)])?;
    sys::set_cloexec(*actor.fds.get(arguments.word(0))?, on)?;
    DONE
}

fn truncate(actor: &mut Actor, arguments: &Arguments) -> Reply {
    sys::truncate(*actor.fds.get(arguments.word(0))?, arguments.length(1)?)?;
    DONE
}

fn punch_hole(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    sys::punch_hole(fd, arguments.length(1)?, arguments.length(2)?)?;
    DONE
}

fn write_all(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (fd, length) = (*actor.fds.get(arguments.word(0))?, arguments.length(1)?);
    Ok(value(fill(fd, length)?))
}

/// Real blocks and real page-cache pages: a sparse file would be filled at pin time instead.
fn fill(fd: RawFd, length: usize) -> Result<usize, Failure> {
    let block = vec![0x5a_u8; 64 << 10];
    let mut written = 0;
    while written < length {
        let part = block.len().min(length - written);
        written += sys::pwrite(fd, &block[..part], written)?;
    }
    Ok(written)
}
