//! The tests that run on this machine, without root: everything but the guest scenarios.

use std::{
    io::{self, Read as _, Write as _},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::{
    libtest::{Reader, Scanner, Tally, Word},
    summary::Row,
};
use crate::{guest::programs, setup::toolchain, sh::Run as _};

/// Adds up what the test programs say.
#[derive(Default)]
struct Sum {
    tally: Tally,
    failures: Vec<String>,
}

impl Reader for Sum {
    fn read(&mut self, word: Word<'_>) {
        match word {
            Word::Result(Tally {
                passed,
                failed,
                ignored,
            }) => {
                self.tally.passed += passed;
                self.tally.failed += failed;
                self.tally.ignored += ignored;
            }
            Word::Failed(name) => self.failures.push(name.to_owned()),
            Word::Marked(_) | Word::Ended { .. } => {}
        }
    }
}

pub fn run(filter: Option<&str>) -> Result<Row> {
    toolchain::ensure()?;
    let start = Instant::now();
    let mut command = programs::cargo();
    command.args([
        "test",
        "--workspace",
        "--exclude",
        "lease-trace-ebpf",
        "--no-fail-fast",
    ]);
    command.args(filter);
    let line = command.line();
    let context = || format!("running: {line}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(context)?;
    let mut output = child.stdout.take().with_context(context)?;
    let sum = Arc::new(Mutex::new(Sum::default()));
    let mut scanner = Scanner::new(Box::new(io::stdout()), Arc::clone(&sum));
    let mut buffer = [0; 4096];
    loop {
        match output.read(&mut buffer).with_context(context)? {
            0 => break,
            count => scanner.write_all(&buffer[..count])?,
        }
        scanner.flush()?;
    }
    let status = child.wait().with_context(context)?;
    let sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    // A failed test explains the status; anything else is trouble of its own, like a failed build.
    let broken = !status.success() && sum.tally.failed == 0;
    Ok(Row {
        kernel: "host".to_owned(),
        userland: "host".to_owned(),
        attach: "none".to_owned(),
        tally: sum.tally,
        took: start.elapsed(),
        times: Vec::new(),
        failures: sum.failures.clone(),
        trouble: broken.then(|| format!("{status}: {line}")),
        console: None,
        remarks: Vec::new(),
    })
}
