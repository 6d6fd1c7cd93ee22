//! Finding a kernel to boot: Debian's current ones by series, fetched once and kept in the cache, or
//! a vmlinuz of the user's own with its modules. A cached kernel needs no network.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    cache,
    progress::{say, step},
    setup::{
        apt::{self, Package, Suite},
        packages,
    },
    sh::Run as _,
};

/// The kernels that tests run on unasked, and the suite that has each.
const SUITES: [(&str, &str); 3] = [
    ("6.1", "bookworm"),
    ("6.12", "trixie"),
    ("latest", "trixie-backports"),
];
pub const NAMES: [&str; 3] = [SUITES[0].0, SUITES[1].0, SUITES[2].0];
pub const DEFAULT: &str = "6.12";

/// After the name of one of them: the same series built with PREEMPT_RT.
const REAL_TIME: &str = "-rt";

/// Where a kernel known by name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    suite: &'static str,
    /// The package that depends on its files.
    package: &'static str,
}

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What the user called it.
    pub name: String,
    /// What it calls itself (`uname -r`).
    pub release: String,
    pub vmlinuz: PathBuf,
    /// Its directory of modules, `.../lib/modules/RELEASE`.
    pub modules: PathBuf,
    /// Where whatever is made from it is kept.
    pub home: PathBuf,
}

/// What was fetched, recorded beside it.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Record {
    release: String,
    /// Of the unpacked vmlinuz, to see whether the cache still holds what was verified.
    vmlinuz_sha256: String,
    packages: Vec<Fetched>,
}

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Fetched {
    name: String,
    version: String,
    sha256: String,
}

/// The kernel of this name or path; fetched if the cache lacks it.
pub fn find(name: &str) -> Result<Kernel> {
    packages::ensure()?;
    let Some(source) = source(name) else {
        return own(name);
    };
    let _lock = cache::lock(&format!("kernel-{name}"))?;
    match cached(name)? {
        Some((_, kernel)) => Ok(kernel),
        None => fetch(name, source, None),
    }
}

/// The same, but asks the package index whether there is a newer one first.
pub fn refreshed(name: &str) -> Result<Kernel> {
    packages::ensure()?;
    let source = source(name).with_context(|| format!("{name} is not a kernel known by name"))?;
    let _lock = cache::lock(&format!("kernel-{name}"))?;
    fetch(name, source, cached(name)?)
}

fn source(name: &str) -> Option<Source> {
    let (series, package) = match name.strip_suffix(REAL_TIME) {
        Some(series) => (series, "linux-image-rt-amd64"),
        None => (name, "linux-image-amd64"),
    };
    let (_, suite) = SUITES.iter().find(|(known, _)| *known == series)?;
    Some(Source { suite, package })
}

fn directory() -> Result<PathBuf> {
    let directory = cache::root()?.join("kernels");
    cache::make(&directory)?;
    Ok(directory)
}

fn cached(name: &str) -> Result<Option<(Record, Kernel)>> {
    let Ok(text) = fs::read_to_string(directory()?.join(format!("{name}.json"))) else {
        return Ok(None);
    };
    let Ok(record) = serde_json::from_str::<Record>(&text) else {
        say(format!(
            "the record of kernel {name} in the cache is damaged: fetching it again"
        ));
        return Ok(None);
    };
    let home = directory()?.join(&record.release);
    let kernel = Kernel {
        name: name.to_owned(),
        vmlinuz: home.join("vmlinuz"),
        modules: home.join("lib/modules").join(&record.release),
        release: record.release.clone(),
        home,
    };
    let has = |file: &str| kernel.modules.join(file).exists();
    let whole = ["modules.dep", "modules.builtin", "config"]
        .into_iter()
        .all(has)
        && cache::sha256(&kernel.vmlinuz).is_ok_and(|found| found == record.vmlinuz_sha256);
    if !whole {
        say(format!(
            "kernel {name} in the cache is not what was fetched: fetching it again"
        ));
        return Ok(None);
    }
    Ok(Some((record, kernel)))
}

