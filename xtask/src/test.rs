//! `cargo xtask test`: the host's tests, and the guest scenarios on every kernel, in every userland
//! and attach mode; one table and one count at the end.

mod boot;
mod e2e;
mod labelled;
mod libtest;
mod places;
mod plan;
mod summary;
mod unit;

use std::process::ExitCode;

use anyhow::{Result, bail};

pub use self::libtest::MARKER;
use self::summary::Row;
use crate::guest::kernels;

#[derive(clap::Args)]
pub struct Options {
    /// Kernels to run the scenarios on: 6.1, 6.12, latest, or paths; all three if none is given
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Leave nothing out: without it, a run of everything on all kernels leaves out, for time, what is
    /// printed on all but the newest, kprobes on all but the oldest, and some more
    #[arg(long)]
    full: bool,
    /// unit (on this machine), e2e (in guests), or both if neither is given; then part of the names
    /// of the tests to run
    #[arg(value_name = "unit|e2e] [FILTER", num_args = 0..=2)]
    what: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    All,
    Unit,
    E2e,
}

pub fn run(options: Options) -> Result<ExitCode> {
    let Options {
        kernels,
        full,
        what,
    } = options;
    let (suite, filter) = meaning(&what)?;
    let full = full || filter.is_some() || !kernels.is_empty();
    let kernels = if kernels.is_empty() {
        kernels::NAMES.map(str::to_owned).to_vec()
    } else {
        kernels
    };
    let mut rows: Vec<Row> = Vec::new();
    if suite != Suite::E2e {
        rows.push(unit::run(filter)?);
    }
    if suite != Suite::Unit {
        rows.extend(e2e::run(&kernels, filter, full)?);
    }
    Ok(summary::print(&rows, filter))
}

/// `[unit|e2e] [FILTER]`
fn meaning(words: &[String]) -> Result<(Suite, Option<&str>)> {
    let (suite, rest) = match words.first().map(String::as_str) {
        Some("unit") => (Suite::Unit, &words[1..]),
        Some("e2e") => (Suite::E2e, &words[1..]),
        _ => (Suite::All, words),
    };
    match rest {
        [] => Ok((suite, None)),
        [filter] => Ok((suite, Some(filter))),
        [first, ..] => bail!("{first}: neither unit nor e2e, and only one FILTER can be given"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_suite_and_a_filter() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (text, suite, filter) in [
            ("", Suite::All, None),
            ("unit", Suite::Unit, None),
            ("e2e lease::", Suite::E2e, Some("lease::")),
            ("lease::", Suite::All, Some("lease::")),
        ] {
            assert_eq!(meaning(&words(text)).unwrap(), (suite, filter), "{text}");
        }
        assert!(meaning(&words("a b")).is_err());
    }
}
