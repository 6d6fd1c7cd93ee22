//! The RDMA device behind a process's memory regions.
//!
//! A region does not say which device it was registered with, but a process that has one verbs
//! device open can only have used that.

use std::{collections::BTreeSet, fs, path::Path};

use super::process;

/// The device of a process, e.g. `rxe0`; `None` if it has none open, or several.
pub fn of(pid: u32) -> Option<String> {
    find(&process::file(pid, "fd"), Path::new(CLASSES))
}

/// The device that a process has open as this descriptor.
pub fn behind(pid: u32, fd: u32) -> Option<String> {
    let node = fs::read_link(process::file(pid, "fd").join(fd.to_string())).ok()?;
    name(Path::new(CLASSES), Path::new(node.file_name()?))
}

const CLASSES: &str = "/sys/class/infiniband_verbs";

/// The device whose node this is, below /dev/infiniband.
fn name(classes: &Path, node: &Path) -> Option<String> {
    let name = fs::read_to_string(classes.join(node).join("ibdev")).ok()?;
    Some(name.trim_end().to_owned())
}

fn find(descriptors: &Path, classes: &Path) -> Option<String> {
    let mut open = BTreeSet::new();
    for entry in fs::read_dir(descriptors).ok()?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if let Ok(node) = target.strip_prefix("/dev/infiniband")
            && node.to_str().is_some_and(|name| name.starts_with("uverbs"))
        {
            open.insert(node.to_owned());
        }
    }
    let only = open.pop_first().filter(|_| open.is_empty())?;
    name(classes, &only)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A process with these descriptors on a machine with two devices.
    fn device(open: &[&str]) -> Option<String> {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (number, name) in ["rxe0\n", "mlx5_0\n"].iter().enumerate() {
            let class = root.path().join(format!("class/uverbs{number}"));
            fs::create_dir_all(&class).expect("creates");
            fs::write(class.join("ibdev"), name).expect("writes");
        }
        fs::create_dir(root.path().join("fd")).expect("creates");
        for (fd, target) in open.iter().enumerate() {
            symlink(target, root.path().join(format!("fd/{fd}"))).expect("links");
        }
        find(&root.path().join("fd"), &root.path().join("class"))
    }

    #[test]
    fn the_only_open_device_is_named() {
        let open = [
            "/dev/pts/0",
            "/dev/infiniband/uverbs1",
            "/dev/infiniband/rdma_cm",
            "/dev/infiniband/uverbs1",
            "anon_inode:[infinibandevent]",
        ];
        assert_eq!(device(&open).as_deref(), Some("mlx5_0"));
    }

    #[test]
    fn several_devices_are_none() {
        let open = ["/dev/infiniband/uverbs0", "/dev/infiniband/uverbs1"];
        assert_eq!(device(&open), None);
        assert_eq!(device(&["/dev/null"]), None);
    }
}
