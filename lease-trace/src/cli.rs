//! The command line, as typed. What it means is worked out where it is used: `Filter` and the
//! settings of each command check these values and say what is wrong with them.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use lease_trace_common::policy::Action;

use crate::{plot::timeline, policy, sinks::metrics, tracer};

/// Where a policy is looked for.
pub const DEFAULT_POLICY: &str = "/etc/lease-trace/policy.toml";

const EXIT_STATUS: &str = "\
Exit status:
  0  done (a closed pipe on stdout included)
  1  there are zombies (`report` and `report zombies`); pins escape (`doctor --audit`)
  2  error
  3  this kernel cannot do it";

/// Finds zombie leases: a process let go of a file's lease while it still holds pins on the
/// file's pages.
#[derive(Debug, Parser)]
#[command(name = "lease-trace", version, after_help = EXIT_STATUS, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show each zombie as it comes to be and as it is laid to rest
    Monitor(MonitorFlags),
    /// Show the zombies, leases or stakes there are now
    Report(ReportFlags),
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

    /// Hold all pins against the kernel's own count, and say when they differ
    #[arg(long)]
    pub audit: bool,

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

const EXIT_STATUS_OF_RUN: &str = "\
Exit status:
  that of the command; before it runs:
  2    error
  3    this kernel cannot do it
  126  the command cannot be executed
  127  there is no such command";

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS_OF_RUN)]
pub struct RunFlags {
    /// What becomes of a call that would release a lease while pins remain
    #[arg(
        long,
        value_enum,
        value_name = "ACTION",
        default_value_t = OnRelease::Block,
        conflicts_with = "policy"
    )]
    pub on_release: OnRelease,

    /// Decide by the rules of this policy; what no rule matches is let through. `hold` waits
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// What becomes of the command's releases should the process that watches them die
    #[arg(long, value_enum, value_name = "HOW", default_value_t = OnDeath::Open)]
    pub on_supervisor_death: OnDeath,

    #[command(flatten)]
    pub attach: AttachFlags,

    #[command(flatten)]
    pub capacity: CapacityFlags,

    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// What becomes of a call that would release a lease while pins remain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnRelease {
    /// It waits until the pins are gone
    Block,
    /// It fails with EBUSY, and nothing changes
    Deny,
    /// Its process gets SIGSTOP, for a debugger; then it waits
    Stop,
    /// Its process gets SIGKILL
    Kill,
    /// It is let through, and told
    Report,
}

impl OnRelease {
    /// The same as a rule has it.
    pub const fn action(self) -> Action {
        match self {
            Self::Block => Action::Hold,
            Self::Deny => Action::Deny,
            Self::Stop => Action::Stop,
            Self::Kill => Action::Kill,
            Self::Report => Action::Report,
        }
    }
}

/// What becomes of the releases of a command whose supervisor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnDeath {
    /// They go through
    Open,
    /// Who makes one is killed
    Closed,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct RecordFlags {
    /// Gets the NDJSON of `monitor -o json --all-events`; one that is there is replaced
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
pub struct EnforceFlags {
    #[command(subcommand)]
    pub what: EnforceCommand,
}

#[derive(Debug, Subcommand)]
pub enum EnforceCommand {
    /// Put a policy in force, with or without a monitor, until `stop`; where one is in force
    /// already, take this one instead
    Start(EnforceStartFlags),
    /// Say what is in force and what its rules came to
    Status(EnforceStatusFlags),
    /// Remove everything, also what a crash left behind
    Stop,
}

#[derive(Debug, Args)]
pub struct EnforceStartFlags {
    /// The policy
    #[arg(long, value_name = "FILE", default_value = DEFAULT_POLICY)]
    pub policy: PathBuf,

    #[command(flatten)]
    pub attach: AttachFlags,

    #[command(flatten)]
    pub capacity: CapacityFlags,

    #[command(flatten)]
    pub files: FilesFlags,
}

#[derive(Debug, Args)]
pub struct EnforceStatusFlags {
    /// One JSON object instead of a table
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub struct FilterFlags {
    /// Only what this process owns or lets go; may be given several times
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,

    /// Only processes in this cgroup and those below it: a path under /sys/fs/cgroup, or absolute
    #[arg(short, long, value_name = "CGROUP")]
    pub cgroup: Option<PathBuf>,

    /// Only this file, or the files below this folder; files whose path is not fully known are
    /// shown as well
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct AttachFlags {
    /// How to attach to the kernel: auto takes fentry wherever the kernel has it
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    pub attach: Attach,
}

#[derive(Clone, Debug, Args)]
pub struct CapacityFlags {
    /// How many leases, stakes and files there is room for. What finds no room is counted and told
    #[arg(
        long,
        value_name = "N",
        default_value_t = tracer::CAPACITY,
        value_parser = value_parser!(u32).range(1_024..=1_048_576),
    )]
    pub capacity: u32,
}

#[derive(Clone, Debug, Default, Args)]
pub struct FilesFlags {
    /// Who may read the files in /sys/fs/bpf/lease-trace: 0400, 0440 or 0444; root only, unless it
    /// is said
    #[arg(long, value_name = "MODE")]
    pub proc_mode: Option<tracer::files::Mode>,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch the user may type"
)]
pub struct ReportFlags {
    /// What to show
    #[arg(value_enum, default_value_t = Subject::Zombies)]
    pub subject: Subject,

