//! The actor as a process: who it is, its signals, and the ways it ends or becomes another program.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command as Program;
use std::time::Duration;
use std::{env, fs, thread};

use libc::c_int;

use crate::actor::Actor;
use crate::command::{self, Arguments, Command};
use crate::reply::{self, Answer, DONE, Failure, Reply, usage, value};
use crate::sys::{self, Disposition};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "pid",
        arguments: "",
        summary: "the process id",
        run: |_, _| Ok(value(std::process::id())),
    },
    Command {
        name: "comm",
        arguments: "NAME",
        summary: "PR_SET_NAME: what the kernel calls this thread",
        run: comm,
    },
    Command {
        name: "setuid",
        arguments: "UID",
        summary: "setresuid(2)",
        run: setuid,
    },
    Command {
        name: "unshare-user",
        arguments: "",
        summary: "unshare(2): a user namespace of its own, with all capabilities in it",
        run: |_, _| {
            sys::unshare_user()?;
            DONE
        },
    },
    Command {
        name: "unshare",
        arguments: "mount|user",
        summary: "unshare(2): a mount namespace, and with `user` a user namespace with root, too",
        run: unshare,
    },
    Command {
        name: "mount-tmpfs",
        arguments: "DIRECTORY",
        summary: "mount(2), in a mount namespace of one's own",
        run: mount_tmpfs,
    },
    Command {
        name: "signals",
        arguments: "ignore|default|catch|catch-restart SIGNAL",
        summary: "a signal's disposition, caught without and with SA_RESTART; IO, sent for a lease \
                  break, is ignored at first",
        run: signals,
    },
    Command {
        name: "seccomp",
        arguments: "forbid|listen",
        summary: "a filter on vhangup(2): it fails with EXDEV, or somebody is asked about it",
        run: |_, arguments| {
            sys::filter(arguments.choice(0, &[("forbid", false), ("listen", true)])?)?;
            DONE
        },
    },
    Command {
        name: "hang-up",
        arguments: "",
        summary: "vhangup(2)",
        run: |_, _| {
            sys::hang_up()?;
            DONE
        },
    },
    Command {
        name: "thread",
        arguments: "COMMAND ...",
        summary: "performs a command on a thread that ends with it",
        run: in_thread,
    },
    Command {
        name: "end-first-thread",
        arguments: "",
        summary: "exit(2) of the thread that the process began with; another reads on",
        run: end_first_thread,
    },
    Command {
        name: "open-files",
        arguments: "MOST",
        summary: "setrlimit(2): so many descriptors",
        run: open_files,
    },
    Command {
        name: "lock-memory",
        arguments: "KIB",
        summary: "setrlimit(2): so much locked memory",
        run: lock_memory,
    },
    Command {
        name: "repeat",
        arguments: "TIMES COMMAND ...",
        summary: "performs commands, separated by ` ; `, so often; answers for each how it went",
        run: repeat,
    },
    Command {
        name: "exec-self",
        arguments: "",
        summary: "execve(2) of this very program; answers with the slots that survived",
        run: exec_self,
    },
    Command {
        name: "sleep",
        arguments: "MS",
        summary: "waits that long",
        run: sleep,
    },
    Command {
        name: "pause",
        arguments: "",
        summary: "answers, then does nothing until a signal ends it",
        run: pause,
    },
    Command {
        name: "exit",
        arguments: "CODE",
        summary: "exit_group(2), with everything still held; no answer",
        run: exit,
    },
    Command {
        name: "kill-self",
        arguments: "SIGNAL",
        summary: "the same by a signal, like KILL",
        run: kill_self,
    },
];

/// The argument that says: what follows are the slots an exec left open.
pub const RESUME: &str = "--resume";

/// Signals by the names that kill(1) takes.
pub const SIGNALS: &[(&str, c_int)] = &[
    ("KILL", libc::SIGKILL),
    ("TERM", libc::SIGTERM),
    ("INT", libc::SIGINT),
    ("HUP", libc::SIGHUP),
    ("QUIT", libc::SIGQUIT),
    ("ABRT", libc::SIGABRT),
    ("SEGV", libc::SIGSEGV),
    ("BUS", libc::SIGBUS),
    ("STOP", libc::SIGSTOP),
    ("CONT", libc::SIGCONT),
    ("IO", libc::SIGIO),
    ("CHLD", libc::SIGCHLD),
    ("USR1", libc::SIGUSR1),
];

/// Survives a lease break.
pub fn ignore_lease_breaks() {
    // SIGIO may always be ignored: the kernel refuses this for KILL and STOP only.
    let _ = sys::set_signal(libc::SIGIO, Disposition::Ignore);
}

fn comm(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::set_comm(arguments.word(0))?;
    DONE
}

fn setuid(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::set_uid(arguments.number(0)?)?;
    DONE
}