fn fetch(name: &str, source: Source, old: Option<(Record, Kernel)>) -> Result<Kernel> {
    let suite = Suite::refreshed(source.suite)?;
    let wanted = resolve(&suite, source.package)?;
    let fetched: Vec<Fetched> = wanted.iter().map(Fetched::from).collect();
    if let Some((record, kernel)) = old
        && record.packages == fetched
    {
        return Ok(kernel);
    }
    let scratch = cache::scratch()?;
    let (debs, files) = (scratch.path().join("debs"), scratch.path().join("files"));
    cache::make(&debs)?;
    for package in &wanted {
        apt::unpack(&suite.download(package, &debs)?, &files)?;
    }
    let vmlinuz = unpacked_vmlinuz(&files)?;
    let release = release(&vmlinuz)?;
    let record = Record {
        vmlinuz_sha256: cache::sha256(&vmlinuz)?,
        packages: fetched,
        release,
    };
    arrange(&files, &vmlinuz, &record.release, scratch.path())?;
    let json = directory()?.join(format!("{name}.json"));
    fs::write(&json, serde_json::to_string_pretty(&record)?)
        .with_context(|| format!("writing {}", json.display()))?;
    let (_, kernel) =
        cached(name)?.with_context(|| format!("kernel {name} does not stay in the cache"))?;
    Ok(kernel)
}

impl From<&Package> for Fetched {
    fn from(
        Package {
            name,
            version,
            sha256,
            ..
        }: &Package,
    ) -> Self {
        Self {
            name: name.clone(),
            version: version.clone(),
            sha256: sha256.clone(),
        }
    }
}

/// Follows the metapackage to those that hold the kernel and its modules.
fn resolve(suite: &Suite, metapackage: &str) -> Result<Vec<Package>> {
    let mut queue = suite.package(metapackage)?.depends;
    let mut found: Vec<Package> = Vec::new();
    while let Some(name) = queue.pop() {
        if holds_kernel(&name) && found.iter().all(|package| package.name != name) {
            let package = suite.package(&name)?;
            queue.extend(package.depends.iter().cloned());
            found.push(package);
        }
    }
    ensure!(
        !found.is_empty(),
        "{metapackage} of Debian's suite {} leads nowhere",
        suite.name
    );
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether this is a package of one kernel version's files (`linux-image-6.1.0-50-amd64`).
fn holds_kernel(name: &str) -> bool {
    [
        "linux-image-",
        "linux-binary-",
        "linux-modules-",
        "linux-base-",
    ]
    .iter()
    .filter_map(|prefix| name.strip_prefix(prefix))
    .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn unpacked_vmlinuz(files: &Path) -> Result<PathBuf> {
    let entries = |directory: &str| {
        fs::read_dir(files.join(directory))
            .into_iter()
            .flatten()
            .flatten()
    };
    let boot = entries("boot").map(|entry| entry.path()).filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    });
    let inside = ["usr/lib/modules", "lib/modules"]
        .into_iter()
        .flat_map(entries)
        .map(|entry| entry.path().join("vmlinuz"))
        .filter(|path| path.is_file());
    boot.chain(inside)
        .next()
        .context("the kernel's packages hold no vmlinuz")
}

/// Makes the kernel's directory in the cache out of the unpacked packages.
fn arrange(files: &Path, vmlinuz: &Path, release: &str, scratch: &Path) -> Result<()> {
    let new = scratch.join("new");
    cache::make(&new.join("lib/modules"))?;
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|directory| files.join(directory).join(release))
        .into_iter()
        .find(|directory| directory.join("kernel").is_dir())
        .with_context(|| format!("the packages of kernel {release} hold no modules"))?;
    fs::copy(vmlinuz, new.join("vmlinuz")).context("copying the vmlinuz")?;
    let kept = new.join("lib/modules").join(release);
    fs::rename(&modules, &kept).context("moving the modules")?;
    let config = files.join("boot").join(format!("config-{release}"));
    if config.exists() {
        fs::rename(&config, kept.join("config")).context("moving the configuration")?;
    }
    // depmod looks in lib or in usr/lib, depending on its version.
    std::os::unix::fs::symlink(".", new.join("usr")).context("linking usr")?;
    step(&format!("indexing the modules of {release}"), || {
        Command::new("depmod")
            .arg("--basedir")
            .arg(&new)
            .arg(release)
            .quiet()
    })?;
    let home = directory()?.join(release);
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
    }
    fs::rename(&new, &home).with_context(|| format!("creating {}", home.display()))
}

