//! Everything about this kernel that decides what lease-trace can do here, found by trying it.

use std::{fs, path::Path};

use serde::Serialize;

use super::{
    btf::Btf,
    host::{self, Obstacle},
    points::Need,
    trial,
};
use crate::tracer::{self, Attachment, Outcome};

/// What became of one thing looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    Ok,
    /// It works in another way than the preferred one.
    Degraded,
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub point: String,
    pub group: &'static str,
    pub state: FindingState,
    /// How it is done here.
    pub how: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The whole examination.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// `uname -r`
    pub kernel: String,
    pub findings: Vec<Finding>,
    /// Whether zombies can be found here.
    pub possible: bool,
}

/// Examines the running kernel. Attaches everything for a moment and leaves nothing behind.
///
/// # Errors
/// When it cannot be told: privileges are missing or bpf(2) is refused.
pub fn examine() -> Result<Examination, tracer::Error> {
    if let Some(obstacle) = host::capabilities() {
        return Err(obstacle.into());
    }
    let mut examination = Examination {
        kernel: host::release(),
        findings: Vec::new(),
        possible: true,
    };
    examination.host();
    let btf = match host::btf() {
        Ok(btf) => btf,
        Err(obstacle) => {
            examination.note(
                "kernel",
                "BTF",
                "/sys/kernel/btf/vmlinux",
                Some(obstacle),
                true,
            );
            return Ok(examination);
        }
    };
    examination.note("kernel", "BTF", "/sys/kernel/btf/vmlinux", None, true);
    let helpers = host::helpers(&btf);
    let stop = helpers.is_some();
    examination.note("kernel", "BPF helpers", "all there", helpers, true);
    if stop {
        return Ok(examination);
    }
    match tracer::trial() {
        Ok(attachments) => {
            for attachment in &attachments {
                examination.point(attachment);
            }
        }
        Err(error) if error.is_unsupported() => {
            let obstacle = Obstacle {
                what: error.to_string(),
                remedy: "see above".to_owned(),
                kernel: true,
            };
            examination.note("kernel", "structures", "", Some(obstacle), true);
        }
        Err(error) => return Err(error),
    }
    examination.enforcement(&btf);
    Ok(examination)
}

impl Examination {
    fn host(&mut self) {
        let bpffs = host::bpffs(Path::new("/sys/fs/bpf"));
        self.note("host", "BPF file system", "/sys/fs/bpf", bpffs, false);
        let kprobes = host::kprobes();
        self.note("host", "kprobes", "perf_event_open", kprobes, false);
        let lockdown = host::lockdown();
        let how = lockdown.as_deref().unwrap_or("none").to_owned();
        let confidential = (how == "confidentiality").then(|| Obstacle {
            what: "lockdown=confidentiality forbids reading kernel memory".to_owned(),
            remedy: "boot with lockdown=integrity or without it".to_owned(),
            kernel: true,
        });
        self.note("host", "kernel lockdown", &how, confidential, true);
    }

    /// Adds a finding: fine unless there is an obstacle; `required` ones make the job impossible.
    fn note(
        &mut self,
        group: &'static str,
        point: &str,
        how: &str,
        obstacle: Option<Obstacle>,
        required: bool,
    ) {
        let missing = obstacle.is_some();
        self.possible &= !(missing && required);
        let (reason, remedy) = obstacle.map_or((None, None), |obstacle| {
            (Some(obstacle.what), Some(obstacle.remedy))
        });
        self.findings.push(Finding {
            point: point.to_owned(),
            group,
            state: if missing {
                FindingState::Missing
            } else {
                FindingState::Ok
            },
            how: if missing {
                String::new()
            } else {
                how.to_owned()
            },
            reason,
            remedy,
        });
    }

    fn point(&mut self, attachment: &Attachment) {
        let point = attachment.point;
        let how = attachment.how().unwrap_or_default();
        let (state, reason) = match &attachment.outcome {
            Outcome::Attached { instead: None, .. } => (FindingState::Ok, None),
            Outcome::Attached {
                instead: Some(reason),
                ..
            } => (FindingState::Degraded, Some(reason.clone())),
            Outcome::Absent if point.need == Need::IfPresent => return,
            Outcome::Absent | Outcome::Failed { .. } => (FindingState::Missing, attachment.loss()),
        };
        self.possible &= state != FindingState::Missing || point.need != Need::Required;
        let remedy = (state == FindingState::Missing).then(|| {
            "a kernel with CONFIG_FUNCTION_TRACER and BTF, or with CONFIG_KPROBES".to_owned()
        });
        self.findings.push(Finding {
            point: point.function.to_owned(),
            group: point.group.name(),
            state,
            how: how.to_owned(),
            reason,
            remedy,
        });
    }

    /// What could be done against a release: signals, and which ways out of a lease this kernel
    /// would let a program deny.
    fn enforcement(&mut self, btf: &Btf) {
        const GROUP: &str = "enforcement: deny";
        let signal = btf
            .enumerator("BPF_FUNC_send_signal")
            .is_none()
            .then(|| Obstacle {
                what: "this kernel lacks the BPF helper send_signal".to_owned(),
                remedy: "Linux 5.3 or later".to_owned(),
                kernel: true,
            });
        self.note(
            "enforcement: signal",
            "SIGKILL, SIGSTOP",
            "bpf_send_signal",
            signal,
            false,
        );
        let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        let bpf_lsm = lsm.trim().split(',').any(|name| name == "bpf");
        for (way, function) in WAYS_OUT {
            let finding = match trial::modify_return(btf, function) {
                Ok(()) if bpf_lsm && function.starts_with("security_") => ("BPF LSM", None),
                Ok(()) => ("fmod_ret", None),
                Err(reason) => ("", Some(reason)),
            };
            let (how, reason) = finding;
            if *function == "security_file_lock" && !btf.has_function("fcntl_setdeleg") {
                continue;
            }
            self.findings.push(Finding {
                point: (*way).to_owned(),
                group: GROUP,
                state: if reason.is_none() {
                    FindingState::Ok
                } else {
                    FindingState::Missing
                },
                how: how.to_owned(),
                remedy: reason
                    .is_some()
                    .then(|| "a kernel with CONFIG_FUNCTION_ERROR_INJECTION".to_owned()),
                reason,
            });
        }
    }
}

/// Ways out of a lease, and the function whose return value denies each. Exit, a fatal signal,
/// execve and io_uring cannot be denied anywhere.
const WAYS_OUT: &[(&str, &str)] = &[
    ("fcntl F_SETLEASE F_UNLCK", "security_file_fcntl"),
    ("fcntl F_SETDELEG F_UNLCK", "security_file_lock"),
    ("close", "__x64_sys_close"),
    ("close_range", "__x64_sys_close_range"),
    ("dup2", "__x64_sys_dup2"),
    ("dup3", "__x64_sys_dup3"),
    ("munmap", "__x64_sys_munmap"),
];
