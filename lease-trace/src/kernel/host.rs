//! What the host allows: capabilities, lockdown, the helpers this kernel has, bpffs. Each answer
//! that stops the main job says what it is and what to do.

use std::{fs, path::Path};

use super::btf::Btf;

/// Something that makes the main job impossible here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub what: String,
    pub remedy: String,
    /// The kernel itself cannot do it, whoever asks (exit status 3).
    pub kernel: bool,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Whether this process may load tracing programs.
pub fn capabilities() -> Option<Obstacle> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective_capabilities(&status)?;
    let has = |cap: u32| effective >> cap & 1 != 0;
    if has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON)) {
        return None;
    }
    Some(Obstacle {
        what: "loading BPF programs needs CAP_BPF and CAP_PERFMON, which this process lacks"
            .to_owned(),
        remedy: "run it as root (sudo lease-trace ...)".to_owned(),
        kernel: false,
    })
}

/// Whether this process has CAP_SYS_ADMIN.
pub fn has_sys_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_capabilities(&status).is_some_and(|effective| effective >> CAP_SYS_ADMIN & 1 != 0)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether the kernel has BTF, and which.
pub fn btf() -> Result<Btf, Obstacle> {
    Btf::of_kernel().map_err(|error| Obstacle {
        what: error.to_string(),
        remedy: "the kernel must be built with CONFIG_DEBUG_INFO_BTF=y".to_owned(),
        kernel: true,
    })
}

/// BPF helpers that every program here relies on, all there since Linux 5.17.
const HELPERS: &[&str] = &[
    "loop",
    "find_vma",
    "get_func_arg",
    "task_pt_regs",
    "for_each_map_elem",
];

/// Whether the kernel has the helpers.
pub fn helpers(btf: &Btf) -> Option<Obstacle> {
    let missing: Vec<&str> = HELPERS
        .iter()
        .copied()
        .filter(|name| btf.enumerator(&format!("BPF_FUNC_{name}")).is_none())
        .collect();
    if missing.is_empty() {
        return None;
    }
    Some(Obstacle {
        what: format!("this kernel lacks the BPF helpers {}", missing.join(", ")),
        remedy: "Linux 5.17 or later is needed".to_owned(),
        kernel: true,
    })
}

/// The mode of kernel lockdown in force, if any.
pub fn lockdown() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mode = modes.split_once('[')?.1.split_once(']')?.0;
    (mode != "none").then(|| mode.to_owned())
}

/// Whether `bpf` was among the LSMs switched on at boot: else programs of it are accepted and never
/// called.
pub fn bpf_lsm_is_active() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|names| names.trim().split(',').any(|name| name == "bpf"))
}

/// Why bpf(2) answers EPERM to a process that has the capabilities.
pub fn refusal() -> String {
    match lockdown() {
        Some(mode) if mode == "confidentiality" => format!(
            "kernel lockdown is in force (mode {mode}) and forbids reading kernel memory; boot \
             with lockdown=integrity or without it"
        ),
        Some(mode) => format!(
            "kernel lockdown is in force (mode {mode}), and a sandbox, a container's seccomp \
             filter or an LSM may refuse bpf(2), too"
        ),
        None => "a sandbox, a container's seccomp filter or an LSM refuses bpf(2) although the \
                 capabilities are there; run it outside the container"
            .to_owned(),
    }
}

/// Whether a BPF file system is mounted where the maps are pinned.
pub fn bpffs(at: &Path) -> Option<Obstacle> {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let mounted = std::ffi::CString::new(at.as_os_str().as_encoded_bytes()).is_ok_and(|path| {
        // SAFETY: statfs is plain data, for which zero is a value; the path is a C string, and
        // the kernel writes at most one statfs.
        unsafe {
            let mut stat: libc::statfs = std::mem::zeroed();
            libc::statfs(path.as_ptr(), &raw mut stat) == 0
                && stat.f_type & 0xffff_ffff == BPF_FS_MAGIC
        }
    });
    if mounted {
        return None;
    }
    Some(Obstacle {
        what: format!("no BPF file system is mounted on {}", at.display()),
        remedy: format!("mount -t bpf bpf {}", at.display()),
        kernel: false,
    })
}

/// Whether kprobes can be made.
pub fn kprobes() -> Option<Obstacle> {
    if Path::new("/sys/bus/event_source/devices/kprobe/type").exists() {
        return None;
    }
    Some(Obstacle {
        what: "this kernel offers no kprobes".to_owned(),
        remedy: "the kernel must be built with CONFIG_KPROBE_EVENTS=y".to_owned(),
        kernel: true,
    })
}

/// `uname -r`.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Keeps this process, and those that it starts, from huge pages: for one byte that stays of what a start
/// takes for a moment, 2 MiB would stay resident.
pub fn no_huge_pages() {
    // SAFETY: sets a flag of this process. A kernel that does not know it has no huge pages either.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}
