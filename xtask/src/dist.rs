//! `cargo xtask dist`: what is handed to users, in target/dist: a Debian package and a tarball, both
//! with the static program and all that belongs to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    guest::programs::{self, TARGET},
    progress::{say, step},
    setup::toolchain,
    sh::Run as _,
};

/// What a tarball has beside the program and what the program generates, from the workspace.
const BESIDE: [&str; 6] = [
    "dist",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

#[derive(clap::Args)]
pub struct Options {}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options {} = options;
    let program = programs::fixed(false)?.lease_trace;
    let version = version(&program)?;
    for made in [package(&program, &version)?, tarball(&program, &version)?] {
        say(format!("made {}", made.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The version that a program says it has.
pub fn version(program: &Path) -> Result<String> {
    let said = Command::new(program).arg("--version").read()?;
    let version = said.split_ascii_whitespace().nth(1);
    Ok(version.context("the program says no version")?.to_owned())
}

/// The Debian package of this version, of a program that [`programs::fixed`] built.
pub fn package(program: &Path, version: &str) -> Result<PathBuf> {
    toolchain::cargo_deb()?;
    generate(program)?;
    let package = directory()?.join(format!("lease-trace_{version}_amd64.deb"));
    step(&format!("packing {}", package.display()), || {
        programs::cargo()
            .args([
                "deb",
                "--no-build",
                "--no-strip",
                "--package",
                "lease-trace",
            ])
            .args(["--target", TARGET, "--deb-version", version, "--output"])
            .arg(&package)
            .env("CARGO_TARGET_DIR", programs::target().join("guest"))
            .quiet()
    })?;
    Ok(package)
}

fn tarball(program: &Path, version: &str) -> Result<PathBuf> {
    let generated = generate(program)?;
    let name = format!("lease-trace-{version}-x86_64-linux");
    let directory = directory()?;
    let tarball = directory.join(format!("{name}.tar.xz"));
    step(&format!("packing {}", tarball.display()), || {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--auto-compress", "--sort=name", "--mtime=@0"])
            .args(["--owner=0", "--group=0", "--numeric-owner"])
            .arg(format!("--transform=s,^,{name}/,"))
            .arg("--file")
            .arg(&tarball);
        for (from, what) in [
            (program.parent(), &["lease-trace"][..]),
            (Some(generated.as_path()), &["man", "completions"]),
            (Some(programs::workspace().as_path()), &BESIDE),
        ] {
            tar.arg("--directory")
                .arg(from.context("the program lies in no directory")?)
                .args(what);
        }
        tar.quiet()
    })?;
    Ok(tarball)
}

/// Man pages, compressed as Debian has them, and completions, in a directory beside the program.
fn generate(program: &Path) -> Result<PathBuf> {
    let directory = program.with_file_name("dist");
    let man = directory.join("man");
    if man.exists() {
        fs::remove_dir_all(&man).with_context(|| format!("removing {}", man.display()))?;
    }
    Command::new(program)
        .arg("generate")
        .arg(&directory)
        .quiet()?;
    Command::new("gzip")
        .args(["--recursive", "--best", "--no-name"])
        .arg(&man)
        .quiet()?;
    Ok(directory)
}

fn directory() -> Result<PathBuf> {
    let directory = programs::target().join("dist");
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}
