//! `cargo xtask demo`: the main job on real input, in a Debian guest or on this machine. The script
//! beside this file is the demo; here it gets its surroundings.

use std::{
    fs, io,
    os::unix::fs::symlink,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    guest::{Guest, Userland, command, image, kernels, programs},
    sh::{Run as _, as_root},
};

const SCRIPT: &str = include_str!("demo/demo.sh");

#[derive(clap::Args)]
pub struct Options {
    /// 6.1, 6.12, latest, or the path of a vmlinuz with its modules
    #[arg(long, value_name = "KERNEL", default_value = kernels::DEFAULT, conflicts_with = "host")]
    kernel: String,
    /// Let the monitor write one JSON object a line
    #[arg(long)]
    json: bool,
    /// Run on this machine's own kernel instead of in a guest
    #[arg(long)]
    host: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { kernel, json, host } = options;
    let format = if *json { "json" } else { "table" };
    if *host {
        on_host(format)
    } else {
        in_guest(kernel, format)
    }
}

fn in_guest(kernel: &str, format: &str) -> Result<ExitCode> {
    let kernel = kernels::find(kernel)?;
    let built = programs::fixed(false)?;
    let client = programs::dynamic_client()?;
    let packages: Vec<String> = image::RDMA.iter().map(|&name| name.to_owned()).collect();
    let mut guest = Guest::new(&kernel, Userland::Debian(packages));
    guest.programs = command::on_path(built.lease_trace, client);
    guest.files = vec![("demo.sh".to_owned(), SCRIPT.as_bytes().to_vec())];
    guest.env = vec![("DEMO_RDMA".to_owned(), "required".to_owned())];
    guest.command = vec!["/run/guest/demo.sh".to_owned(), format.to_owned()];
    let ran = guest.run(Box::new(io::stdout()), Box::new(io::stderr()))?;
    Ok(command::verdict(&ran))
}

fn on_host(format: &str) -> Result<ExitCode> {
    let built = programs::fixed(false)?;
    let client = programs::dynamic_client()?;
    as_root(&built.lease_trace)
        .arg("doctor")
        .read()
        .context("the demo on this machine's own kernel needs `lease-trace doctor` to succeed")?;

    let directory = tempfile::tempdir().context("creating a directory for the demo's programs")?;
    for (name, file) in command::on_path(built.lease_trace, client) {
        symlink(&file, directory.path().join(&name))
            .with_context(|| format!("linking {name} to {}", file.display()))?;
    }
    let script = directory.path().join("demo.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("writing {}", script.display()))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = as_root("env");
    command
        .arg(format!(
            "PATH={}:{path}:/usr/sbin:/sbin",
            directory.path().display()
        ))
        .arg("sh")
        .arg(&script)
        .arg(format)
        .stdin(Stdio::null());
    let line = command.line();
    let status = command
        .status()
        .with_context(|| format!("could not start: {line}"))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(125),
    ))
}
