//! `lease-trace run`: a command whose releases wait until its pins are gone.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    process::{self, Command},
};

use anyhow::bail;

use super::{plan, say};
use crate::{
    cli::RunFlags,
    enrich::symbols::Symbols,
    exit::Exit,
    supervise::{self, Judge, Orders, Room},
    tracer,
};

/// Says to a command that it is run so: the pid of the outermost.
const MARK: &str = "LEASE_TRACE_RUN";

/// Becomes the command, unless there is an error.
pub fn run(flags: &RunFlags) -> anyhow::Result<Exit> {
    let (program, arguments) = flags.command.split_first().expect("clap wants one");
    let mut command = Command::new(program);
    command.args(arguments);
    let judge = judge(flags)?;
    match supervise::room()? {
        Room::Free => {}
        Room::Taken => return nested(command, program),
        Room::None => {
            say(
                "this kernel asks nobody about system calls; it needs CONFIG_SECCOMP_FILTER, and \
                 Linux 5.5 or later",
            );
            return Ok(Exit::Unsupported);
        }
    }
    let family = match supervise::start(Orders {
        judge,
        options: tracer::Options {
            attach: flags.attach.attach.into(),
            capacity: flags.capacity.capacity,
            ..tracer::Options::default()
        },
        on_death: flags.on_supervisor_death,
    })? {
        Ok(family) => family,
        Err(exit) => return Ok(exit),
    };
    family.adopt()?;
    command.env(MARK, process::id().to_string());
    Ok(exec(command, program))
}

/// Somebody else is asked about this process: an outer `run`, if it has left its mark.
fn nested(command: Command, program: &OsStr) -> anyhow::Result<Exit> {
    let Some(outer) = env::var_os(MARK) else {
        bail!(
            "another seccomp listener is in charge of this process, and there can be only one: a \
             container manager's, for instance; run this outside"
        );
    };
    say(&format!(
        "this runs under another `lease-trace run` (pid {}), which decides here, too",
        outer.display()
    ));
    Ok(exec(command, program))
}

/// Returns only if it cannot be done.
fn exec(mut command: Command, program: &OsStr) -> Exit {
    let error = command.exec();
    say(&format!("cannot execute {}: {error}", program.display()));
    if error.kind() == io::ErrorKind::NotFound {
        Exit::NoCommand
    } else {
        Exit::NotExecutable
    }
}

/// Here everything can be denied, on any kernel: nothing is said of what a kernel can.
fn judge(flags: &RunFlags) -> anyhow::Result<Judge> {
    let Some(path) = &flags.policy else {
        return Ok(Judge::All(flags.on_release.action()));
    };
    let symbols = Symbols::load();
    let compiled = plan::compile(path, None, symbols.as_ref().ok())?;
    Ok(Judge::Policy(compiled))
}
