//! Disks for guests: a Debian userland with chosen packages, and all modules of a kernel. Both are
//! made without mounting anything, kept in the cache, and never written to by a guest.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::kernels::Kernel;
use crate::{
    cache,
    progress::{say, step},
    setup::{
        apt::{KEYRING, Suite},
        packages, sources,
    },
    sh::{Run as _, as_root},
};

/// The userland's release, whatever the kernel.
const SUITE: &str = "trixie";
/// In every userland, beside the essential packages.
const ALWAYS: &[&str] = &["iproute2", "kmod", "procps"];
/// What real RDMA clients need: for the demo and the scenarios under `rdma::`.
pub const RDMA: &[&str] = &[
    "e2fsprogs",
    "ibverbs-providers",
    "iproute2",
    "kmod",
    "libibverbs1",
    "perftest",
    "procps",
    "rdma-core",
    "util-linux",
    "xfsprogs",
];
/// The same with an NFS server and the file systems that few have: for the scenarios that need them.
pub const STORAGE: &[&str] = &[
    "btrfs-progs",
    "e2fsprogs",
    "ibverbs-providers",
    "iproute2",
    "kmod",
    "libibverbs1",
    "nfs-common",
    "nfs-kernel-server",
    "procps",
    "rdma-core",
    "util-linux",
    "xfsprogs",
];
/// The size of the userland's disk; what nobody writes to takes no room.
const SIZE: &str = "4G";

/// The disk image of a Debian userland with these packages.
pub fn debian(wanted: &[String]) -> Result<PathBuf> {
    packages::ensure()?;
    let mut names: Vec<String> = wanted
        .iter()
        .cloned()
        .chain(ALWAYS.iter().map(|&name| name.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    let directory = cache::root()?.join("images");
    cache::make(&directory)?;
    let key = cache::key(std::iter::once(SUITE).chain(names.iter().map(String::as_str)));
    let image = directory.join(format!("{SUITE}-{key}.ext4"));
    // One at a time: they share the directory of downloaded packages.
    let _lock = cache::lock("images")?;
    if !image.exists() {
        say(format!("making a Debian userland with {}", names.join(" ")));
        make(&names, &directory, &image)?;
    }
    Ok(image)
}

fn make(names: &[String], directory: &Path, image: &Path) -> Result<()> {
    let closure = Suite::refreshed(SUITE)?.closure(names)?;
    let scratch = cache::scratch()?;
    let (root, new) = (scratch.path().join("root"), scratch.path().join("new.ext4"));
    let debs = directory.join("packages");
    cache::make(&debs)?;
    let built = step("installing Debian into a directory", || {
        as_root("debootstrap")
            .args(["--variant=minbase", &format!("--keyring={KEYRING}")])
            .arg(format!("--cache-dir={}", debs.display()))
            .arg(format!("--include={}", closure.join(",")))
            .args([SUITE.as_ref(), root.as_os_str()])
            .arg(sources::mirror()?)
            .quiet()
    })
    .and_then(|()| {
        step("making a disk of it", || {
            // Nobody needs the package files and lists in a guest.
            as_root("sh")
                .arg("-c")
                .arg(
                    "rm -rf \"$1\"/var/cache/apt/archives/*.deb \"$1\"/var/lib/apt/lists/* && \
                     printf '127.0.0.1 localhost guest\\n' >\"$1/etc/hosts\" && \
                     echo guest >\"$1/etc/hostname\" && mkdir -p \"$1/lib/modules\"",
                )
                .arg("sh")
                .arg(&root)
                .quiet()?;
            mkfs(&root, &new, SIZE, as_root("mkfs.ext4"))
        })
    });
    // The tree is root's: what made it has to remove it.
    as_root("rm")
        .arg("-rf")
        .arg("--one-file-system")
        .arg(&root)
        .quiet()?;
    built?;
    fs::rename(&new, image).with_context(|| format!("creating {}", image.display()))
}

/// The read-only disk with all of a kernel's modules, to be mounted on /lib/modules.
pub fn modules(kernel: &Kernel) -> Result<PathBuf> {
    let image = kernel.home.join("modules.ext4");
    let _lock = cache::lock(&format!("modules-{}", kernel.release))?;
    if !image.exists() {
        let directory = kernel
            .modules
            .parent()
            .context("the modules lie in no directory")?;
        let scratch = cache::scratch()?;
        let new = scratch.path().join("new.ext4");
        // Only this kernel's: the directory of a kernel of the user's own may hold others.
        let tree = scratch.path().join("tree");
        cache::make(&tree)?;
        step(
            &format!("making a disk of the modules of {}", kernel.release),
            || {
                Command::new("cp")
                    .arg("-rL")
                    .arg(&kernel.modules)
                    .arg(tree.join(&kernel.release))
                    .quiet()?;
                let size = format!("{}M", megabytes(&tree)? * 11 / 10 + 24);
                let mut mkfs_ext4 = Command::new("mkfs.ext4");
                mkfs_ext4.args(["-O", "^has_journal", "-m", "0"]);
                mkfs(&tree, &new, &size, mkfs_ext4)
            },
        )
        .with_context(|| format!("packing the modules in {}", directory.display()))?;
        fs::rename(&new, &image).with_context(|| format!("creating {}", image.display()))?;
    }
    Ok(image)
}

fn mkfs(tree: &Path, image: &Path, size: &str, mut mkfs_ext4: Command) -> Result<()> {
    // Made beforehand so that it belongs to the user whoever fills it.
    fs::File::create(image).with_context(|| format!("creating {}", image.display()))?;
    mkfs_ext4
        .args(["-q", "-F", "-L", "guest", "-d"])
        .arg(tree)
        .arg(image)
        .arg(size)
        .quiet()
}

/// The room a tree's files take on disk.
fn megabytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let context = || format!("listing {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            let about = entry.metadata().with_context(context)?;
            if about.is_dir() {
                directories.push(entry.path());
            }
            bytes += about.blocks() * 512 + 512;
        }
    }
    Ok(bytes / (1 << 20) + 1)
}
