//! The guest scenarios: one boot for each kernel, userland and attach mode, two at a time.

use std::{
    fs,
    num::NonZero,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    boot::{Job, boot},
    places::{PLACES, Place},
    plan::{self, ATTACH, Attach},
    summary::Row,
};
use crate::{
    dist,
    guest::{Guest, Userland, command, image, kernels, programs},
    progress::Count,
    sh::Run as _,
};

/// The most that all runs of one boot may take together.
const LIMIT: Duration = Duration::from_mins(50);

/// Runs the scenarios on these kernels. Not `full`: they are all three, and what [`plan::is_left_out`]
/// names is left out.
pub fn run(names: &[String], filter: Option<&str>, full: bool) -> Result<Vec<Row>> {
    let kernels = names
        .iter()
        .map(|name| kernels::find(name))
        .collect::<Result<Vec<_>>>()?;
    let built = programs::fixed(true)?;
    let (scenarios, data) = built.read_scenarios()?;
    let tests = list(scenarios)?;

    let mut jobs = Vec::new();
    // The initramfs guests run most of the tests, and newer kernels take longer: they go first,
    // so that no processor is idle at the end.
    for place in &PLACES {
        for (number, kernel) in kernels.iter().enumerate().rev() {
            if !place.runs(number, 0) {
                continue;
            }
            let short = (!full).then_some(number);
            let selected = |attach| plan::select(&tests, place, attach, filter, short);
            if filter.is_some() && ATTACH.iter().all(|attach| selected(attach).is_empty()) {
                continue;
            }
            let (userland, client) = match place.packages {
                None => (Userland::Initramfs, built.client.clone()),
                Some(packages) => {
                    let packages = packages.iter().map(|&name| name.to_owned());
                    (
                        Userland::Debian(packages.collect()),
                        programs::dynamic_client()?,
                    )
                }
            };
            for (way, attach) in ATTACH.iter().enumerate() {
                if !place.runs(number, way) || !full && plan::is_left_out(place, number, way) {
                    continue;
                }
                let selected = selected(attach);
                if selected.is_empty() && (filter.is_some() || !attach.leaves.is_empty()) {
                    continue;
                }
                let mut guest = Guest::new(kernel, userland.clone());
                guest.limit = LIMIT;
                guest.first = place.first;
                place.cmdline.clone_into(&mut guest.cmdline);
                guest.machine.cpus = place.cpus;
                guest.machine.devices = place.devices;
                guest.programs = command::on_path(built.lease_trace.clone(), client.clone());
                guest.files = vec![
                    ("scenarios".to_owned(), data.clone()),
                    ("tests.sh".to_owned(), include_bytes!("tests.sh").to_vec()),
                ];
                if place.name == "package" {
                    guest.files.extend(packages(&built.lease_trace)?);
                }
                guest.env = env(place, attach);
                guest.command = vec!["/run/guest/tests.sh".to_owned()];
                guest
                    .command
                    .extend(selected.iter().map(|&test| test.to_owned()));
                jobs.push(Job {
                    guest,
                    kernel,
                    place,
                    attach: attach.name,
                });
            }
        }
    }
    run_all(&jobs)
}

/// Runs all boots, two at a time where there are two processors; their rows come in order.
fn run_all(jobs: &[Job<'_>]) -> Result<Vec<Row>> {
    const AT_ONCE: usize = 2;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = jobs.len().min(processors).min(AT_ONCE);
    let next = AtomicUsize::new(0);
    let scenarios = jobs.iter().map(Job::count).sum();
    let count = Arc::new(Count::start("scenarios", scenarios));
    let work = || {
        let mut done = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((job, boot(job, workers > 1, &count)));
        }
        done
    };
    let done = thread::scope(|scope| {
        scope.spawn(|| make_userlands(jobs));
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        joined.into_iter().flatten().flatten().collect::<Vec<_>>()
    });
    let mut rows = Vec::new();
    for (_, ran) in done {
        rows.push(ran?);
    }
    rows.sort_by_key(|row: &Row| {
        jobs.iter().rposition(|job| {
            job.kernel.name == row.kernel
                && job.place.name == row.userland
                && job.attach == row.attach
        })
    });
    Ok(rows)
}

/// Makes the userlands that will be needed while guests run that need none. What fails here fails
/// again, and is told, where a guest asks for it.
fn make_userlands(jobs: &[Job<'_>]) {
    for job in jobs {
        if let Userland::Debian(packages) = &job.guest.userland
            && image::debian(packages).is_err()
        {
            return;
        }
    }
}

/// The Debian package in two versions, for an upgrade from one to the other.
fn packages(program: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let version = dist::version(program)?;
    let of = |name: &str, version: &str| -> Result<(String, Vec<u8>)> {
        let package = dist::package(program, version)?;
        let data = fs::read(&package).with_context(|| format!("reading {}", package.display()))?;
        Ok((name.to_owned(), data))
    };
    Ok(vec![
        of("old.deb", &format!("{version}~before"))?,
        of("new.deb", &version)?,
    ])
}

/// The names of a test program's tests; they are the same wherever it runs.
fn list(scenarios: &Path) -> Result<Vec<String>> {
    let text = Command::new(scenarios)
        .args(["--list", "--format", "terse"])
        .read()?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        // It asserts nothing; `cargo xtask bench` runs it.
        .filter(|test| !test.starts_with("bench::"))
        .map(str::to_owned)
        .collect())
}

/// What the scenarios read.
fn env(place: &Place, attach: &Attach) -> Vec<(String, String)> {
    let Attach { name, value, .. } = attach;
    [
        ("LEASE_TRACE", "/usr/local/bin/lease-trace"),
        ("CLIENT", "/usr/local/bin/client"),
        ("USERLAND", place.name),
        ("RUST_BACKTRACE", "1"),
        ("ATTACH_MODES", &format!("{name}={value}")),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
