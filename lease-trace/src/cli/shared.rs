//! Flags that several commands have.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};

use crate::{filter::Asked, tracer};

#[derive(Clone, Debug, Default, Args)]
pub struct FilterFlags {
    /// Only what this process owns or releases; may be given several times
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,

    /// Only processes in this cgroup and those below it: a path under /sys/fs/cgroup, or absolute
    #[arg(short, long, value_name = "CGROUP")]
    pub cgroup: Option<PathBuf>,

    /// Only this file, or the files below this directory; files whose path is not fully known are
    /// shown as well
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<PathBuf>,
}

impl FilterFlags {
    /// What they ask for.
    pub fn asked(&self) -> Asked {
        Asked {
            pids: self.pids.clone(),
            cgroup: self.cgroup.clone(),
            path: self.path.clone(),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct AttachFlags {
    /// How to attach to the kernel: auto takes, for each function, the kind of hook that misses least here
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    pub attach: Attach,
}

#[derive(Clone, Debug, Default, Args)]
pub struct CrossCheckFlags {
    /// Hold all pins that the hooks see against the kernel's own count, and say how they differ
    #[arg(long, group = "of-hooks")]
    cross_check: bool,

    /// The old form
    #[arg(long, group = "of-hooks", hide = true)]
    audit: bool,
}

impl CrossCheckFlags {
    pub const fn given(&self) -> bool {
        self.cross_check || self.audit
    }

    /// The name that was replaced, if it was given, and the one that there is now.
    pub const fn old_form(&self) -> Option<(&'static str, &'static str)> {
        if self.audit {
            Some(("--audit", "--cross-check"))
        } else {
            None
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct CapacityFlags {
    /// How many leases, stakes and files there is room for. What finds no room is counted and reported
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
    /// Who may read the files in /sys/fs/bpf/lease-trace: 0400, 0440 or 0444; root only by
    /// default
    #[arg(long, value_name = "MODE")]
    pub proc_mode: Option<tracer::bpffs::Mode>,
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
    /// kprobe.multi: where tasks are preempted inside fentry it misses less, and it costs more
    Multi,
}

impl From<Attach> for tracer::AttachMode {
    fn from(attach: Attach) -> Self {
        match attach {
            Attach::Auto => Self::Auto,
            Attach::Fentry => Self::Fentry,
            Attach::Kprobe => Self::Kprobe,
            Attach::Multi => Self::Multi,
        }
    }
}
