//! The host's own packages: which programs the other commands need, which are missing, and the one
//! apt-get call that installs them.

use std::{path::Path, process::Command, sync::OnceLock};

use anyhow::{Context as _, Result, bail};

use super::{apt::KEYRING, emulator};
use crate::{
    progress::{say, step},
    sh::{Run as _, as_root, on_path},
};

/// What shows that a package is there.
enum Sign {
    Program(&'static str),
    File(&'static str),
}

const NEEDED: &[(&str, Sign)] = &[
    ("qemu-system-x86", Sign::Program(emulator::PROGRAM)),
    ("busybox-static", Sign::Program("busybox")),
    ("debootstrap", Sign::Program("debootstrap")),
    ("debian-archive-keyring", Sign::File(KEYRING)),
    ("e2fsprogs", Sign::Program("mkfs.ext4")),
    ("kmod", Sign::Program("depmod")),
    ("util-linux", Sign::Program("setpriv")),
    ("xz-utils", Sign::Program("xz")),
    ("zstd", Sign::Program("zstd")),
];

fn is_missing((_, sign): &(&str, Sign)) -> bool {
    match sign {
        Sign::Program(name) => !on_path(name),
        Sign::File(path) => !Path::new(path).exists(),
    }
}

/// Installs what is missing; looks only once per command.
pub fn ensure() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|needed| is_missing(needed))
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    emulator::ensure()?;
    let _ = DONE.set(());
    Ok(())
}

fn install(missing: &[&str]) -> Result<()> {
    if !on_path("apt-get") {
        bail!(
            "this host is not Debian-like (it has no apt-get), so setup cannot install what is \
             missing: install by hand what your distribution calls {}, and pass your own kernel \
             with --kernel PATH",
            missing.join(", ")
        );
    }
    say(format!("missing packages: {}", missing.join(" ")));
    step("reading this machine's package index", || {
        apt_get().arg("update").quiet()
    })?;
    step(&format!("installing {}", missing.join(" ")), || {
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(missing)
            .quiet()
    })
    .context("installing packages: the same command by hand shows more")
}

/// apt-get as root, which asks nothing and waits for its lock.
pub fn apt_get() -> Command {
    let mut command = as_root("env");
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    command
}
