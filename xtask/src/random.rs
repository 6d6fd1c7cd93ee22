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

/// What is run, where, and how much of it.
pub struct Long<'a> {
    pub kernel: &'a str,
    pub cpus: u32,
    pub limit: Duration,
    /// Variables of its environment.
    pub sizes: [(&'static str, String); 2],
    /// Arguments of the program with the scenarios.
    pub filter: &'static [&'static str],
    /// In words.
    pub what: String,
}

pub fn run(long: Long<'_>) -> Result<ExitCode> {
    let kernel = kernels::find(long.kernel)?;
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

/// The one that was asked for, or one that nobody chose.
pub fn seed(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| u64::from(since.subsec_nanos()))
    })
}
