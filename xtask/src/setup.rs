//! `cargo xtask setup`: everything a fresh Debian or Ubuntu with cargo lacks, installed once and
//! named first. The other commands call the parts they need by themselves.

pub mod apt;
pub mod emulator;
pub mod packages;
pub mod sources;
pub mod toolchain;

use anyhow::Result;

use crate::{guest::kernels, progress::say};

#[derive(clap::Args)]
pub struct Options {
    /// Look for newer kernels even where one is cached
    #[arg(long)]
    update: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let Options { update } = options;
    packages::ensure()?;
    toolchain::ensure()?;
    toolchain::cargo_deb()?;
    toolchain::cargo_fuzz()?;
    for name in kernels::NAMES {
        let kernel = if *update {
            kernels::refreshed(name)
        } else {
            kernels::find(name)
        }?;
        say(format!("kernel {name}: {}", kernel.release));
    }
    say("everything is there");
    Ok(())
}
