//! `enforce`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AttachFlags, CapacityFlags, EXIT_STATUS, FilesFlags};
use crate::policy;

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
    #[arg(long, value_name = "FILE", default_value = policy::DEFAULT_PATH)]
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
