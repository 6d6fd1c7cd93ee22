//! A kernel's modules: which there are, what each needs, and in which order they load. Pure reading
//! of `modules.dep` and its like.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

/// The index of a directory of modules.
#[derive(Debug)]
pub struct Modules {
    /// By name: the file, and the files it needs, as `modules.dep` gives them.
    files: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
}

impl Modules {
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("modules.dep");
        let dep =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        // Without the list of what is built in, nothing is known to be.
        let builtin = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        Ok(Self::parse(&dep, &builtin))
    }

    fn parse(dep: &str, builtin: &str) -> Self {
        let entry = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            Some((name(file), (file.to_owned(), needs)))
        };
        Self {
            files: dep.lines().filter_map(entry).collect(),
            builtin: builtin.lines().map(name).collect(),
        }
    }

    /// The files of these modules and all they need, each after what it needs. A name that this
    /// kernel does not have is an error if `required`, else left out.
    pub fn in_order(&self, names: &[&str], required: bool) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for wanted in names {
            let wanted = name(wanted);
            if self.files.contains_key(&wanted) {
                self.visit(&wanted, &mut order);
            } else if required && !self.builtin.contains(&wanted) {
                bail!("this kernel has no module {wanted}, which every guest needs");
            }
        }
        Ok(order)
    }

    fn visit(&self, wanted: &str, order: &mut Vec<String>) {
        let Some((file, needs)) = self.files.get(wanted) else {
            return;
        };
        if order.contains(file) {
            return;
        }
        // The deepest comes last in a line.
        for need in needs.iter().rev() {
            self.visit(&name(need), order);
        }
        order.push(file.clone());
    }
}

/// A module's name from its file or from a name with dashes.
pub fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

/// `modules.dep` for these files alone, unpacked.
pub fn dep(modules: &Modules, files: &[String]) -> String {
    let mut text = String::new();
    for file in files {
        let needs = modules
            .files
            .get(&name(file))
            .map(|(_, needs)| needs.as_slice());
        let needs: Vec<&str> = needs
            .unwrap_or_default()
            .iter()
            .map(|need| unpacked(need))
            .collect();
        text.extend([unpacked(file), ": ", &needs.join(" "), "\n"]);
    }
    text
}

/// The lines of `modules.alias` that lead to one of these files.
pub fn aliases(text: &str, files: &[String]) -> String {
    let names: BTreeSet<String> = files.iter().map(|file| name(file)).collect();
    let leads = |line: &&str| {
        line.starts_with("alias ")
            && line
                .rsplit(' ')
                .next()
                .is_some_and(|last| names.contains(last))
    };
    text.lines()
        .filter(leads)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// A module's file name without its compression.
pub fn unpacked(file: &str) -> &str {
    PACKERS
        .iter()
        .find_map(|(end, _)| file.strip_suffix(end))
        .unwrap_or(file)
}

/// The program that undoes a module's compression.
pub fn packer(file: &str) -> Option<&'static str> {
    PACKERS
        .iter()
        .find(|(end, _)| file.ends_with(end))
        .map(|(_, program)| *program)
}

const PACKERS: [(&str, &str); 2] = [(".xz", "xz"), (".zst", "zstd")];

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz\n\
                       kernel/fs/jbd2/jbd2.ko.xz:\n\
                       kernel/lib/crc16.ko.xz:\n\
                       kernel/fs/mbcache.ko.xz:\n\
                       kernel/drivers/virtio/virtio-x.ko.xz: kernel/v/virtio_ring.ko.xz kernel/v/virtio.ko.xz\n\
                       kernel/v/virtio_ring.ko.xz: kernel/v/virtio.ko.xz\n\
                       kernel/v/virtio.ko.xz:\n";

    fn modules() -> Modules {
        Modules::parse(DEP, "kernel/drivers/virtio-pci.ko\n")
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let order = modules()
            .in_order(&["virtio_x", "ext4", "jbd2"], true)
            .unwrap();
        assert_eq!(
            order.iter().map(|file| name(file)).collect::<Vec<_>>(),
            [
                "virtio",
                "virtio_ring",
                "virtio_x",
                "mbcache",
                "crc16",
                "jbd2",
                "ext4"
            ]
        );
    }

    #[test]
    fn built_in_is_enough_and_missing_is_not() {
        assert!(
            modules()
                .in_order(&["virtio_pci"], true)
                .unwrap()
                .is_empty()
        );
        assert!(modules().in_order(&["siw"], false).unwrap().is_empty());
        let error = modules().in_order(&["siw"], true).unwrap_err().to_string();
        assert!(error.contains("no module siw"), "{error}");
    }

    #[test]
    fn the_index_of_a_few_modules_is_unpacked() {
        let modules = modules();
        let files = modules.in_order(&["virtio-x"], true).unwrap();
        assert_eq!(
            dep(&modules, &files),
            "kernel/v/virtio.ko: \n\
             kernel/v/virtio_ring.ko: kernel/v/virtio.ko\n\
             kernel/drivers/virtio/virtio-x.ko: kernel/v/virtio_ring.ko kernel/v/virtio.ko\n"
        );
        assert_eq!(
            aliases(
                "# Aliases\nalias fs-ext4 ext4\nalias pci:v* virtio_x\n",
                &files
            ),
            "alias pci:v* virtio_x\n"
        );
    }
}
