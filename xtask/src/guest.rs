//! Guests: a kernel, a userland and a command, run to their end under qemu. The command's output is
//! passed on live, its exit status is the result, and a guest that is beyond help is ended.

pub mod accel;
pub mod command;
pub mod image;
pub mod initramfs;
pub mod kernels;
pub mod modules;
pub mod programs;
mod qemu;
mod session;
mod watch;

use std::{
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

pub use self::watch::Trouble;
use self::{accel::Accel, initramfs::Archive, kernels::Kernel};
use crate::sh::quote;

/// What the guest's programs find around them.
#[derive(Clone, Debug)]
pub enum Userland {
    /// Busybox alone, everything in memory.
    Initramfs,
    /// Debian with these packages, made if it is not there.
    Debian(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct Machine {
    /// Make the guest's clock count executed instructions.
    pub icount: bool,
    pub cpus: u32,
    /// In MiB.
    pub memory: u32,
    /// Beside those that every guest has, as `qemu -device` takes them.
    pub devices: &'static [&'static str],
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            icount: false,
            cpus: 2,
            memory: 2048,
            devices: &[],
        }
    }
}

/// The first program, once the guest is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The script that runs the command.
    Script,
    /// systemd, as it is on a host; the userland must have it.
    Systemd,
    /// The actor `client`, which takes commands from /run/guest/first.in.
    Client,
}

/// A guest to be run.
#[derive(Clone)]
pub struct Guest<'a> {
    pub kernel: &'a Kernel,
    pub userland: Userland,
    pub machine: Machine,
    pub first: First,
    /// Added to the kernel's command line.
    pub cmdline: String,
    pub limit: Duration,
    /// Put on the PATH, under these names.
    pub programs: Vec<(String, PathBuf)>,
    /// Put into /run/guest, under these names.
    pub files: Vec<(String, Vec<u8>)>,
    pub env: Vec<(String, String)>,
    /// Run as root in /root.
    pub command: Vec<String>,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command ended with this status.
    Exit(i32),
    Trouble(Trouble),
    /// The time limit, and whether the command had begun.
    TimeLimit {
        up: bool,
    },
    /// qemu ended before the command did.
    Died,
    /// Nobody reads the output any more.
    Unread,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Trouble(trouble) => trouble.fmt(f),
            Self::TimeLimit { up: true } => f.write_str("time limit"),
            Self::TimeLimit { up: false } => f.write_str("time limit, before the command began"),
            Self::Died => f.write_str("qemu ended before the command did"),
            Self::Unread => f.write_str("nobody reads the output any more"),
        }
    }
}

/// What is known of a guest that has ended.
pub struct Ran {
    pub ended: Ended,
    /// From qemu's start until the command began.
    pub boot: Option<Duration>,
    /// The last lines of its console, and qemu's own words if it died.
    pub last_words: String,
}

pub type Sink = Box<dyn Write + Send>;

impl<'a> Guest<'a> {
    pub fn new(kernel: &'a Kernel, userland: Userland) -> Self {
        Self {
            kernel,
            userland,
            machine: Machine::default(),
            first: First::Script,
            cmdline: String::new(),
            limit: Duration::from_mins(10),
            programs: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            command: Vec::new(),
        }
    }

    /// Runs the guest with what this host offers.
    pub fn run(&self, out: Sink, err: Sink) -> Result<Ran> {
        let accel = if self.machine.icount {
            Accel::Tcg
        } else {
            Accel::here(self.kernel)?
        };
        self.run_on(accel, out, err)
    }

    fn run_on(&self, accel: Accel, out: Sink, err: Sink) -> Result<Ran> {
        let directory = tempfile::Builder::new()
            .prefix("guest-")
            .tempdir()
            .context("creating a directory for a guest's channels")?;
        let disks = match &self.userland {
            Userland::Initramfs => Vec::new(),
            Userland::Debian(packages) => {
                vec![image::debian(packages)?, image::modules(self.kernel)?]
            }
        };
        let initramfs = directory.path().join("initramfs");
        fs::copy(initramfs::base(self.kernel, !disks.is_empty())?, &initramfs)
            .context("copying the initramfs")?;
        self.pack(&initramfs, !disks.is_empty())?;
        let boot = qemu::Boot {
            machine: &self.machine,
            accel,
            vmlinuz: &self.kernel.vmlinuz,
            initramfs: &initramfs,
            // Quiet, because every byte of the console costs time; trouble is still printed. The
            // kernel counts the ticks of a moment to see whether the timer works, and panics if a
            // busy host left it none.
            cmdline: format!(
                "console=ttyS0 loglevel=5 panic=-1 oops=panic random.trust_cpu=on no_timer_check {}",
                self.cmdline
            ),
            disks: &disks,
        };
        session::run(&boot, directory.path(), self.limit, out, err)
            .with_context(|| format!("running a guest with kernel {}", self.kernel.name))
    }

    /// Puts what this very guest is to run behind the initramfs.
    fn pack(&self, path: &Path, disk: bool) -> Result<()> {
        let mut archive = Archive::begin(path)?;
        archive.data("init", include_bytes!("guest/init.sh"))?;
        archive.data("guest/stage2.sh", include_bytes!("guest/stage2.sh"))?;
        archive.data("guest/command", self.script().as_bytes())?;
        if disk {
            archive.data("guest/disk", b"")?;
        }
        match self.first {
            First::Script => {}
            First::Systemd => {
                archive.data("guest/systemd", b"")?;
                archive.data("guest/guest.service", include_bytes!("guest/guest.service"))?;
            }
            First::Client => archive.data("guest/first", b"")?,
        }
        archive
            .directory("guest/bin".as_ref())
            .context("adding a directory to an initramfs")?;
        for (name, file) in &self.programs {
            archive.file(format!("guest/bin/{name}"), file)?;
        }
        for (name, data) in &self.files {
            archive.data(format!("guest/{name}"), data)?;
        }
        archive.finish()
    }

    /// The command with its surroundings, for the guest's shell.
    fn script(&self) -> String {
        let own = [("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let exports = own.iter().chain(&self.env);
        let exports = exports.map(|(name, value)| format!("export {name}={}\n", quote(value)));
        let words: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        format!(
            "{}cd /root\nexec {}\n",
            exports.collect::<String>(),
            words.join(" ")
        )
    }
}
