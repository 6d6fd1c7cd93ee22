//! The qemu command line of a guest, and its process. Three sockets that the host listens on are
//! the guest's channels: its stdout, its stderr, and a status line.

use std::{
    fs::{self, File},
    io,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Machine, accel::Accel};
use crate::{
    setup::emulator,
    sh::{Run as _, last_lines},
};

/// All that qemu has to be told.
pub struct Boot<'a> {
    pub machine: &'a Machine,
    pub accel: Accel,
    pub vmlinuz: &'a Path,
    pub initramfs: &'a Path,
    pub cmdline: String,
    pub disks: &'a [PathBuf],
}

/// A running guest; killed when dropped.
pub struct Qemu {
    child: Child,
    line: String,
    stderr: PathBuf,
}

/// The ends of a guest's channels on this side.
pub struct Channels {
    pub console: ChildStdout,
    pub out: UnixStream,
    pub err: UnixStream,
    pub status: UnixStream,
}

const NAMES: [&str; 3] = ["out", "err", "status"];

/// Starts a guest; `directory` is for its sockets and its own log.
pub fn start(boot: &Boot, directory: &Path) -> Result<(Qemu, Channels)> {
    let listeners = NAMES.map(|name| listen(&directory.join(name)));
    let mut command = command(boot, directory);
    let line = command.line();
    let stderr = directory.join("qemu.log");
    let log = File::create(&stderr).with_context(|| format!("creating {}", stderr.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("could not start: {line}"))?;
    let console = child
        .stdout
        .take()
        .context("qemu's console is not to be had")?;
    let mut qemu = Qemu {
        child,
        line,
        stderr,
    };
    let mut streams = Vec::new();
    for listener in listeners {
        streams.push(qemu.accept(&listener?)?);
    }
    let [out, err, status] = <[UnixStream; 3]>::try_from(streams)
        .ok()
        .context("a channel of the guest is missing")?;
    Ok((
        qemu,
        Channels {
            console,
            out,
            err,
            status,
        },
    ))
}

/// A socket in place of the one that an earlier boot of the same guest may have left.
fn listen(path: &Path) -> Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))
}

fn command(boot: &Boot, directory: &Path) -> Command {
    let Boot {
        machine,
        accel,
        vmlinuz,
        initramfs,
        cmdline,
        disks,
    } = boot;
    let Machine {
        icount,
        cpus,
        memory,
        devices,
    } = machine;
    // setpriv: the guest does not outlive this process, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", emulator::PROGRAM]);
    // With these the kernel copies and clears memory by one instruction, which an emulator runs, and counts,
    // once a byte. Where instructions are counted it is as it was when the limits were recorded.
    let cpu = if *icount {
        "max,fsrm=off"
    } else {
        "max,erms=off,fsrm=off,fsrs=off,fzrm=off,fsrc=off"
    };
    command.args([
        "-M",
        "q35",
        "-cpu",
        cpu,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    // First, because an IOMMU is there for the devices that come after it.
    for device in *devices {
        command.args(["-device", device]);
    }
    command.args([
        "-display",
        "none",
        "-serial",
        "stdio",
        "-device",
        "virtio-serial-pci",
    ]);
    command.args(["-m", &memory.to_string()]);
    if *icount {
        // One instruction is one nanosecond of the guest's time, whatever else the host does.
        command.args([
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=0,sleep=off",
            "-smp",
            "1",
        ]);
    } else {
        command.args(["-accel", accel.name(), "-smp", &cpus.to_string()]);
    }
    command
        .arg("-kernel")
        .arg(vmlinuz)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", cmdline]);
    for name in NAMES {
        let path = directory.join(name);
        command
            .arg("-chardev")
            .arg(format!("socket,id={name},path={}", path.display()));
        command
            .arg("-device")
            .arg(format!("virtserialport,chardev={name},name={name}"));
    }
    for disk in *disks {
        let file = disk.display().to_string().replace(',', ",,");
        command
            .arg("-drive")
            .arg(format!("file={file},if=virtio,format=raw,snapshot=on"));
    }
    command
}

impl Qemu {
    /// Waits for qemu to connect a channel, unless it ends first.
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        let context = "waiting for qemu to open the guest's channels";
        listener.set_nonblocking(true).context(context)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).context(context)?;
                return Ok(stream);
            }
            if self.child.try_wait().context(context)?.is_some() || Instant::now() > deadline {
                bail!("{context}: it did not. {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How qemu was called and what it said itself.
    pub fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.stderr).unwrap_or_default();
        format!("Called: {}\nIt said: {}", self.line, last_lines(&said, 10))
    }

    /// Ends the guest, if it still runs, and returns how qemu ended.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let context = "ending qemu";
        if self.child.try_wait().context(context)?.is_none() {
            // It may end by itself at this very moment, which is as good.
            let _ = self.child.kill();
        }
        self.child.wait().context(context)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_booted_once_more_in_its_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out");
        drop(listen(&path).expect("the first boot"));
        let second = listen(&path).expect("the second boot");
        UnixStream::connect(&path).expect("a channel");
        second.accept().expect("the same channel");
    }
}
