//! One suite of Debian, seen through apt with directories of its own: the host's package state and
//! sources stay as they are. The index is signed by Debian's archive keyring; a package is taken
//! only if its SHA-256 is the one the index gives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{packages, sources};
use crate::{
    cache,
    progress::step,
    sh::{Run as _, is_root},
};

pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites as the only sources of an apt that keeps their indexes in a directory of its own.
pub struct Sources {
    directory: PathBuf,
}

impl Sources {
    /// `name`: of the directory, in the cache.
    pub fn new(name: &str, suites: &[&str]) -> Result<Self> {
        let directory = cache::root()?.join("apt").join(name);
        for part in ["lists/partial", "cache/archives/partial"] {
            cache::make(&directory.join(part))?;
        }
        let mirror = sources::mirror()?;
        let line = |suite: &&str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let list = directory.join("sources.list");
        fs::write(&list, suites.iter().map(line).collect::<String>())
            .with_context(|| format!("writing {}", list.display()))?;
        Ok(Self { directory })
    }

    /// Has a program of apt's use them, and nothing of the host's sources.
    pub fn tell(&self, apt: &mut Command) {
        let directory = self.directory.display();
        for option in [
            format!("Dir::Etc::sourcelist={directory}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={directory}/lists"),
            format!("Dir::Cache={directory}/cache"),
        ] {
            apt.arg("-o").arg(option);
        }
    }
}

/// One suite.
pub struct Suite {
    pub name: String,
    sources: Sources,
}

/// What the index says of one version of a package.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub sha256: String,
    /// Names only, the first of each set of alternatives.
    pub depends: Vec<String>,
}

impl Suite {
    /// The suite with a fresh index.
    pub fn refreshed(name: &str) -> Result<Self> {
        packages::ensure()?;
        let suite = Self {
            name: name.to_owned(),
            sources: Sources::new(name, &[name])?,
        };
        step(&format!("reading the package index of {name}"), || {
            suite.apt("apt-get").arg("update").quiet()
        })?;
        Ok(suite)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.sources.tell(&mut command);
        for option in [
            "Dir::State::status=/dev/null",
            "APT::Architecture=amd64",
            "Acquire::Languages=none",
        ] {
            command.args(["-o", option]);
        }
        if is_root() {
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// Every version of a package that the suite offers, the newest first.
    pub fn versions(&self, name: &str) -> Vec<Package> {
        // apt-cache fails where the name is unknown, which is an answer here.
        let text = self
            .apt("apt-cache")
            .args(["show", name])
            .read()
            .unwrap_or_default();
        text.split("\n\n").filter_map(package).collect()
    }

    /// The package as the suite would install it.
    pub fn package(&self, name: &str) -> Result<Package> {
        let newest = self.versions(name).into_iter().next();
        newest.with_context(|| {
            format!(
                "finding the package {name}: Debian's suite {} does not have it",
                self.name
            )
        })
    }

    /// Fetches a package into a directory and holds it to the index's hash.
    pub fn download(&self, package: &Package, directory: &Path) -> Result<PathBuf> {
        let Package {
            name,
            version,
            sha256,
            ..
        } = package;
        let before = debs(directory)?;
        step(
            &format!("fetching {name} {version} from {}", self.name),
            || {
                self.apt("apt-get")
                    .args(["download", &format!("{name}={version}")])
                    .current_dir(directory)
                    .quiet()
            },
        )?;
        let new: Vec<_> = debs(directory)?
            .into_iter()
            .filter(|deb| !before.contains(deb))
            .collect();
        let [deb] = new.as_slice() else {
            bail!(
                "fetching {name}: expected one new file in {}, found {new:?}",
                directory.display()
            );
        };
        let found = cache::sha256(deb)?;
        ensure!(
            found == *sha256,
            "{} has the SHA-256 {found}, but the index of {} says {sha256}: run the command again",
            deb.display(),
            self.name
        );
        Ok(deb.clone())
    }

    /// Everything that installing these packages into an empty system would bring, themselves
    /// included.
    pub fn closure(&self, names: &[String]) -> Result<Vec<String>> {
        let text = self
            .apt("apt-get")
            .args(["install", "--simulate", "--no-install-recommends"])
            .args(names)
            .read()
            .with_context(|| format!("resolving packages of Debian's suite {}", self.name))?;
        Ok(installs(&text))
    }
}

/// Unpacks a package's files into a directory.
pub fn unpack(deb: &Path, directory: &Path) -> Result<()> {
    step(
        &format!(
            "unpacking {}",
            deb.file_name().unwrap_or_default().display()
        ),
        || {
            Command::new("dpkg-deb")
                .arg("--extract")
                .args([deb, directory])
                .quiet()
        },
    )
}

fn debs(directory: &Path) -> Result<Vec<PathBuf>> {
    let found = fs::read_dir(directory)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("listing {}", directory.display()))?;
    let paths = found.iter().map(fs::DirEntry::path);
    Ok(paths
        .filter(|path| path.extension().is_some_and(|end| end == "deb"))
        .collect())
}

fn package(stanza: &str) -> Option<Package> {
    let field = |name: &str| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_owned)
    };
    Some(Package {
        name: field("Package")?,
        version: field("Version")?,
        sha256: field("SHA256")?,
        depends: field("Depends")
            .map(|text| names(&text))
            .unwrap_or_default(),
    })
}

/// The package names of a dependency field.
fn names(depends: &str) -> Vec<String> {
    let name = |clause: &str| {
        let first = clause.split('|').next()?.split_whitespace().next()?;
        Some(first.split(':').next()?.to_owned())
    };
    depends.split(',').filter_map(name).collect()
}

/// The packages of apt-get's simulated installation (`Inst NAME (VERSION ...`).
fn installs(text: &str) -> Vec<String> {
    let name = |line: &str| {
        Some(
            line.strip_prefix("Inst ")?
                .split_whitespace()
                .next()?
                .to_owned(),
        )
    };
    text.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_becomes_a_package() {
        let text = "Package: linux-image-amd64\nVersion: 7.3.4-1~bpo13+1\nInstalled-Size: 12\n\
                    Depends: dracut | initramfs-tools (>= 0.120), linux-base-7.3.4+deb13-amd64 (= 7.3.4-1), kmod:any\n\
                    SHA256: ab12\n";
        assert_eq!(
            package(text),
            Some(Package {
                name: "linux-image-amd64".into(),
                version: "7.3.4-1~bpo13+1".into(),
                sha256: "ab12".into(),
                depends: vec![
                    "dracut".into(),
                    "linux-base-7.3.4+deb13-amd64".into(),
                    "kmod".into()
                ],
            })
        );
        assert_eq!(package("Package: x\nVersion: 1\n"), None);
    }

    #[test]
    fn simulated_installs_are_listed() {
        let text = "Reading package lists...\nInst libc6 (2.41-12 Debian:13 [amd64])\n\
                    Inst rdma-core (56.1-1 Debian:13 [amd64])\nConf libc6 (2.41-12 Debian:13 [amd64])\n";
        assert_eq!(installs(text), ["libc6", "rdma-core"]);
    }
}
