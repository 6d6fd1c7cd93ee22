//! What on this host keeps a tracer that works from seeing everything. None of it stops the main
//! job; each is said, with what it costs and what can be done.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::host::Obstacle;

/// Inode number of the first pid namespace in the kernel's own file system of namespaces
/// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
const LIVE_PATCHES: &str = "/sys/kernel/livepatch";
const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

/// Whether this process sees all processes, by the numbers that the kernel's records have.
pub fn sees_all_processes() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|found| found.ino() == FIRST_PID_NAMESPACE)
}

/// Whether there is a thread of this number, as far as is known.
pub fn has_thread(tid: u32) -> bool {
    // What runs where nothing else does has this number, and no directory.
    const IDLE: u32 = 0;
    tid == IDLE || !sees_all_processes() || Path::new("/proc").join(tid.to_string()).exists()
}

/// What is not seen from another pid namespace than the first.
pub fn pid_namespace() -> Option<Obstacle> {
    (!sees_all_processes()).then(|| Obstacle {
        what: "lease-trace runs in a pid namespace of a container: leases that processes outside \
               of it have set before the start are not seen, nor is who else has a file open, and \
               pids are those of the host, so that nothing is looked up in /proc about them, no \
               file is held and no signal sent by the monitor"
            .to_owned(),
        remedy: "run it on the host, or in a container with the host's pid namespace".to_owned(),
        kernel: false,
    })
}

/// What live patches may hide.
pub fn live_patches() -> Option<Obstacle> {
    live_patches_in(Path::new(LIVE_PATCHES))
}

fn live_patches_in(directory: &Path) -> Option<Obstacle> {
    let entries = fs::read_dir(directory).ok()?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| Obstacle {
        what: format!(
            "the kernel is patched live ({}): hooks see the calls of a function that is patched, \
             but a patched function may have copies of others in it, whose calls no hook sees",
            names.join(", ")
        ),
        remedy: "see with `lease-trace doctor --cross-check` whether pins escape".to_owned(),
        kernel: false,
    })
}

/// What is lost while kprobes are switched off. Nobody is told where debugfs is not mounted.
pub fn kprobes_off() -> Option<Obstacle> {
    kprobes_off_at(Path::new(KPROBES))
}

fn kprobes_off_at(file: &Path) -> Option<Obstacle> {
    let text = fs::read_to_string(file).ok()?;
    (text.trim() == "0").then(|| Obstacle {
        what: format!(
            "kprobes are switched off in {}: what is watched by a kprobe is not seen",
            file.display()
        ),
        remedy: format!("echo 1 > {}", file.display()),
        kernel: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_patches_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(live_patches_in(directory.path()), None);
        assert_eq!(live_patches_in(&directory.path().join("none")), None);
        for name in ["kpatch_5_1", "kpatch_4_9"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        let said = live_patches_in(directory.path()).expect("two patches");
        assert!(said.what.contains("(kpatch_4_9, kpatch_5_1)"), "{said}");
    }

    #[test]
    fn kprobes_are_off_only_where_the_file_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("enabled");
        assert_eq!(kprobes_off_at(&file), None);
        fs::write(&file, "1\n").expect("a file");
        assert_eq!(kprobes_off_at(&file), None);
        fs::write(&file, "0\n").expect("a file");
        let said = kprobes_off_at(&file).expect("off");
        assert!(said.what.contains("enabled: what is watched"), "{said}");
    }
}
