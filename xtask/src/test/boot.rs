//! One boot: its scenarios, and the log that is read from their output.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    labelled::Labelled,
    libtest::{Reader, Scanner, Tally, Word},
    places::Place,
    summary::Row,
};
use crate::{
    guest::{Ended, Guest, Ran, kernels::Kernel},
    progress::{Count, beside, line, say},
};

/// One boot: the command's arguments are the scenarios.
#[derive(Clone)]
pub struct Job<'a> {
    pub guest: Guest<'a>,
    pub kernel: &'a Kernel,
    pub place: &'a Place,
    pub attach: &'static str,
}

impl Job<'_> {
    /// How many scenarios.
    pub fn count(&self) -> usize {
        self.guest.command.len().saturating_sub(1)
    }
}

/// Runs the scenarios of one boot. Those that fail and say that the kernel missed hooks, or that
/// a walk of the monitor's own held the last reference to a file (docs/verification.md), are run
/// again, once; the row remarks on it.
///
/// # Errors
/// The guest could not be started.
pub fn boot(job: &Job<'_>, beside_others: bool, progress: &Arc<Count>) -> Result<Row> {
    let (mut row, again) = boot_once(job, beside_others, progress)?;
    if again.is_empty() {
        return Ok(row);
    }
    let remark = format!(
        "hooks were missed, or a walk held a file; once more: {}",
        again.join(", ")
    );
    say(format!(
        "kernel {}, {}, {}: {remark}",
        job.kernel.name, job.place.name, job.attach
    ));
    let mut job = job.clone();
    job.guest.command.truncate(1);
    job.guest.command.extend(again);
    progress.expect(job.count());
    let (second, _) = boot_once(&job, beside_others, progress)?;
    row.replace(&second);
    row.remarks.push(remark);
    Ok(row)
}

/// Boots once: what came of it, and the scenarios that ask for another run.
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
    } = job;
    let log = Arc::new(Mutex::new(Log::new(job, Arc::clone(progress))));
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
    Ok(log.read_to_the_end(&ran))
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
    fn new(job: &Job<'_>, progress: Arc<Count>) -> Self {
        Self {
            row: Row {
                kernel: job.kernel.name.clone(),
                userland: job.place.name.to_owned(),
                attach: job.attach.to_owned(),
                tally: Tally::default(),
                took: Duration::ZERO,
                times: Vec::new(),
                failures: Vec::new(),
                trouble: None,
                console: None,
                remarks: Vec::new(),
            },
            release: job.kernel.release.clone(),
            count: job.count(),
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

    /// The run, now that the guest has ended, and what of it asks for another.
    fn read_to_the_end(&mut self, ran: &Ran) -> (Row, Vec<String>) {
        if let Some(start) = self.running.take() {
            self.row.took = start.elapsed();
            self.row.trouble = Some(format!("the guest was ended: {}", ran.ended));
        } else if !self.began {
            self.row.trouble = Some(format!("did not begin: {}", ran.ended));
        }
        if !matches!(ran.ended, Ended::Exit(_)) {
            self.row.console = Some(ran.last_words.clone());
        }
        let asked = |name: &&String| self.once_more.contains(name);
        let again = self.row.failures.iter().filter(asked).cloned().collect();
        (self.row.clone(), again)
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
