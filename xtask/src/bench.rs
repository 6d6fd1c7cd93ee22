//! `cargo xtask bench`: what lease-trace costs, in executed instructions, beside the kernel alone and
//! bpftrace doing a lesser job, each row held against its goal. What is measured is a scenario
//! (lease-trace/tests/guest/bench); goals, limits and the table are here.

mod limits;
mod measured;
mod plot;
mod rows;
mod table;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{limits::Limits, measured::Measured};
use crate::{
    guest::{
        Ended, Guest, Userland, command, image,
        kernels::{self, Kernel},
        programs::{self, Programs},
    },
    progress::{Count, beside, line, say},
};

const SCENARIO: &str = "bench::it_measures";
const WORST: &str = "bench::it_measures_the_worst";
/// What the userland needs beside what RDMA does.
const PACKAGES: [&str; 2] = ["bpftool", "bpftrace"];
/// The most that one guest may take.
const LIMIT: Duration = Duration::from_mins(40);
/// A file of 1 GiB in memory, and room around it.
const MEMORY: u32 = 3072;
/// Phases of the scenario, as far as they can be told beforehand.
const PHASES: usize = 6;

#[derive(clap::Args)]
pub struct Options {
    /// 6.1, 6.12, latest, or the path of a vmlinuz with its modules; several run beside each other
    #[arg(long = "kernel", value_name = "KERNEL", default_value = kernels::DEFAULT)]
    kernels: Vec<String>,
    /// Leave out what takes long: floods, 1 GiB, and the cost by number of leases, pins, processes
    #[arg(long)]
    short: bool,
    /// Measure calls with as much to look at as there can be, and nothing else
    #[arg(long, conflicts_with_all = ["short", "record"])]
    worst: bool,
    /// Write what was measured to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the cost by number of leases, pins, processes and pages
    #[arg(long, value_name = "SVG", conflicts_with_all = ["short", "worst"])]
    plot: Option<PathBuf>,
    /// Measure nothing; read what `--json` wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernels", "short", "json"])]
    from: Option<PathBuf>,
    /// Hold later runs to what this one measured, where that is over a goal
    #[arg(long)]
    record: bool,
}

/// What is measured.
#[derive(Clone, Copy)]
struct Form {
    short: bool,
    worst: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options {
        kernels,
        short,
        worst,
        json,
        plot,
        from,
        record,
    } = options;
    let all = match from {
        Some(path) => read(path)?,
        None => measure(
            kernels,
            Form {
                short: *short,
                worst: *worst,
            },
        )?,
    };
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&all).context("writing figures as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = plot {
        plot::draw(&all, path)?;
    }
    let mut limits = Limits::read()?;
    let mut failed = 0;
    for measured in &all {
        if *worst {
            line(format!(
                "\nkernel {} ({}), executed instructions\n{}",
                measured.kernel,
                measured.release,
                table::worst(measured)
            ));
            continue;
        }
        let rows = rows::of(measured);
        if *record {
            limits.record(&measured.kernel, &rows);
        }
        let held = table::held(&rows, limits.of(&measured.kernel));
        failed += held.iter().filter(|row| row.fails()).count();
        line(format!(
            "\nkernel {} ({}), executed instructions\n{}",
            measured.kernel,
            measured.release,
            table::render(&held)
        ));
        line(table::programs(measured));
    }
    if *record {
        limits.write()?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn read(path: &Path) -> Result<Vec<Measured>> {
    let context = || format!("reading figures from {}", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    serde_json::from_str(&text).with_context(context)
}

/// A guest for each kernel, beside each other.
fn measure(names: &[String], form: Form) -> Result<Vec<Measured>> {
    let kernels = names
        .iter()
        .map(|name| kernels::find(name))
        .collect::<Result<Vec<_>>>()?;
    let built = programs::fixed(true)?;
    let client = programs::dynamic_client()?;
    let count = Arc::new(Count::start("measuring", PHASES * kernels.len()));
    thread::scope(|scope| {
        let guests: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| in_guest(kernel, &built, client.clone(), form, &count)))
            .collect();
        guests
            .into_iter()
            .map(|guest| {
                guest
                    .join()
                    .unwrap_or_else(|_| bail!("a guest's thread panicked"))
            })
            .collect()
    })
}

fn in_guest(
    kernel: &Kernel,
    built: &Programs,
    client: PathBuf,
    form: Form,
    count: &Arc<Count>,
) -> Result<Measured> {
    let (_, data) = built.read_scenarios()?;
    let packages = image::RDMA.iter().chain(&PACKAGES);
    let mut guest = Guest::new(
        kernel,
        Userland::Debian(packages.map(|&name| name.to_owned()).collect()),
    );
    guest.machine.icount = true;
    guest.machine.memory = MEMORY;
    guest.limit = LIMIT;
    guest.programs = command::on_path(built.lease_trace.clone(), client);
    guest.files = vec![("scenarios".to_owned(), data)];
    guest.env = [
        ("LEASE_TRACE", "/usr/local/bin/lease-trace"),
        ("CLIENT", "/usr/local/bin/client"),
        ("BENCH_FORM", if form.short { "short" } else { "long" }),
        ("RUST_BACKTRACE", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let scenario = if form.worst { WORST } else { SCENARIO };
    guest.command = ["--test-threads=1", "--nocapture", "--exact", scenario]
        .iter()
        .fold(vec!["/run/guest/scenarios".to_owned()], |mut all, word| {
            all.push((*word).to_owned());
            all
        });
    let reader = measured::Reader::new(kernel, count);
    let ran = guest.run(Box::new(reader.clone()), beside(io::stderr()))?;
    if ran.ended != Ended::Exit(0) {
        say(format!(
            "what it said:\n{}\nThe last lines of its console:\n{}",
            reader.talk(),
            ran.last_words
        ));
        bail!("measuring on kernel {} failed: {}", kernel.name, ran.ended);
    }
    Ok(reader.measured())
}
