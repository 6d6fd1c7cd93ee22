//! `report`

use clap::Args;

use super::EXIT_STATUS;
use crate::entries::{Squatters, Subject};

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

    /// One space between columns, spaces in values as \x20
    #[arg(short, long)]
    pub raw: bool,

    /// Do not shorten values to fit the terminal
    #[arg(short = 'u', long)]
    pub notruncate: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

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
}
