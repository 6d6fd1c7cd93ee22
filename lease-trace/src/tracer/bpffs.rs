//! The files in bpffs that say what there is in text, for `cat` and `awk`: iterators over the maps,
//! pinned beside them. They need no process of ours.

use std::{
    fmt, fs,
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
    str::FromStr,
};

use super::{error::Error, idle, iterator, object::Object, pinned};
use crate::kernel::{bpf, iter};

/// A file in the directory, its program, and the map that it goes over.
pub type File = (&'static str, &'static str, &'static str);

const FILES: [File; 3] = [
    ("zombies", "write_zombies", "STAKES"),
    ("leases", "write_leases", "LEASES"),
    ("file_pins", "write_file_pins", "STAKES"),
];

/// Who may read them: permission bits, as chmod(1) takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// Root only.
    pub const ROOT: Self = Self(0o400);

    /// The directory of the files may be passed by those who may read them; its names stay hidden.
    const fn of_directory(self) -> u32 {
        0o700 | (self.0 & 0o044) >> 2
    }

    const fn is_for_others(self) -> bool {
        self.0 & 0o044 != 0
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        match u32::from_str_radix(typed, 8) {
            Ok(mode) if mode & !0o444 == 0 && mode & 0o400 != 0 => Ok(Self(mode)),
            _ => Err("the files can be read only: write 0400, 0440 or 0444".to_owned()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

/// Makes the files; what cannot be had is said, with the reason.
pub fn make(object: &Object, directory: &Path, mode: Option<Mode>) -> Vec<String> {
    let results = FILES.into_iter().map(|file| {
        let result = pin(object, file, directory);
        result.map_err(|reason| format!("{reason}; `lease-trace report` says the same"))
    });
    let mut cannot: Vec<_> = results.filter_map(Result::err).collect();
    if let Err(reason) = pin(object, idle::FILE, directory) {
        cannot.push(format!(
            "{reason}; `lease-trace report` has no paths of leases without pins"
        ));
    }
    if cannot.is_empty() {
        match set_mode(mode.unwrap_or(Mode::ROOT)) {
            Ok(hindered) => cannot.extend(hindered),
            Err(error) => cannot.push(error.to_string()),
        }
    }
    cannot
}

/// Pins an iterator over a map of this directory as a file there: each reader makes the program go over all of it.
/// Where that cannot be, which file it is, and why.
pub fn pin(object: &Object, (file, program, map): File, directory: &Path) -> Result<(), String> {
    let at = directory.join(file);
    pin_at(object, program, &directory.join(map), &at)
        .map_err(|reason| format!("{}: {reason}", at.display()))
}

fn pin_at(object: &Object, program: &str, map: &Path, at: &Path) -> Result<(), String> {
    let program = iterator::load(&object.raw, &object.types, program, "bpf_map_elem")
        .map_err(|error| error.to_string())?;
    let map = bpf::open(map).map_err(|error| format!("{}: {error}", map.display()))?;
    let link = iter::over_map(program.as_fd(), map.as_fd()).map_err(|error| error.to_string())?;
    bpf::pin(link.as_fd(), at).map_err(|error| error.to_string())
}

/// Says who may read the files that are in place. What keeps them from it all the same, if anything
/// does.
pub fn set_mode(mode: Mode) -> Result<Option<String>, Error> {
    let set = |at: &Path, mode: u32| {
        fs::set_permissions(at, fs::Permissions::from_mode(mode))
            .map_err(|error| Error::maps("cannot set the mode of", at.display().to_string(), error))
    };
    let directory = pinned::directory();
    for (file, _, _) in FILES {
        set(&directory.join(file), mode.0)?;
    }
    set(directory, mode.of_directory())?;
    Ok(hidden(mode))
}

fn hidden(mode: Mode) -> Option<String> {
    let bpffs = pinned::directory().parent()?;
    let of_bpffs = fs::metadata(bpffs).ok()?.mode();
    (mode.is_for_others() && of_bpffs & 0o011 == 0).then(|| {
        format!(
            "{} is for root only, so nobody else gets to the files in it; `mount -o \
             remount,mode=0711 {0}` opens the way",
            bpffs.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_reading() {
        for (typed, directory) in [("0400", 0o700), ("440", 0o710), ("0444", 0o711)] {
            let mode: Mode = typed.parse().expect("a mode");
            assert_eq!(mode.of_directory(), directory, "{typed}");
        }
        for wrong in ["0644", "0", "0044", "r", "", "0500"] {
            assert!(wrong.parse::<Mode>().is_err(), "{wrong}");
        }
        assert_eq!(Mode(0o440).to_string(), "0440");
    }
}
