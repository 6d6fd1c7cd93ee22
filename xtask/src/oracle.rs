//! `cargo xtask oracle`: random steps of several processes in a guest, each held against a plain
//! model. The oracle itself is a scenario (lease-trace/tests/guest/oracle); here it gets its size.
//! With `--storm` the hammer in its place (lease-trace/tests/guest/storm.rs).

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
/// The hammer's scenarios (lease-trace/tests/guest/storm.rs), by what their names begin with, and how
/// many they are.
const STORM: &str = "storm::";
const STORMS: u32 = 3;
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
    /// The guest's processors; with one, more guests fit beside each other [default: 2, with --storm
    /// 4]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Run the hammer instead: all at once and by themselves, compared whenever they are quiet
    #[arg(long, conflicts_with = "ops")]
    storm: bool,
    /// How long each scenario of the hammer lasts
    #[arg(long, value_name = "S", default_value_t = 600, requires = "storm")]
    seconds: u32,
    /// Chooses the steps; another one each time if it is left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options {
        kernel,
        ops,
        cpus,
        storm,
        seconds,
        seed,
    } = options;
    let seed = seed.unwrap_or_else(from_clock);
    let kernel = kernels::find(kernel)?;
    let built = programs::fixed(true)?;
    let (_, data) = built.read_scenarios()?;
    let mut guest = Guest::new(&kernel, Userland::Initramfs);
    guest.machine.cpus = cpus.unwrap_or(if *storm { 4 } else { 2 });
    guest.programs = command::on_path(built.lease_trace, built.client);
    guest.files = vec![("scenarios".to_owned(), data)];
    let (sizes, filter, what): (_, &[&str], _) = if *storm {
        guest.limit = AROUND + Duration::from_secs((*seconds).into()) * STORMS;
        (
            [
                ("STORM_SECONDS", seconds.to_string()),
                ("STORM_SEED", seed.to_string()),
            ],
            &[STORM],
            format!("{STORMS} storms of {seconds} s"),
        )
    } else {
        guest.limit = AROUND + STEP * *ops;
        (
            [
                ("ORACLE_OPS", ops.to_string()),
                ("ORACLE_SEED", seed.to_string()),
            ],
            &["--exact", SCENARIO],
            format!("{ops} steps"),
        )
    };
    let programs = [
        ("LEASE_TRACE", "/usr/local/bin/lease-trace".to_owned()),
        ("CLIENT", "/usr/local/bin/client".to_owned()),
    ];
    let env = programs.into_iter().chain(sizes);
    guest.env = env.map(|(name, value)| (name.to_owned(), value)).collect();
    let command = ["/run/guest/scenarios", "--test-threads=1", "--nocapture"];
    let command = command.iter().chain(filter);
    guest.command = command.map(|&word| word.to_owned()).collect();
    let name = format!("{what} from seed {seed} on {}", kernel.release);
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
