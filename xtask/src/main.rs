//! The project's own tools: `cargo xtask setup | guest | test | oracle | adversary | bench | demo | dist`. Only
//! dispatches.

mod adversary;
mod bench;
mod cache;
mod demo;
mod dist;
mod guest;
mod oracle;
mod progress;
mod random;
mod setup;
mod sh;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tools of the lease-trace project
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install everything that building and testing need, and fetch the kernels
    Setup(setup::Options),
    /// Run a script as root in a Debian guest with lease-trace on its PATH
    Guest(guest::command::Options),
    /// Run all tests: on this machine, and in guests on every kernel
    Test(test::Options),
    /// Hold lease-trace against a plain model, over random steps in a guest, or hammer it
    Oracle(oracle::Options),
    /// Let a user without privileges try to get around rules in force, by random calls in a guest
    Adversary(adversary::Options),
    /// Measure what lease-trace costs, and hold it against its goals
    Bench(bench::Options),
    /// Watch lease-trace catch zombie leases of real clients
    Demo(demo::Options),
    /// Make the Debian package and the tarball
    Dist(dist::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Setup(options) => setup::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Guest(options) => guest::command::run(options),
        Task::Test(options) => test::run(options),
        Task::Oracle(options) => oracle::run(&options),
        Task::Adversary(options) => adversary::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Dist(options) => dist::run(&options),
    };
    result.unwrap_or_else(|error| {
        progress::say(format!("error: {error:#}"));
        ExitCode::from(125)
    })
}
