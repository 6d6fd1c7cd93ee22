//! lease-trace: finds processes that let go of a file's lease while they still hold pins on the
//! file's pages. This file only dispatches.

mod actions;
mod breaking;
mod cli;
mod clock;
mod commands;
mod enrich;
mod entries;
mod examination;
mod exit;
mod filter;
#[cfg(test)]
mod fixtures;
mod kernel;
mod ledger;
mod orphans;
mod pinned;
mod place;
mod plot;
mod policy;
mod proofs;
mod record;
mod rules;
#[cfg(test)]
mod schema;
mod service;
mod session;
mod sinks;
mod supervise;
mod tracer;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, PolicyCommand};
use sinks::terminal::say;

fn main() -> ExitCode {
    // Quiet unless asked: LEASE_TRACE_LOG=debug shows each attempt to attach, and what the
    // verifier said to those that failed.
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("LEASE_TRACE_LOG", "warn"))
        .init();
    let command = Cli::parse().command;
    if let Some((old, new)) = command.old_form() {
        say(&format!("{old} is the old form; write {new}"));
    }
    let result = match command {
        Command::Monitor(flags) => commands::monitor::run(&flags),
        Command::Pins(flags) => commands::pins::run(&flags),
        Command::Report(flags) => commands::report::run(&flags),
        Command::Why(flags) => commands::why::run(&flags),
        Command::Top(flags) => commands::top::run(&flags),
        Command::Record(flags) => commands::record::run(&flags),
        Command::Plot(flags) => commands::plot::run(&flags),
        Command::Run(flags) => commands::run::run(&flags),
        Command::Enforce(flags) => commands::enforce::run(&flags),
        Command::Doctor(flags) if flags.cross_check.given() => commands::cross_check::run(&flags),
        Command::Doctor(flags) if flags.check => commands::check::run(&flags),
        Command::Doctor(flags) => commands::doctor::run(&flags),
        Command::Generate(flags) => commands::generate::run(&flags),
        Command::Policy(flags) => match flags.command {
            PolicyCommand::Check(flags) => commands::policy_check::run(&flags),
            PolicyCommand::Test(flags) => commands::policy_test::run(&flags),
        },
    };
    exit::conclude(result).into()
}
