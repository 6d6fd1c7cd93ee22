//! A disk that answers when it is told to: a RAM disk behind the block layer's throttle, for the
//! processes that are put there.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::rxe::run;
use super::{Actor, eventually};

const ROOT: &str = "/sys/fs/cgroup";

/// Dropped, it answers again at once, and its processes are where they were.
pub struct SlowDisk {
    cgroup: PathBuf,
    /// Like `1:0`.
    dev: String,
}

impl SlowDisk {
    pub const PATH: &str = "/dev/ram0";

    #[track_caller]
    pub fn new() -> Self {
        run("modprobe", &["brd", "rd_nr=1", "rd_size=4096"]);
        let about = || fs::metadata(Self::PATH).ok();
        assert!(eventually(|| about().is_some()), "no {}", Self::PATH);
        let about = about().expect("looked at");
        assert!(about.file_type().is_block_device());
        let (major, minor) = (libc::major(about.rdev()), libc::minor(about.rdev()));
        let root = Path::new(ROOT);
        write(&root.join("cgroup.subtree_control"), "+io");
        let cgroup = root.join("slow-disk");
        fs::create_dir(&cgroup).expect("a cgroup");
        Self {
            cgroup,
            dev: format!("{major}:{minor}"),
        }
    }

    /// From now on what this process asks for waits.
    #[track_caller]
    pub fn hold_back(&self, actor: &Actor) {
        write(&self.cgroup.join("cgroup.procs"), &actor.pid().to_string());
        // Bytes a second: the least that the kernel takes.
        self.limit("2");
    }

    /// What waits is done.
    #[track_caller]
    pub fn let_go(&self) {
        self.limit("max");
    }

    #[track_caller]
    fn limit(&self, bytes: &str) {
        let Self { cgroup, dev } = self;
        write(
            &cgroup.join("io.max"),
            &format!("{dev} rbps={bytes} wbps={bytes}"),
        );
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let Self { cgroup, dev } = self;
        let _ = fs::write(cgroup.join("io.max"), format!("{dev} rbps=max wbps=max"));
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = fs::write(Path::new(ROOT).join("cgroup.procs"), process);
        }
        let _ = fs::remove_dir(cgroup);
    }
}

#[track_caller]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{text} > {}: {error}", path.display()));
}