    /// Of the stakes only squatters: a lease without any pin that somebody wants broken, or, with a
    /// time such as 10min, that was held for so long
    #[arg(
        long,
        value_name = "HELD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub squatters: Option<Squatters>,

    /// One JSON object instead of a table
    #[arg(short = 'J', long, conflicts_with_all = ["columns", "noheadings", "raw", "notruncate"])]
    pub json: bool,

    /// Write the report again, in one line, for each line read from stdin
    #[arg(long, requires = "json")]
    pub follow: bool,

    /// Columns to show, e.g. PID,PATH; +UID adds to the usual ones
    #[arg(short = 'o', long = "output", value_name = "COLUMN,...")]
    pub columns: Option<String>,

    /// No line of headings
    #[arg(short, long)]
    pub noheadings: bool,

    /// One blank between columns, blanks in values as \x20
    #[arg(short, long)]
    pub raw: bool,

    /// Do not shorten values to fit the terminal
    #[arg(short = 'u', long)]
    pub notruncate: bool,
}

/// Which leases without any pin make a squatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squatters {
    /// Those that somebody wants broken.
    InTheWay,
    /// Those, and those held for so long.
    Held { ms: u64 },
}

impl FromStr for Squatters {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        if typed.is_empty() {
            return Ok(Self::InTheWay);
        }
        let held = humantime::parse_duration(typed)
            .map_err(|error| format!("{error}; write e.g. 90s, 10min or 1h 30m"))?;
        Ok(Self::Held {
            ms: u64::try_from(held.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct DoctorFlags {
    /// One JSON object instead of a table
    #[arg(short = 'J', long)]
    pub json: bool,

    /// Hold the pins that the hooks see against the kernel's own count, for some time
    #[arg(long)]
    pub audit: bool,

    /// How long, e.g. 90s, 10min
    #[arg(
        short,
        long,
        value_name = "DURATION",
        default_value = "10s",
        requires = "audit"
    )]
    pub duration: String,

    #[command(flatten)]
    pub attach: AttachFlags,
}

#[derive(Debug, Args)]
pub struct GenerateFlags {
    /// Gets the folders man and completions
    pub folder: PathBuf,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    /// To the journal of this host, with a field for each member of the JSON
    Journal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pins {
    /// Long-term ones: what a device or a ring keeps
    LongTerm,
    /// Short-term ones as well: direct I/O in flight
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attach {
    Auto,
    Fentry,
    Kprobe,
}

impl From<Attach> for tracer::AttachMode {
    fn from(attach: Attach) -> Self {
        match attach {
            Attach::Auto => Self::Auto,
            Attach::Fentry => Self::Fentry,
            Attach::Kprobe => Self::Kprobe,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    Zombies,
    Leases,
    Stakes,
}

impl Subject {
    /// The member of the JSON object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zombies => "zombies",
            Self::Leases => "leases",
            Self::Stakes => "stakes",
        }
    }
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
    fn report_means_zombies() {
        let cli = Cli::try_parse_from(["lease-trace", "report", "-nr"]).expect("parses");
        let Command::Report(flags) = cli.command else {
            panic!("another command");
        };
        assert_eq!(flags.subject, Subject::Zombies);
        assert!(flags.noheadings && flags.raw);
    }

    #[test]
    fn squatters_may_have_a_time() {
        let squatters = |typed: &[&str]| {
            let cli = Cli::try_parse_from([&["lease-trace", "report"], typed].concat());
            match cli.expect("parses").command {
                Command::Report(flags) => flags.squatters,
                _ => panic!("another command"),
            }
        };
        assert_eq!(squatters(&["stakes"]), None);
        let in_the_way = Some(Squatters::InTheWay);
        assert_eq!(squatters(&["--squatters", "stakes"]), in_the_way);
        let ten = Some(Squatters::Held { ms: 600_000 });
        assert_eq!(squatters(&["stakes", "--squatters=10min"]), ten);
    }

    #[test]
    fn wrong_usage_exits_with_two() {
        let error = Cli::try_parse_from(["lease-trace", "report", "ghosts"]).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
    }
}
