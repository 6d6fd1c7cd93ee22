//! The guest scenarios: one boot for each kernel, userland and attach mode, two at a time.

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
    plan::{self, ATTACH, Attach, PLACES, Place},
    summary::Row,
};
use crate::{
    dist,
    guest::{
        Ended, Guest, Userland, command, image,
        kernels::{self, Kernel},
        programs,
    },
    progress::{Count, beside, line, say},
    sh::Run as _,
};

/// The most that all runs of one boot may take together.
const LIMIT: Duration = Duration::from_mins(35);

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
            let middle = !full && number == plan::MIDDLE;
            let selected = |attach| plan::select(&tests, place, attach, filter, middle);
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
                    count: selected.len(),
                });
            }
        }
    }
    run_all(&jobs)
}

/// One boot.
#[derive(Clone)]
struct Job<'a> {
    guest: Guest<'a>,
    kernel: &'a Kernel,
    place: &'a Place,
    attach: &'static str,
    count: usize,
}

/// Runs all boots, two at a time where there are two processors; their rows come in order.
fn run_all(jobs: &[Job<'_>]) -> Result<Vec<Row>> {
    const AT_ONCE: usize = 2;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = jobs.len().min(processors).min(AT_ONCE);
    let next = AtomicUsize::new(0);
    let scenarios = jobs.iter().map(|job| job.count).sum();
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

/// Runs the scenarios of one boot. Those that failed while the kernel passed hooks by, or a walk of
/// the monitor's own held the last reference to a file (docs/verification.md), are run again, once.
fn boot(job: &Job<'_>, beside_others: bool, progress: &Arc<Count>) -> Result<Row> {
    let (mut row, once_more) = boot_once(job, beside_others, progress)?;
    let again: Vec<&String> = row
        .failures
        .iter()
        .filter(|name| once_more.contains(name))
        .collect();
    if again.is_empty() {
        return Ok(row);
    }
    say(format!(
        "kernel {}, {}, {}: hooks were passed by, or a walk held a file; once more: {}",
        job.kernel.name,
        job.place.name,
        job.attach,
        again
            .iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    ));
    let mut job = job.clone();
    job.count = again.len();
    progress.expect(job.count);
    job.guest.command.truncate(1);
    job.guest.command.extend(again.into_iter().cloned());
    let (second, _) = boot_once(&job, beside_others, progress)?;
    row.replace(&second);
    Ok(row)
}

/// Boots once. The row of what was run, and the scenarios that ask for another.
fn boot_once(
    job: &Job<'_>,
    beside_others: bool,
    progress: &Arc<Count>,
) -> Result<(Row, Vec<String>)> {
    let Job {
        guest,
        kernel,
        place,
        attach,
        count,
    } = job;
    let progress = Arc::clone(progress);
    let log = Log::new(kernel, place, attach, *count, progress);
    let log = Arc::new(Mutex::new(log));
    let stdout: Box<dyn Write + Send> = if beside_others {
        let label = format!("{} {} {attach}", kernel.name, place.name);
        Box::new(Labelled::new(label, beside(io::stdout())))
    } else {
        beside(io::stdout())
    };
    let out = Scanner::new(stdout, Arc::clone(&log));
    let ran = guest.run(Box::new(out), beside(io::stderr()))?;
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
    let row = log.row(&ran.ended);
    Ok((row, std::mem::take(&mut log.once_more)))
}

/// The run of one boot, as its output tells of it.
struct Log {
    row: Row,
    release: String,
    count: usize,
    /// Since when its tests run, if they still do.
    running: Option<Instant>,
    /// When the test before this one ended.
    before: Instant,
    began: bool,
    /// Failed scenarios that ask for another run.
    once_more: Vec<String>,
    /// Of all boots.
    progress: Arc<Count>,
}

impl Log {
    fn new(
        kernel: &Kernel,
        place: &Place,
        attach: &str,
        count: usize,
        progress: Arc<Count>,
    ) -> Self {
        Self {
            row: Row {
                kernel: kernel.name.clone(),
                userland: place.name.to_owned(),
                attach: attach.to_owned(),
                tally: Tally::default(),
                took: Duration::ZERO,
                times: Vec::new(),
                failures: Vec::new(),
                trouble: None,
            },
            release: kernel.release.clone(),
            count,
            running: None,
            before: Instant::now(),
            began: false,
            once_more: Vec::new(),
            progress,
        }
    }

    fn begin(&mut self) {
        let Row {
            kernel,
            userland,
            attach,
            ..
        } = &self.row;
        line(format!(
            "\n=== kernel {kernel} ({}), {userland}, attach {attach}: {} tests ===",
            self.release, self.count
        ));
        self.began = true;
        self.before = Instant::now();
        self.running = Some(self.before);
    }

    fn end(&mut self, status: &str) {
        if let Some(start) = self.running.take() {
            self.row.took = start.elapsed();
            // A failed test explains the status.
            if status != "0" && self.row.tally.failed == 0 {
                self.row.trouble = Some(format!("the test program ended with status {status}"));
            }
        }
    }

    /// The run, now that the guest has ended.
    fn row(&mut self, ended: &Ended) -> Row {
        if let Some(start) = self.running.take() {
            self.row.took = start.elapsed();
            self.row.trouble = Some(format!("the guest was ended: {ended}"));
        } else if !self.began {
            self.row.trouble = Some(format!("did not begin: {ended}"));
        }
        self.row.clone()
    }
}

impl Reader for Log {
    fn read(&mut self, word: Word<'_>) {
        match word {
            Word::Marked(text) => match text.split_once(' ') {
                Some(("begin", _)) => self.begin(),
                Some(("end", status)) => self.end(status),
                Some(("once-more", scenario)) => self.once_more.push(scenario.to_owned()),
                _ => {}
            },
            Word::Ended(name) => {
                let now = Instant::now();
                self.row.times.push((name.to_owned(), now - self.before));
                self.before = now;
                self.progress.add();
            }
            Word::Failed(name) => self.row.failures.push(name.to_owned()),
            Word::Result(tally) => self.row.tally = tally,
        }
    }
}
