//! Leases and delegations, set and released through fcntl(2).

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Reply, value};
use crate::sys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "setlease",
        arguments: "SLOT r|w|u",
        summary: "F_SETLEASE: a read lease, a write lease, or unlock",
        run: setlease,
    },
    Command {
        name: "setlease-32",
        arguments: "SLOT r|w|u",
        summary: "F_SETLEASE through the 32-bit entry",
        run: setlease_32,
    },
    Command {
        name: "setlease-x32",
        arguments: "SLOT r|w|u",
        summary: "F_SETLEASE by x32's number of fcntl",
        run: setlease_x32,
    },
    Command {
        name: "setlease-wide",
        arguments: "SLOT r|w|u",
        summary: "F_SETLEASE by a number of fcntl with bits that the kernel leaves unread",
        run: setlease_wide,
    },
    Command {
        name: "hoard-leases",
        arguments: "COUNT DIRECTORY",
        summary: "so many read leases, 256 on each new file in a directory; they last as long as the actor",
        run: hoard,
    },
    Command {
        name: "lease-often",
        arguments: "COUNT PATH",
        summary: "so many read leases on one file; they last as long as the actor",
        run: lease_often,
    },
    Command {
        name: "lease-each",
        arguments: "COUNT DIRECTORY",
        summary: "a write lease on each of so many new files in a directory; they last as long as the actor",
        run: lease_each,
    },
    Command {
        name: "getlease",
        arguments: "SLOT",
        summary: "F_GETLEASE: what is held, r w or u",
        run: getlease,
    },
    Command {
        name: "setdeleg",
        arguments: "SLOT r|w|u",
        summary: "F_SETDELEG: the same for a delegation (Linux 6.19 and later)",
        run: setdeleg,
    },
    Command {
        name: "getdeleg",
        arguments: "SLOT",
        summary: "F_GETDELEG: what is held, r w or u",
        run: getdeleg,
    },
];

const F_GETDELEG: libc::c_int = 1039;
const F_SETDELEG: libc::c_int = 1040;

const MODES: &[(&str, i16)] = &[
    ("r", libc::F_RDLCK as i16),
    ("w", libc::F_WRLCK as i16),
    ("u", libc::F_UNLCK as i16),
];

/// `struct delegation` of linux/fcntl.h.
#[repr(C)]
#[derive(Default)]
pub struct Delegation {
    flags: u32,
    mode: u16,
    padding: u16,
}

fn setlease(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    sys::fcntl(
        fd,
        libc::F_SETLEASE,
        i32::from(arguments.choice(1, MODES)?),
        "F_SETLEASE",
    )?;
    DONE
}

fn setlease_32(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let mode = i32::from(arguments.choice(1, MODES)?);
    sys::compat::fcntl(fd, libc::F_SETLEASE, mode, "F_SETLEASE")?;
    DONE
}

fn setlease_x32(actor: &mut Actor, arguments: &Arguments) -> Reply {
    /// `__X32_SYSCALL_BIT` (arch/x86/include/uapi/asm/unistd.h).
    const X32_BIT: libc::c_long = 0x4000_0000;
    setlease_by(libc::SYS_fcntl | X32_BIT, actor, arguments)
}

fn setlease_wide(actor: &mut Actor, arguments: &Arguments) -> Reply {
    /// The kernel takes the number for an int.
    const ABOVE_INT: libc::c_long = 1 << 32;
    setlease_by(libc::SYS_fcntl | ABOVE_INT, actor, arguments)
}

fn setlease_by(number: libc::c_long, actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let mode = i32::from(arguments.choice(1, MODES)?);
    sys::fcntl_by(number, fd, libc::F_SETLEASE, mode, "F_SETLEASE")?;
    DONE
}

fn hoard(_: &mut Actor, arguments: &Arguments) -> Reply {
    const ON_ONE_FILE: u32 = 256;
    let (count, directory): (u32, _) = (arguments.number(0)?, arguments.word(1));
    let mut path = String::new();
    for number in 0..count {
        if number % ON_ONE_FILE == 0 {
            path = format!("{directory}/{number}");
            sys::close(sys::open(&path, libc::O_CREAT | libc::O_WRONLY)?)?;
        }
        let fd = sys::open(&path, libc::O_RDONLY)?;
        sys::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK, "F_SETLEASE")?;
    }
    Ok(value(count))
}

fn lease_often(_: &mut Actor, arguments: &Arguments) -> Reply {
    let (count, path): (u32, _) = (arguments.number(0)?, arguments.word(1));
    for _ in 0..count {
        let fd = sys::open(path, libc::O_RDONLY)?;
        sys::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK, "F_SETLEASE")?;
    }
    Ok(value(count))
}

fn lease_each(_: &mut Actor, arguments: &Arguments) -> Reply {
    let (count, directory): (u32, _) = (arguments.number(0)?, arguments.word(1));
    for number in 0..count {
        let path = format!("{directory}/each-{number}");
        let fd = sys::open(&path, libc::O_CREAT | libc::O_RDWR)?;
        sys::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK, "F_SETLEASE")?;
    }
    Ok(value(count))
}

fn getlease(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    Ok(value(letter(sys::fcntl(
        fd,
        libc::F_GETLEASE,
        0,
        "F_GETLEASE",
    )?)))
}

fn setdeleg(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let mode = arguments.choice(1, MODES)?.cast_unsigned();
    let mut delegation = Delegation {
        mode,
        ..Delegation::default()
    };
    sys::fcntl_delegation(fd, F_SETDELEG, &mut delegation, "F_SETDELEG")?;
    DONE
}

fn getdeleg(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let fd = *actor.fds.get(arguments.word(0))?;
    let mut delegation = Delegation::default();
    sys::fcntl_delegation(fd, F_GETDELEG, &mut delegation, "F_GETDELEG")?;
    Ok(value(letter(i32::from(delegation.mode))))
}

fn letter(mode: i32) -> String {
    let known = MODES.iter().find(|(_, value)| i32::from(*value) == mode);
    known.map_or_else(|| mode.to_string(), |(letter, _)| (*letter).to_owned())
}
