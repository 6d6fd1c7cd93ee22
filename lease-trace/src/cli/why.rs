//! `why`

use std::path::PathBuf;

use clap::Args;

use super::EXIT_STATUS;

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct WhyFlags {
    /// A file, a directory or a mount point; a block of memory as /sys/devices/system/memory has it, e.g. memory37; or
    /// a pid
    pub what: PathBuf,
}
