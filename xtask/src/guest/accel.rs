//! KVM only where it proves itself: there are hosts where /dev/kvm exists and a guest hangs at its
//! first instruction. One trial boot a host boot decides, and the answer is kept.

use std::{fs, fs::OpenOptions, io, time::Duration};

use anyhow::{Context as _, Result};

use super::{Ended, Guest, Machine, Userland, kernels::Kernel};
use crate::{cache, progress::say};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

/// How long a guest under a working KVM may take to boot.
const LIMIT: Duration = Duration::from_secs(6);

impl Accel {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// What this host offers.
    pub fn here(kernel: &Kernel) -> Result<Self> {
        if OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .context("reading this boot's id")?;
        let path = cache::root()?.join("kvm-trial");
        let _lock = cache::lock("kvm-trial")?;
        let kept = fs::read_to_string(&path).unwrap_or_default();
        if let Some(answer) = kept.strip_prefix(boot.trim()) {
            return Ok(if answer.trim() == "yes" {
                Self::Kvm
            } else {
                Self::Tcg
            });
        }
        let booted = trial(kernel);
        let (answer, said) = if booted {
            ("yes", "KVM works here")
        } else {
            (
                "no",
                "/dev/kvm is there, but a guest does not boot with it: using TCG",
            )
        };
        say(said);
        fs::write(&path, format!("{} {answer}\n", boot.trim()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(if booted { Self::Kvm } else { Self::Tcg })
    }
}

fn trial(kernel: &Kernel) -> bool {
    let mut guest = Guest::new(kernel, Userland::Initramfs);
    guest.machine = Machine {
        cpus: 1,
        memory: 512,
        ..Machine::default()
    };
    guest.command = vec!["true".to_owned()];
    guest.limit = LIMIT;
    let run = guest.run_on(Accel::Kvm, Box::new(io::sink()), Box::new(io::sink()));
    run.is_ok_and(|run| run.ended == Ended::Exit(0))
}
