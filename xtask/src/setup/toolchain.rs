//! What the eBPF crate's build needs beyond cargo: bpf-linker, and the source of `core` of the very
//! rustc version in use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt::{self, Suite};
use crate::{
    cache,
    progress::{say, step},
    sh::{Run as _, as_root, on_path},
};

const BPF_LINKER: &str = "0.10.3";
const CARGO_DEB: &str = "3.8.0";
const CARGO_FUZZ: &str = "0.13.2";

/// Suites that may have a rust-src as new as the toolchain, the likeliest first.
const RUST_SRC_SUITES: &[&str] = &["trixie-backports", "sid", "trixie"];

/// Installs whichever of the two is missing.
pub fn ensure() -> Result<()> {
    bpf_linker()?;
    rust_src()
}

/// Installs what packs the Debian package.
pub fn cargo_deb() -> Result<()> {
    installed("cargo-deb", CARGO_DEB)
}

/// What runs the fuzz targets.
pub fn cargo_fuzz() -> Result<()> {
    installed("cargo-fuzz", CARGO_FUZZ)
}

fn bpf_linker() -> Result<()> {
    installed("bpf-linker", BPF_LINKER)
}

/// A program of cargo's registry, of the very version.
fn installed(program: &str, version: &str) -> Result<()> {
    let wanted = format!("{program} {version}");
    let found = Command::new(program)
        .arg("--version")
        .read()
        .unwrap_or_default();
    if found.trim() == wanted {
        return Ok(());
    }
    say(match found.trim() {
        "" => format!("missing: {wanted}"),
        found => format!("missing: {wanted} (found {found})"),
    });
    Command::new("cargo")
        .args([
            "install",
            program,
            "--version",
            version,
            "--locked",
            "--force",
        ])
        .run()
        .with_context(|| format!("installing {program}"))?;
    if Command::new(program).arg("--version").read().is_err() {
        bail!("{program} is installed but not on the PATH: add cargo's bin directory to it");
    }
    Ok(())
}

/// Where rustc's own library sources belong, whether or not they are there.
fn library() -> Result<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).read()?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

fn rust_src() -> Result<()> {
    let library = library()?;
    if library.join("Cargo.lock").exists() {
        return Ok(());
    }
    let version = release()?;
    say(format!(
        "missing: the source of core of rustc {version}, in {}",
        library.display()
    ));
    let reason = match from_debian(&version, &library) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    say(format!("not from Debian: {reason:#}"));
    if !on_path("rustup") {
        bail!(
            "no source of core for rustc {version}: neither Debian nor a toolchain manager offers \
             it here; use a rustc that comes with its rust-src"
        );
    }
    step("asking rustup for rust-src", || {
        Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .quiet()
    })
}

/// The version of the rustc in use, such as 1.95.0 or 1.97.0-nightly.
fn release() -> Result<String> {
    let text = Command::new("rustc").arg("-vV").read()?;
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(release
        .context("`rustc -vV` names no release")?
        .trim()
        .to_owned())
}

fn from_debian(version: &str, library: &Path) -> Result<()> {
    if !on_path("apt-get") || version.contains('-') {
        bail!("Debian has the sources of stable releases only, and only apt-get can fetch them");
    }
    for name in RUST_SRC_SUITES {
        let suite = Suite::refreshed(name)?;
        let versions = suite.versions("rust-src");
        let upstream = |full: &str| full.split('+').next() == Some(version);
        let Some(package) = versions.iter().find(|package| upstream(&package.version)) else {
            continue;
        };
        let scratch = cache::scratch()?;
        let deb = suite.download(package, scratch.path())?;
        apt::unpack(&deb, scratch.path())?;
        let unpacked = scratch
            .path()
            .join(format!("usr/src/rustc-{version}/library"));
        if !unpacked.join("Cargo.lock").exists() {
            bail!(
                "the package rust-src of {name} holds no {}",
                unpacked.display()
            );
        }
        return place(&unpacked, library);
    }
    bail!(
        "none of its suites {} has rust-src {version}",
        RUST_SRC_SUITES.join(", ")
    )
}

/// Copies the sources into the toolchain, as root where the toolchain is root's.
fn place(unpacked: &Path, library: &Path) -> Result<()> {
    let parent = library
        .parent()
        .context("the library directory has no parent")?;
    let own = fs::create_dir_all(parent).is_ok() && tempfile::tempfile_in(parent).is_ok();
    let command = |program: &str| {
        if own {
            Command::new(program)
        } else {
            as_root(program)
        }
    };
    step(
        &format!("copying the source of core to {}", library.display()),
        || {
            command("mkdir").arg("-p").arg(parent).quiet()?;
            command("cp")
                .args(["-r", "--no-preserve=ownership"])
                .arg(unpacked)
                .arg(library)
                .quiet()
        },
    )
}