/// A kernel of the user's own: a path to a vmlinuz.
fn own(path: &str) -> Result<Kernel> {
    let vmlinuz = fs::canonicalize(path).with_context(|| {
        format!(
            "--kernel {path}: neither one of {}, perhaps with {REAL_TIME} behind it, nor a file",
            NAMES.join(", ")
        )
    })?;
    let release = release(&vmlinuz)?;
    let beside = vmlinuz.parent().unwrap_or(Path::new("/"));
    let modules = [beside, beside.parent().unwrap_or(beside), Path::new("/")]
        .map(|directory| directory.join("lib/modules").join(&release))
        .into_iter()
        .chain([beside.to_owned(), beside.join("modules").join(&release)])
        .find(|directory| directory.join("modules.dep").is_file());
    let Some(modules) = modules else {
        bail!(
            "no modules for {}: put them into {}/lib/modules/{release} and run depmod over them \
             (modules.dep is needed)",
            vmlinuz.display(),
            beside.display(),
        );
    };
    let home = directory()?.join(format!(
        "own-{}",
        cache::key([cache::sha256(&vmlinuz)?.as_str()])
    ));
    cache::make(&home)?;
    Ok(Kernel {
        name: path.to_owned(),
        release,
        vmlinuz,
        modules,
        home,
    })
}

/// What a vmlinuz calls itself, from its own header.
fn release(vmlinuz: &Path) -> Result<String> {
    let context = || format!("reading the header of {}", vmlinuz.display());
    let mut file = File::open(vmlinuz).with_context(context)?;
    let mut head = [0; 0x210];
    file.read_exact(&mut head).with_context(context)?;
    if &head[0x202..0x206] != b"HdrS" {
        bail!(
            "{} is not a bootable x86 kernel image (vmlinuz)",
            vmlinuz.display()
        );
    }
    // The field holds the text's place, less the 0x200 bytes of the boot sector.
    let place = u64::from(u16::from_le_bytes([head[0x20e], head[0x20f]])) + 0x200;
    file.seek(SeekFrom::Start(place)).with_context(context)?;
    let mut text = Vec::new();
    file.take(256)
        .read_to_end(&mut text)
        .with_context(context)?;
    let text = text
        .split(|byte| matches!(byte, 0 | b' '))
        .next()
        .unwrap_or_default();
    ensure!(
        !text.is_empty(),
        "{} does not say its version",
        vmlinuz.display()
    );
    String::from_utf8(text.to_vec()).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_has_a_real_time_kernel() {
        let named = |name| source(name).map(|source| (source.suite, source.package));
        assert_eq!(named("6.12"), Some(("trixie", "linux-image-amd64")));
        assert_eq!(named("6.12-rt"), Some(("trixie", "linux-image-rt-amd64")));
        assert_eq!(
            named("latest-rt"),
            Some(("trixie-backports", "linux-image-rt-amd64"))
        );
        for other in ["-rt", "6.2", "6.12-rt-rt", "/boot/vmlinuz-6.1.0-50-rt"] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn only_packages_of_one_version_hold_a_kernel() {
        for name in [
            "linux-image-6.1.0-50-amd64",
            "linux-base-7.3.4+deb13-amd64",
            "linux-modules-7.3.4",
        ] {
            assert!(holds_kernel(name), "{name}");
        }
        for name in [
            "linux-modules-amd64",
            "linux-base",
            "linux-base-amd64",
            "kmod",
        ] {
            assert!(!holds_kernel(name), "{name}");
        }
    }

    #[test]
    fn the_header_says_the_release() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("vmlinuz");
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x310].copy_from_slice(b"6.1.0-50 (x@y) #");
        fs::write(&file, &image).unwrap();
        assert_eq!(release(&file).unwrap(), "6.1.0-50");
        fs::write(&file, vec![0; 0x400]).unwrap();
        assert!(
            release(&file)
                .unwrap_err()
                .to_string()
                .contains("not a bootable")
        );
    }
}
