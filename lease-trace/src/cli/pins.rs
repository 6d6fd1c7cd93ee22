//! `pins`

use std::path::PathBuf;

use clap::Args;

use super::EXIT_STATUS;
use crate::kernel::memory;

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch the user may type"
)]
pub struct PinsFlags {
    /// Only pins in these files, below these directories, or on what is mounted here
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Only those of these processes, e.g. 982 or 982,1043
    #[arg(short, long = "pid", value_name = "PID,...", value_delimiter = ',')]
    pub pids: Vec<u32>,

    /// Only those of processes in this cgroup and those below it: a path under /sys/fs/cgroup, or absolute
    #[arg(short, long, value_name = "CGROUP")]
    pub cgroup: Option<PathBuf>,

    /// Only those of this consumer, e.g. io_uring, rdma_rxe, xdp, udmabuf
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,

    /// Only on this page frame
    #[arg(long, value_name = "N", conflicts_with = "memory_block")]
    pub pfn: Option<u64>,

    /// Only in this block of memory, as /sys/devices/system/memory has them, e.g. 37 or memory37: what keeps it
    /// from being taken offline
    #[arg(long, value_name = "N", value_parser = memory::block)]
    pub memory_block: Option<u64>,

    /// Pins in memory that is no file, too: anonymous and System V memory, and what has left its file
    #[arg(long)]
    pub all_memory: bool,

    /// Hold what was found against the kernel's own count, and say so in one line; 1 if they differ
    #[arg(long, conflicts_with_all = [
        "paths", "pids", "cgroup", "consumer", "pfn", "memory_block", "all_memory", "json", "columns",
        "noheadings", "raw", "notruncate",
    ])]
    pub check: bool,

    /// One JSON object instead of a table
    #[arg(short = 'J', long, conflicts_with_all = ["columns", "noheadings", "raw", "notruncate"])]
    pub json: bool,

    /// Columns to show, e.g. PID,PINS,PATH; +INODE adds to the usual ones
    #[arg(short = 'o', long = "output", value_name = "COLUMN,...")]
    pub columns: Option<String>,

    /// No line of headings
    #[arg(short, long)]
    pub noheadings: bool,

    /// One space between columns, spaces in values as \x20; sizes in bytes
    #[arg(short, long)]
    pub raw: bool,

    /// Do not shorten values to fit the terminal
    #[arg(short = 'u', long)]
    pub notruncate: bool,
}
