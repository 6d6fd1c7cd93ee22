//! `cargo xtask oracle`: random steps of several processes in a guest, each held against a plain
//! model. The oracle itself is a scenario (lease-trace/tests/guest/oracle); here it gets its size.

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

const SCENARIO: &str = "oracle::it_agrees_with_the_product";
/// What a guest may take beside the steps, with a failure to be shortened.
const AROUND: Duration = Duration::from_mins(10);
/// The most that one step may take on average.
const STEP: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct Options {
    /// 6.1, 6.12, latest, or the path of a vmlinuz with its modules
    #[arg(long, value_name = "KERNEL", default_value = kernels::DEFAULT)]
    kernel: String,
    /// How many steps
    #[arg(long, value_name = "N", default_value_t = 5000)]
    ops: u32,
    /// The guest's processors; with one, more guests fit beside each other
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Chooses the steps; another one each time if it is left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options {
        kernel,
        ops,
        cpus,
        seed,
    } = options;
    let seed = seed.unwrap_or_else(from_clock);
    let kernel = kernels::find(kernel)?;
    let built = programs::fixed(true)?;
    let (_, data) = built.read_scenarios()?;
    let mut guest = Guest::new(&kernel, Userland::Initramfs);
    guest.machine.cpus = *cpus;
    guest.limit = AROUND + STEP * *ops;
    guest.programs = command::on_path(built.lease_trace, built.client);
    guest.files = vec![("scenarios".to_owned(), data)];
    guest.env = [
        ("LEASE_TRACE", "/usr/local/bin/lease-trace".to_owned()),
        ("CLIENT", "/usr/local/bin/client".to_owned()),
        ("ORACLE_OPS", ops.to_string()),
        ("ORACLE_SEED", seed.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    guest.command = [
        "/run/guest/scenarios",
        "--test-threads=1",
        "--nocapture",
        "--exact",
        SCENARIO,
    ]
    .map(str::to_owned)
    .to_vec();
    let name = format!("{ops} steps from seed {seed} on {}", kernel.release);
    let ran = step(&name, || {
        guest.run(beside(io::stdout()), beside(io::stderr()))
    })?;
    Ok(command::verdict(&ran))
}

/// A seed that nobody chose.
fn from_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::from(since.subsec_nanos()))
}
