//! `lease-trace doctor --cross-check`: whether pins escape the hooks, by the kernel's own count.

use std::{
    io::{self, BufWriter, Write},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::monitor::parse_duration;
use crate::{
    cli::DoctorFlags,
    exit::Exit,
    sinks::{WriteError, json},
    tracer::{
        self,
        cross_check::{CrossCheck, Hooks, lasting},
    },
};

/// Between two looks.
const STEP: Duration = Duration::from_millis(100);
/// A difference must last for so many looks: a call under way is in one count before the other.
const LASTING: usize = 5;

/// What a cross-check came to.
#[derive(Debug, Serialize)]
struct Finding {
    duration_ms: u64,
    #[serde(flatten)]
    cross_check: CrossCheck,
}

pub fn run(flags: &DoctorFlags) -> anyhow::Result<Exit> {
    let duration = parse_duration(&flags.duration)?;
    let hooks = Hooks::start(flags.attach.attach.into())?;
    let first = hooks.read()?.ok_or(tracer::Error::Busy)?;
    let start = Instant::now();
    let mut looks = Vec::new();
    while start.elapsed() < duration || looks.len() < LASTING {
        thread::sleep(STEP);
        if let Some(both) = hooks.read()? {
            looks.push(both.since(first));
        } else if start.elapsed() > duration * 2 {
            return Err(tracer::Error::Busy.into());
        }
        looks.drain(..looks.len().saturating_sub(LASTING));
    }
    let finding = Finding {
        duration_ms: start.elapsed().as_millis() as u64,
        cross_check: lasting(&looks),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    finding.write(flags.json, &mut out).map_err(WriteError)?;
    Ok(match finding.cross_check.escaped {
        0 => Exit::Done,
        _ => Exit::Escaped,
    })
}

impl Finding {
    fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            json::page(self, out)?;
            return out.flush();
        }
        let Self {
            duration_ms,
            cross_check,
        } = self;
        let CrossCheck {
            taken,
            dropped,
            kernel_taken,
            kernel_dropped,
            escaped,
        } = cross_check;
        let mut line = |what, taken: &dyn std::fmt::Display, dropped: &dyn std::fmt::Display| {
            writeln!(out, "{what:21} {taken:>12} {dropped:>12}")
        };
        line("pin references", &"taken", &"dropped")?;
        line("seen by the hooks", taken, dropped)?;
        line("counted by the kernel", kernel_taken, kernel_dropped)?;
        let verdict = match escaped {
            0 => "nothing escaped".to_owned(),
            1.. => format!("{escaped} references that the kernel counts were seen by no hook"),
            _ => format!("{} that the hooks saw the kernel does not count", -escaped),
        };
        let seconds = *duration_ms as f64 / 1000.0;
        writeln!(out, "\nIn {seconds:.1} s: {verdict}.")?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_shown_side_by_side() {
        let cross_check = CrossCheck {
            taken: 10,
            dropped: 2,
            kernel_taken: 13,
            kernel_dropped: 2,
            escaped: 3,
        };
        let finding = Finding {
            duration_ms: 1000,
            cross_check,
        };
        let mut out = Vec::new();
        finding.write(false, &mut out).expect("a Vec takes it");
        insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"), @r"
        pin references               taken      dropped
        seen by the hooks               10            2
        counted by the kernel           13            2

        In 1.0 s: 3 references that the kernel counts were seen by no hook.
        ");
    }
}
