//! The guest scenarios: one boot a kernel and userland, in which the test program runs once for
//! each attach mode.

use std::{
    fs,
    io::{self, Write},
    num::NonZero,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    labelled::Labelled,
    libtest::{Reader, Scanner, Tally, Word},
    plan::{self, ATTACH, PLACES, Place},
    summary::Row,
};
use crate::{
    guest::{
        Ended, Guest, Userland, command, image,
        kernels::{self, Kernel},
        programs,
    },
    progress::say,
    sh::Run as _,
};

/// The most that all runs of one boot may take together.
const LIMIT: Duration = Duration::from_mins(20);

pub fn run(names: &[String], filter: Option<&str>) -> Result<Vec<Row>> {
    let kernels = names
        .iter()
        .map(|name| kernels::find(name))
        .collect::<Result<Vec<_>>>()?;
    let built = programs::fixed(true)?;
    let scenarios = built.scenarios.context("the scenarios were not built")?;
    let data = fs::read(&scenarios)
        .with_context(|| format!("reading the scenarios from {}", scenarios.display()))?;
    let tests = list(&scenarios)?;

    let mut jobs = Vec::new();
    // The initramfs guests run most of the tests: they go first.
    for place in &PLACES {
        for kernel in &kernels {
            let selected = plan::select(&tests, place, filter);
            if selected.is_empty() && filter.is_some() {
                continue;
            }
            let (userland, client) = match place.packages {
                None => (Userland::Initramfs, built.client.clone()),
                Some(packages) => {
                    let packages: Vec<String> = packages.iter().map(|&name| name.into()).collect();
                    (
                        Userland::Debian(image::debian(&packages)?),
                        programs::dynamic_client()?,
                    )
                }
            };
            let mut guest = Guest::new(kernel, userland);
            guest.limit = LIMIT;
            guest.programs = command::on_path(built.lease_trace.clone(), client);
            guest.files = vec![
                ("scenarios".to_owned(), data.clone()),
                ("tests.sh".to_owned(), include_bytes!("tests.sh").to_vec()),
            ];
            guest.env = env(place);
            guest.command = vec!["/run/guest/tests.sh".to_owned()];
            guest
                .command
                .extend(selected.iter().map(|&test| test.to_owned()));
            jobs.push(Job {
                guest,
                kernel,
                place,
                count: selected.len(),
            });
        }
    }
    run_all(&jobs)
}

/// One boot.
struct Job<'a> {
    guest: Guest<'a>,
    kernel: &'a Kernel,
    place: &'a Place,
    count: usize,
}

/// Runs all boots, two at a time where there are two processors; their rows come in order.
fn run_all(jobs: &[Job<'_>]) -> Result<Vec<Row>> {
    const AT_ONCE: usize = 2;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = jobs.len().min(processors).min(AT_ONCE);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((job, boot(job, workers > 1)));
        }
        done
    };
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        joined.into_iter().flatten().flatten().collect::<Vec<_>>()
    });
    let mut rows = Vec::new();
    for (_, ran) in done {
        rows.extend(ran?);
    }
    rows.sort_by_key(|row: &Row| {
        let job = |job: &Job<'_>| job.kernel.name == row.kernel && job.place.name == row.userland;
        jobs.iter().position(job)
    });
    Ok(rows)
}

/// The names of a test program's tests; they are the same wherever it runs.
fn list(scenarios: &Path) -> Result<Vec<String>> {
    let text = Command::new(scenarios)
        .args(["--list", "--format", "terse"])
        .read()?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// What the scenarios read.
fn env(place: &Place) -> Vec<(String, String)> {
    let modes = ATTACH
        .map(|(name, value)| format!("{name}={value}"))
        .join(" ");
    [
        ("LEASE_TRACE", "/usr/local/bin/lease-trace"),
        ("CLIENT", "/usr/local/bin/client"),
        ("USERLAND", place.name),
        ("RUST_BACKTRACE", "1"),
        ("ATTACH_MODES", &modes),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn boot(job: &Job<'_>, beside_others: bool) -> Result<Vec<Row>> {
    let Job {
        guest,
        kernel,
        place,
        count,
    } = job;
    let log = Arc::new(Mutex::new(Log::new(kernel, place, *count)));
    let stdout: Box<dyn Write + Send> = if beside_others {
        let label = format!("{} {}", kernel.name, place.name);
        Box::new(Labelled::new(label, io::stdout()))
    } else {
        Box::new(io::stdout())
    };
    let out = Scanner::new(stdout, Arc::clone(&log));
    let ran = guest.run(Box::new(out), Box::new(io::stderr()))?;
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(boot) = ran.boot {
        say(format!(
            "kernel {}, {}: booted in {:.1} s",
            kernel.name,
            place.name,
            boot.as_secs_f32()
        ));
    }
    if !matches!(ran.ended, Ended::Exit(_)) {
        say(format!(
            "the guest was ended: {}. The last lines of its console:\n{}",
            ran.ended, ran.last_words
        ));
    }
    Ok(log.rows(&ran.ended))
}

/// The runs of one boot, as its output tells of them.
struct Log {
    blank: Row,
    release: String,
    count: usize,
    rows: Vec<Row>,
    /// Since when the last row's tests run, if they still do.
    running: Option<Instant>,
}

impl Log {
    fn new(kernel: &Kernel, place: &Place, count: usize) -> Self {
        let blank = Row {
            kernel: kernel.name.clone(),
            userland: place.name.to_owned(),
            attach: String::new(),
            tally: Tally::default(),
            took: Duration::ZERO,
            failures: Vec::new(),
            trouble: None,
        };
        Self {
            blank,
            release: kernel.release.clone(),
            count,
            rows: Vec::new(),
            running: None,
        }
    }

    fn begin(&mut self, attach: &str) {
        let Row {
            kernel, userland, ..
        } = &self.blank;
        println!(
            "\n=== kernel {kernel} ({}), {userland}, attach {attach}: {} tests ===",
            self.release, self.count
        );
        self.rows.push(Row {
            attach: attach.to_owned(),
            ..self.blank.clone()
        });
        self.running = Some(Instant::now());
    }

    fn end(&mut self, status: &str) {
        if let (Some(row), Some(start)) = (self.rows.last_mut(), self.running.take()) {
            row.took = start.elapsed();
            // A failed test explains the status.
            if status != "0" && row.tally.failed == 0 {
                row.trouble = Some(format!("the test program ended with status {status}"));
            }
        }
    }

    /// All runs that were planned, now that the guest has ended.
    fn rows(&mut self, ended: &Ended) -> Vec<Row> {
        if let (Some(row), Some(start)) = (self.rows.last_mut(), self.running.take()) {
            row.took = start.elapsed();
            row.trouble = Some(format!("the guest was ended: {ended}"));
        }
        let missing = ATTACH.iter().skip(self.rows.len()).map(|(attach, _)| Row {
            attach: (*attach).to_owned(),
            trouble: Some(format!("did not begin: {ended}")),
            ..self.blank.clone()
        });
        self.rows.iter().cloned().chain(missing).collect()
    }
}

impl Reader for Log {
    fn read(&mut self, word: Word<'_>) {
        match word {
            Word::Marked(text) => match text.split_once(' ') {
                Some(("begin", attach)) => self.begin(attach),
                Some(("end", status)) => self.end(status),
                _ => {}
            },
            Word::Failed(name) => {
                if let Some(row) = self.rows.last_mut() {
                    row.failures.push(name.to_owned());
                }
            }
            Word::Result(tally) => {
                if let Some(row) = self.rows.last_mut() {
                    row.tally = tally;
                }
            }
        }
    }
}
