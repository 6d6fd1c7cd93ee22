//! The command line, as typed. What it means is worked out where it is used: `Filter` and the
//! settings of each command check these values and say what is wrong with them.

mod enforce;
mod pins;
mod report;
mod run;
mod shared;
mod why;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    enforce::{EnforceCommand, EnforceFlags, EnforceStartFlags, EnforceStatusFlags},
    pins::PinsFlags,
    report::ReportFlags,
    run::RunFlags,
    shared::{AttachFlags, CapacityFlags, CrossCheckFlags, FilesFlags, FilterFlags, Pins},
    why::WhyFlags,
};
use crate::{plot::timeline, policy, sinks::metrics};

const EXIT_STATUS: &str = "\
Exit status:
  0  done (a closed pipe on stdout included)
  1  there are zombies (`report` and `report zombies`); pins escape (`doctor --cross-check`); the books are
     wrong (`doctor --check`); the owner of some pins is not found (`pins --check`)
  2  error
  3  this kernel cannot do it";

/// Finds zombie leases: a process released its lease on a file while it still holds pins on the
/// file's pages.
#[derive(Debug, Parser)]
#[command(name = "lease-trace", version, after_help = EXIT_STATUS, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show each zombie lease when it begins and when its last pin is dropped
    Monitor(MonitorFlags),
    /// Show the zombies, leases or stakes there are now
    Report(ReportFlags),
    /// Show what is pinned now and who has it, without having watched
    Pins(PinsFlags),
    /// Say in a few sentences what a process has pinned, or who has a file, a file system or memory pinned
    Why(WhyFlags),
    /// Watch all stakes on a live screen, zombies first
    Top(TopFlags),
    /// Write all that happens to a file, for `plot` and for later
    Record(RecordFlags),
    /// Draw a record: a timeline of leases and pins, zombies in red
    Plot(PlotFlags),
    /// Run a command whose releases wait until its pins are gone
    Run(RunFlags),
    /// Put a policy in force in the kernel, and see what it came to
    Enforce(EnforceFlags),
    /// Say what this kernel offers and lacks
    Doctor(DoctorFlags),
    /// Work with a policy file
    Policy(PolicyFlags),
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Generate(GenerateFlags),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct MonitorFlags {
    /// Form of the output; json is one object a line, see docs/ndjson.schema.json
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,

    /// Show leases set and ended, too
    #[arg(long)]
    pub all_events: bool,

    #[command(flatten)]
    pub filter: FilterFlags,

    /// End after this time, e.g. 90s, 10min, 1h 30m
    #[arg(short, long, value_name = "DURATION")]
    pub duration: Option<String>,

    /// Which pins count
    #[arg(long, value_enum, default_value_t = Pins::LongTerm)]
    pub pins: Pins,

    #[command(flatten)]
    pub cross_check: CrossCheckFlags,

    /// Put this policy in force while the monitor runs; enforcement that is in place has its own
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Offer metrics to Prometheus here: a port of this host, or an address and a port. They are
    /// about the whole machine, so there are none of a monitor that filters
    #[arg(
        long,
        value_name = "[ADDRESS:]PORT",
        value_parser = metrics::address::parse,
        conflicts_with_all = ["pids", "cgroup", "path"],
    )]
    pub metrics: Option<SocketAddr>,

    #[command(flatten)]
    pub attach: AttachFlags,

    #[command(flatten)]
    pub capacity: CapacityFlags,

    #[command(flatten)]
    pub files: FilesFlags,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct RecordFlags {
    /// Gets the NDJSON of `monitor -o json --all-events`; an existing one is replaced
    pub file: PathBuf,

    #[command(flatten)]
    pub filter: FilterFlags,

    /// End after this time, e.g. 90s, 10min, 1h 30m
    #[arg(short, long, value_name = "DURATION")]
    pub duration: Option<String>,

    /// Which pins count
    #[arg(long, value_enum, default_value_t = Pins::LongTerm)]
    pub pins: Pins,

    #[command(flatten)]
    pub attach: AttachFlags,

    #[command(flatten)]
    pub capacity: CapacityFlags,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct PlotFlags {
    /// NDJSON of `record` or of `monitor -o json --all-events`; - is stdin
    pub file: PathBuf,

    /// Gets the picture; without it, stdout does
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// A page to look at in a browser instead of an SVG, with zoom and details; so is any output
    /// whose name ends in .html
    #[arg(long)]
    pub html: bool,

    /// How many rows there may be; those with breaches come first
    #[arg(long, value_name = "N", default_value_t = timeline::ROWS)]
    pub rows: usize,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct TopFlags {
    /// Time from look to look, e.g. 500ms, 5s
    #[arg(short, long, value_name = "DURATION", default_value = "1s")]
    pub interval: String,

    /// No colours; NO_COLOR in the environment does the same
    #[arg(long)]
    pub no_color: bool,

    #[command(flatten)]
    pub filter: FilterFlags,

    /// Which pins count, where no monitor runs and top watches by itself
    #[arg(long, value_enum, default_value_t = Pins::LongTerm)]
    pub pins: Pins,

    #[command(flatten)]
    pub capacity: CapacityFlags,

    #[command(flatten)]
    pub attach: AttachFlags,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct DoctorFlags {
    /// One JSON object instead of a table
    #[arg(short = 'J', long)]
    pub json: bool,

    #[command(flatten)]
    pub cross_check: CrossCheckFlags,

    /// Hold what the running monitor, or the enforcement in place, counts against itself and against the
    /// kernel: the pins of each file against those of its processes and of its page cache, its leases,
    /// and what is left of threads that have ended
    #[arg(long, conflicts_with = "of-hooks")]
    pub check: bool,

    /// How long, e.g. 90s, 10min
    #[arg(
        short,
        long,
        value_name = "DURATION",
        default_value = "10s",
        requires = "of-hooks"
    )]
    pub duration: String,

    #[command(flatten)]
    pub attach: AttachFlags,
}

#[derive(Debug, Args)]
pub struct GenerateFlags {
    /// Gets the directories man and completions
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct PolicyFlags {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Explain each rule, and say what it comes to on this kernel
    Check(CheckFlags),
    /// Say which rule would have matched each recorded breach
    Test(TestFlags),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct CheckFlags {
    /// The policy file, see docs/policy.md
    #[arg(default_value = policy::DEFAULT_PATH)]
    pub file: PathBuf,

    /// One JSON object instead of text
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct TestFlags {
    /// The policy file, see docs/policy.md
    pub file: PathBuf,

    /// What `lease-trace record` or `monitor -o json` has written; - for stdin
    pub events: PathBuf,

    /// One JSON object instead of text
    #[arg(short = 'J', long)]
    pub json: bool,
}

impl Command {
    /// A flag of a name that was replaced, and the one it has now.
    pub const fn old_form(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Monitor(MonitorFlags { cross_check, .. })
            | Self::Doctor(DoctorFlags { cross_check, .. }) => cross_check.old_form(),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    /// To the journal of this host, with a field for each member of the JSON
    Journal,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_forms_are_understood() {
        let parsed = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).expect("understood");
            cli.command.old_form()
        };
        let old = Some(("--audit", "--cross-check"));
        assert_eq!(parsed("lease-trace doctor --audit -d 2s"), old);
        assert_eq!(parsed("lease-trace doctor --cross-check -d 2s"), None);
        assert_eq!(parsed("lease-trace monitor --audit"), old);
        assert_eq!(parsed("lease-trace run -- true --audit"), None);
        for wrong in ["doctor -d 2s", "doctor --check --audit"] {
            let line = format!("lease-trace {wrong}");
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_usage_exits_with_two() {
        let error = Cli::try_parse_from(["lease-trace", "report", "ghosts"]).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
    }
}
