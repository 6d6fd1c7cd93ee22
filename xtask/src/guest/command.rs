//! `cargo xtask guest`: a script of the host's, run as root in a Debian guest with lease-trace on
//! its PATH. Its output and exit status are passed on.

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use super::{Ended, First, Guest, Machine, Ran, Userland, kernels, programs};
use crate::progress::say;

#[derive(clap::Args)]
pub struct Options {
    /// 6.1, 6.12, latest, or the path of a vmlinuz with its modules
    #[arg(long, value_name = "KERNEL", default_value = kernels::DEFAULT)]
    kernel: String,
    /// Let the guest's clock count executed instructions (one CPU, no KVM)
    #[arg(long)]
    icount: bool,
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// The guest's memory in MiB
    #[arg(long, value_name = "MB", default_value_t = 2048)]
    memory: u32,
    /// Debian packages to have installed
    #[arg(long, value_name = "P,P", value_delimiter = ',')]
    packages: Vec<String>,
    /// Have systemd as the first program, as a host has
    #[arg(long)]
    systemd: bool,
    /// Added to the kernel's command line
    #[arg(
        long,
        value_name = "STR",
        default_value = "",
        allow_hyphen_values = true
    )]
    cmdline: String,
    /// End the guest after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// A file of the host's to run in the guest, and its arguments
    #[arg(last = true, required = true, value_name = "SCRIPT")]
    command: Vec<String>,
}

/// Where the exit status is not the script's.
const TIME_LIMIT: u8 = 124;
const GUEST_FAILED: u8 = 125;

pub fn run(options: Options) -> Result<ExitCode> {
    let Options {
        kernel,
        icount,
        cpus,
        memory,
        mut packages,
        systemd,
        cmdline,
        timeout,
        command,
    } = options;
    let (script, arguments) = command.split_first().context("no script was given")?;
    let text = fs::read(script).with_context(|| format!("reading the script {script}"))?;
    let kernel = kernels::find(&kernel)?;
    let built = programs::fixed(false)?;
    let client = programs::dynamic_client()?;
    if systemd {
        packages.push("systemd".to_owned());
    }

    let mut guest = Guest::new(&kernel, Userland::Debian(packages));
    if systemd {
        guest.first = First::Systemd;
    }
    guest.machine = Machine {
        icount,
        cpus,
        memory,
        ..Machine::default()
    };
    guest.cmdline = cmdline;
    guest.limit = Duration::from_secs(timeout);
    guest.programs = on_path(built.lease_trace, client);
    guest.files = vec![("script".to_owned(), text)];
    guest.command = vec!["/run/guest/script".to_owned()];
    guest.command.extend(arguments.iter().cloned());
    let ran = guest.run(Box::new(io::stdout()), Box::new(io::stderr()))?;
    Ok(verdict(&ran))
}

/// The programs that every guest has on its PATH.
pub fn on_path(lease_trace: PathBuf, client: PathBuf) -> Vec<(String, PathBuf)> {
    vec![
        ("lease-trace".to_owned(), lease_trace),
        ("client".to_owned(), client),
    ]
}

/// The command's exit status; anything else is said on stderr, with the console's last lines.
pub fn verdict(ran: &Ran) -> ExitCode {
    let Ran {
        ended,
        boot: _,
        last_words,
    } = ran;
    let code = match ended {
        Ended::Exit(status) => {
            return ExitCode::from(u8::try_from(*status).unwrap_or(GUEST_FAILED));
        }
        Ended::Unread => return ExitCode::SUCCESS,
        Ended::TimeLimit { .. } => TIME_LIMIT,
        Ended::Trouble(_) | Ended::Died => GUEST_FAILED,
    };
    say(format!(
        "the guest was ended: {ended}. The last lines of its console:\n{last_words}"
    ));
    ExitCode::from(code)
}
