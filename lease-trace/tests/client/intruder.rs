//! Reaching for what belongs to others: BPF objects, and other processes.

use libc::c_int;

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::process;
use crate::reply::{DONE, Reply, value};
use crate::sys::{self, bpf};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "bpf-get",
        arguments: "PATH",
        summary: "BPF_OBJ_GET of a file in bpffs",
        run: |_, arguments| Ok(value(bpf::get(arguments.word(0))?)),
    },
    Command {
        name: "bpf-by-id",
        arguments: "map|prog|link|btf ID",
        summary: "BPF_MAP_GET_FD_BY_ID and its like",
        run: by_id,
    },
    Command {
        name: "bpf-fill",
        arguments: "PATH",
        summary: "fills the hash map behind a file in bpffs; how many more entries it took",
        run: |_, arguments| Ok(value(bpf::Map::get(arguments.word(0))?.fill()?)),
    },
    Command {
        name: "bpf-threads",
        arguments: "",
        summary: "threads that hash maps have an entry for: keys with the same number in both halves",
        run: threads,
    },
    Command {
        name: "unlink",
        arguments: "PATH",
        summary: "unlink(2)",
        run: |_, arguments| {
            sys::unlink(arguments.word(0))?;
            DONE
        },
    },
    Command {
        name: "signal",
        arguments: "PID SIGNAL",
        summary: "kill(2): a signal, like KILL, to any process",
        run: signal,
    },
    Command {
        name: "ptrace",
        arguments: "PID",
        summary: "PTRACE_SEIZE of any process",
        run: |_, arguments| {
            sys::ptrace_seize(arguments.number(0)?)?;
            DONE
        },
    },
    Command {
        name: "steal-fd",
        arguments: "PID FD",
        summary: "pidfd_getfd(2): a duplicate of any process's descriptor",
        run: |_, arguments| {
            let pid = arguments.number(0)?;
            Ok(value(sys::steal_fd(pid, arguments.number(1)?)?))
        },
    },
];

const KINDS: &[(&str, c_int)] = &[
    ("map", bpf::MAP_BY_ID),
    ("prog", bpf::PROG_BY_ID),
    ("link", bpf::LINK_BY_ID),
    ("btf", bpf::BTF_BY_ID),
];

fn by_id(_: &mut Actor, arguments: &Arguments) -> Reply {
    let command = arguments.choice(0, KINDS)?;
    Ok(value(bpf::by_id(command, arguments.number(1)?)?))
}

fn threads(_: &mut Actor, _: &Arguments) -> Reply {
    let mut threads = Vec::new();
    for map in bpf::Map::all()? {
        let keys = map.keys()?.into_iter();
        threads.extend(keys.filter(|key| key >> 32 == key & 0xffff_ffff));
    }
    let threads: Vec<_> = threads.iter().map(|key| (key >> 32).to_string()).collect();
    Ok(value(threads.join(" ")))
}

fn signal(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::kill(arguments.number(0)?, process::signal(arguments.word(1))?)?;
    DONE
}
