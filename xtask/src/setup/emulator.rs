//! The emulator that guests run in, new enough not to hang or crash them: before 10, one processor
//! of a guest may keep running code that another has just patched (docs/kernels.md).

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{apt::Sources, packages};
use crate::{
    cache,
    progress::{say, step},
    sh::Run as _,
};

pub const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// The first of the versions that guests are known to be sound with.
const SOUND: u32 = 10;

/// Takes the emulator from the backports of this Debian release where its own is too old. Where
/// there is no newer one either, that is said, and the old one is used; it is looked for once.
///
/// # Errors
/// The emulator cannot be asked for its version.
pub fn ensure() -> Result<()> {
    let old = version()?;
    if old >= SOUND {
        return Ok(());
    }
    let tried = cache::root()?.join("qemu-is-old");
    if fs::read_to_string(&tried).is_ok_and(|of| of == old.to_string()) {
        say(warning(old));
        return Ok(());
    }
    let failed = install_newer().err();
    if version()? < SOUND {
        fs::write(&tried, old.to_string())
            .with_context(|| format!("writing {}", tried.display()))?;
        say(match failed {
            Some(error) => format!("{} (a newer one is not to be had: {error:#})", warning(old)),
            None => warning(old),
        });
    }
    Ok(())
}

fn warning(found: u32) -> String {
    format!(
        "{PROGRAM} is of version {found}: before {SOUND}, guests with several processors hang or \
         crash now and then, by no fault of what they run"
    )
}

/// The emulator's major version.
fn version() -> Result<u32> {
    let text = Command::new(PROGRAM).arg("--version").read()?;
    major(&text).with_context(|| format!("{PROGRAM} does not tell its version: {text}"))
}

/// Of `QEMU emulator version 10.0.2 (...)`.
fn major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once(" version ")?;
    version.split('.').next()?.parse().ok()
}

/// The release that the host says it is, as `bookworm`.
fn codename(os_release: &str) -> Option<&str> {
    let mut lines = os_release.lines();
    let name = lines.find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"'))
}

/// Installs from the backports, with sources and lists of its own: the host's stay as they are.
fn install_newer() -> Result<()> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let release = codename(&text).context("/etc/os-release names no release")?;
    let backports = format!("{release}-backports");
    let sources = Sources::new("emulator", &[release, &backports])?;
    let apt = || {
        let mut command = packages::apt_get();
        sources.tell(&mut command);
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    };
    step(&format!("reading the package index of {backports}"), || {
        apt().arg("update").quiet()
    })?;
    step(&format!("installing {PACKAGE} from {backports}"), || {
        apt()
            .args(["install", "-y", "--no-install-recommends", "-t"])
            .args([&backports, PACKAGE])
            .quiet()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(major(text), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2\n"), Some(10));
        assert_eq!(major("no such thing"), None);
    }

    #[test]
    fn the_release_is_read() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename(text), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=\"trixie\"\n"), Some("trixie"));
        assert_eq!(codename("ID=other\n"), None);
    }
}
