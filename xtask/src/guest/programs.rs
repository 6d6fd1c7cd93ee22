//! Builds what guests run: static programs, which need nothing of the userland, and the client
//! linked dynamically, which can load the userland's libraries.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{setup::toolchain, sh::Run as _};

/// What the static programs are built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs ready to be put into a guest.
pub struct Programs {
    pub lease_trace: PathBuf,
    pub client: PathBuf,
    /// The guest scenarios, if they were asked for.
    pub scenarios: Option<PathBuf>,
}

impl Programs {
    /// Reads the guest scenarios, which must have been asked for; with the place they are in.
    pub fn read_scenarios(&self) -> Result<(&Path, Vec<u8>)> {
        let path = self.scenarios.as_deref();
        let path = path.context("the scenarios were not built")?;
        let data = fs::read(path)
            .with_context(|| format!("reading the scenarios from {}", path.display()))?;
        Ok((path, data))
    }
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    Path::new(&own)
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The directory that cargo builds into.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => std::path::absolute(&directory).unwrap_or_else(|_| directory.into()),
        None => workspace().join("target"),
    }
}

/// The cargo that runs this, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// lease-trace and the client, both static, and on request the scenarios; one call of cargo, in a
/// directory of its own because the flags differ from those of a plain build.
pub fn fixed(scenarios: bool) -> Result<Programs> {
    toolchain::ensure()?;
    let mut command = cargo();
    command
        .args([
            "build",
            "--release",
            "--package",
            "lease-trace",
            "--features",
            "guest",
        ])
        .args(["--bin", "lease-trace", "--example", "client"])
        .args([
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
            "--target-dir",
        ])
        .arg(target().join("guest"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    if scenarios {
        command.args(["--test", "guest"]);
    }
    let made = build(&mut command)?;
    Ok(Programs {
        lease_trace: find(&made, "bin", "lease-trace")?,
        client: find(&made, "example", "client")?,
        scenarios: if scenarios {
            Some(find(&made, "test", "guest")?)
        } else {
            None
        },
    })
}

/// The client, linked against the userland's libc.
pub fn dynamic_client() -> Result<PathBuf> {
    toolchain::ensure()?;
    let mut command = cargo();
    command
        .args(["build", "--package", "lease-trace", "--example", "client"])
        .args(["--message-format", "json-render-diagnostics"]);
    find(&build(&mut command)?, "example", "client")
}

/// What a build made: its kind, its name, its file.
type Made = Vec<(String, String, PathBuf)>;

fn build(command: &mut Command) -> Result<Made> {
    let line = command.line();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start: {line}"))?;
    if !output.status.success() {
        bail!("failed ({}): {line}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(artifact)
        .collect())
}

/// A program in one line of cargo's messages.
fn artifact(line: &str) -> Option<(String, String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = message.get("target")?;
    Some((
        target.get("kind")?.get(0)?.as_str()?.to_owned(),
        target.get("name")?.as_str()?.to_owned(),
        message.get("executable")?.as_str()?.into(),
    ))
}

fn find(made: &Made, kind: &str, name: &str) -> Result<PathBuf> {
    made.iter()
        .find(|(its_kind, its_name, _)| its_kind == kind && its_name == name)
        .map(|(_, _, file)| file.clone())
        .with_context(|| format!("cargo built no {kind} named {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"lease-trace"},"executable":"/t/lease-trace"}"#;
        let made: Made = [
            line,
            r#"{"reason":"build-finished","success":true}"#,
            "not json",
        ]
        .into_iter()
        .filter_map(artifact)
        .collect();
        assert_eq!(
            find(&made, "bin", "lease-trace").unwrap(),
            Path::new("/t/lease-trace")
        );
        assert!(find(&made, "test", "guest").is_err());
    }
}
