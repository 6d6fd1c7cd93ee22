//! `run`

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};
use lease_trace_common::policy::Action;

use super::{AttachFlags, CapacityFlags};
use crate::supervise::OnDeath;

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
    /// It is let through, and reported
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
