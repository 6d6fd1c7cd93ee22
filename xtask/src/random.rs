//! A long scenario whose steps are random, in a guest of its own.

use std::{
    io,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;

use crate::{
    guest::{Guest, Userland, command, kernels, programs},
    progress::{beside, step},
};

/// What each of them is asked.
#[derive(clap::Args)]
pub struct Asked {
    /// 6.1, 6.12, latest, or the path of a vmlinuz with its modules
    #[arg(long, value_name = "KERNEL", default_value = kernels::DEFAULT)]
    kernel: String,
    /// Chooses the steps; others each time if it is left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

impl Asked {
    /// The seed that was asked for, or one that nobody chose.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| u64::from(since.subsec_nanos()))
        })
    }
}

/// What a guest may take beside the steps.
pub const AROUND: Duration = Duration::from_mins(10);

/// What is run, and how much of it.
pub struct Long {
    pub cpus: u32,
    pub limit: Duration,
    /// Variables of its environment.
    pub sizes: [(&'static str, String); 2],
    /// Arguments of the program with the scenarios.
    pub filter: &'static [&'static str],
    /// In words.
    pub what: String,
}

pub fn run(asked: &Asked, long: Long) -> Result<ExitCode> {
    let kernel = kernels::find(&asked.kernel)?;
    let built = programs::fixed(true)?;
    let (_, data) = built.read_scenarios()?;
    let mut guest = Guest::new(&kernel, Userland::Initramfs);
    guest.machine.cpus = long.cpus;
    guest.limit = long.limit;
    guest.programs = command::on_path(built.lease_trace, built.client);
    guest.files = vec![("scenarios".to_owned(), data)];
    let programs = [
        ("LEASE_TRACE", "/usr/local/bin/lease-trace".to_owned()),
        ("CLIENT", "/usr/local/bin/client".to_owned()),
    ];
    let env = programs.into_iter().chain(long.sizes);
    guest.env = env.map(|(name, value)| (name.to_owned(), value)).collect();
    let command = ["/run/guest/scenarios", "--test-threads=1", "--nocapture"];
    let command = command.iter().chain(long.filter);
    guest.command = command.map(|&word| word.to_owned()).collect();
    let name = format!("{} on {}", long.what, kernel.release);
    let ran = step(&name, || {
        guest.run(beside(io::stdout()), beside(io::stderr()))
    })?;
    Ok(command::verdict(&ran))
}