fn unshare(_: &mut Actor, arguments: &Arguments) -> Reply {
    let user = arguments.choice(0, &[("mount", false), ("user", true)])?;
    let uid = sys::uid();
    // A process that changed its user does not own its own files in /proc any more.
    sys::set_dumpable()?;
    sys::unshare(libc::CLONE_NEWNS | if user { libc::CLONE_NEWUSER } else { 0 })?;
    if user {
        let own = [
            ("uid_map", format!("0 {uid} 1")),
            ("setgroups", "deny".to_owned()),
            ("gid_map", "0 0 1".to_owned()),
        ];
        for (name, text) in own {
            fs::write(format!("/proc/self/{name}"), text)
                .map_err(|error| Failure::of(&error, name))?;
        }
    }
    DONE
}

fn mount_tmpfs(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::mount_tmpfs(arguments.word(0))?;
    DONE
}

fn signals(_: &mut Actor, arguments: &Arguments) -> Reply {
    let disposition = arguments.choice(
        0,
        &[
            ("ignore", Disposition::Ignore),
            ("default", Disposition::Default),
            ("catch", Disposition::Catch { restart: false }),
            ("catch-restart", Disposition::Catch { restart: true }),
        ],
    )?;
    sys::set_signal(signal(arguments.word(1))?, disposition)?;
    DONE
}

pub fn signal(word: &str) -> Result<c_int, Failure> {
    let name = word.strip_prefix("SIG").unwrap_or(word);
    match SIGNALS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None => usage(format!("`{word}` is no signal known here")),
    }
}

fn in_thread(actor: &mut Actor, arguments: &Arguments) -> Reply {
    // Forked from a thread, the child would be a process in the middle of that thread's scope.
    if ["fork", "exec-self", "thread"].contains(&arguments.word(0)) {
        return usage("a thread cannot be asked for that");
    }
    let line = arguments.rest();
    thread::scope(|scope| {
        let performed = scope.spawn(|| command::perform(actor, &line)).join();
        performed.unwrap_or_else(|_| usage("the thread did not survive the command"))
    })
}

fn end_first_thread(actor: &mut Actor, _: &Arguments) -> Reply {
    thread::scope(|scope| {
        scope.spawn(|| {
            reply::say(&DONE);
            command::read_on(actor);
            // The scope's own thread is gone: nobody joins this one.
            std::process::exit(0)
        });
        sys::exit_thread()
    })
}

fn open_files(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::set_open_files(arguments.number(0)?)?;
    DONE
}

fn lock_memory(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::set_locked_memory(arguments.number::<u64>(0)? << 10)?;
    DONE
}

/// `1000 ok; 3 ok, 997 EBUSY`: for each command the answers and how often they came.
fn repeat(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let times: u32 = arguments.number(0)?;
    let line = arguments.rest();
    let (_, lines) = line.split_once(' ').unwrap_or_default();
    let lines: Vec<&str> = lines.split(" ; ").collect();
    let mut tallies = vec![BTreeMap::<String, u32>::new(); lines.len()];
    for _ in 0..times {
        for (line, tally) in lines.iter().zip(&mut tallies) {
            let answer = match command::perform(actor, line) {
                Ok(_) => "ok".to_owned(),
                Err(Failure::Kernel { errno, .. }) => reply::errno_name(errno),
                Err(failure) => return Err(failure),
            };
            *tally.entry(answer).or_default() += 1;
        }
    }
    let told: Vec<String> = tallies
        .iter()
        .map(|tally| {
            let counts: Vec<_> = tally
                .iter()
                .map(|(answer, count)| format!("{count} {answer}"))
                .collect();
            counts.join(", ")
        })
        .collect();
    Ok(value(told.join("; ")))
}

fn exec_self(actor: &mut Actor, _: &Arguments) -> Reply {
    // By its own path and not through the link, or the kernel would call the new program `exe`.
    let link = PathBuf::from("/proc/self/exe");
    let program = fs::read_link(&link)
        .ok()
        .filter(|path| path.exists())
        .unwrap_or(link);
    let name = env::args_os().next().unwrap_or_else(|| "client".into());
    let slots = actor.fds.iter().map(|(name, fd)| format!("{name}={fd}"));
    let error = Program::new(&program)
        .arg0(name)
        .arg(RESUME)
        .args(slots)
        .exec();
    Err(Failure::of(&error, format!("execve {}", program.display())))
}

fn sleep(_: &mut Actor, arguments: &Arguments) -> Reply {
    thread::sleep(Duration::from_millis(arguments.number(0)?));
    DONE
}

fn pause(_: &mut Actor, _: &Arguments) -> Reply {
    reply::say(&DONE);
    sys::pause()
}

fn exit(_: &mut Actor, arguments: &Arguments) -> Reply {
    std::process::exit(arguments.number(0)?)
}

fn kill_self(_: &mut Actor, arguments: &Arguments) -> Reply {
    sys::kill(std::process::id().cast_signed(), signal(arguments.word(0))?)?;
    Ok(Answer::Values("the signal was survived".to_owned()))
}
