//! Compiles the eBPF crate and leaves its objects in `OUT_DIR`.
//!
//! The target is built with the same rustc as everything else. What it needs of unstable features
//! (`build-std`, BPF atomics as intrinsics) is unlocked for that one command only.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const PACKAGE: &str = "lease-trace-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const OBJECTS: [&str; 2] = ["lease-trace", "pins"];
/// Atomics that return the old value need v3; BTF needs debug info. With memcpy in order (the linker's
/// choice, for kernels that look at it) even three bytes are set by a call of memset, byte by byte.
const FLAGS: [&str; 5] = [
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Clink-arg=--disable-expand-memcpy-in-order",
    "-Ctarget-cpu=v3",
];

fn main() {
    if let Err(reason) = build() {
        eprintln!("error: {reason}");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest
        .parent()
        .ok_or("lease-trace is not inside its workspace")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    for watched in ["lease-trace-ebpf", "lease-trace-common/src", "Cargo.lock"] {
        println!(
            "cargo:rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }

    let target_dir = out.join("ebpf");
    let mut command = Command::new(variable("CARGO")?);
    command
        .current_dir(workspace)
        .args([
            "build",
            "--release",
            "--package",
            PACKAGE,
            "--target",
            TARGET,
        ])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    // The outer build's wrapper and profile are not meant for this target.
    for inherited in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ] {
        command.env_remove(inherited);
    }
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            command.env_remove(name);
        }
    }
    let status = command
        .status()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if !status.success() {
        return Err(format!(
            "building the eBPF object failed ({status}). It needs bpf-linker and the rust-src of \
             this rustc: run `cargo xtask setup` in {} once",
            workspace.display()
        ));
    }
    let built = target_dir.join(TARGET).join("release");
    for object in OBJECTS {
        copy(&built.join(object), &out.join(format!("{object}.bpf.o")))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(|_| ()).map_err(|error| {
        format!(
            "cannot copy {} to {}: {error}",
            from.display(),
            to.display()
        )
    })
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; cargo sets it"))
}
