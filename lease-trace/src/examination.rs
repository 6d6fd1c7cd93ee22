//! Everything about this kernel that decides what lease-trace can do here, found by trying it.

use std::path::Path;

use lease_trace_common::{cause::Cause, policy::Action};
use serde::Serialize;

use crate::{
    kernel::{
        btf::Btf,
        clones,
        host::{self, Obstacle},
        limits,
        link::Tells,
        points::Need,
        release_paths::{Answer, RELEASE_PATHS, ReleasePaths},
    },
    tracer::{self, Attachment, Host, Outcome},
};

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

/// What can be done about one release path.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub way: Cause,
    pub deny: Answer,
    pub hold: Answer,
    pub stop: Answer,
    pub kill: Answer,
}

impl Row {
    fn of(ways: &ReleasePaths, way: Cause) -> Self {
        Self {
            way,
            deny: ways.can(Action::Deny, way),
            hold: ways.can(Action::Hold, way),
            stop: ways.can(Action::Stop, way),
            kill: ways.can(Action::Kill, way),
        }
    }
}

/// The table for a kernel.
pub fn enforcement(ways: &ReleasePaths) -> Vec<Row> {
    RELEASE_PATHS
        .into_iter()
        .map(|way| Row::of(ways, way))
        .collect()
}

/// The whole examination.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// `uname -r`
    pub kernel: String,
    pub findings: Vec<Finding>,
    /// What can be done about each release path; absent where it could not be asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enforcement: Vec<Row>,
    /// Everything can be denied that can be on some kernel.
    #[serde(skip)]
    pub deniable: bool,
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
        enforcement: Vec::new(),
        deniable: false,
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
    examination.hooks(&btf);
    match tracer::trial() {
        Ok(attachments) => {
            for attachment in &attachments {
                examination.point(attachment);
            }
            for what in clones::find() {
                let remedy =
                    "see with `lease-trace doctor --cross-check` whether pins escape".to_owned();
                let kernel = true;
                let obstacle = Obstacle {
                    what,
                    remedy,
                    kernel,
                };
                examination.limit("kernel", "copies of functions", "", Some(obstacle));
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
    let ways = ReleasePaths::of(&btf)?;
    examination.deniable = ways.is_whole();
    examination.enforcement = enforcement(&ways);
    Ok(examination)
}

impl Examination {
    fn host(&mut self) {
        let bpffs = host::bpffs(Path::new("/sys/fs/bpf")).or_else(tracer::stranger);
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
        let namespace = limits::pid_namespace();
        self.limit("host", "pid namespace", "the first", namespace);
        for (point, obstacle) in [
            ("kprobes", limits::kprobes_off()),
            ("live patches", limits::live_patches()),
        ] {
            if obstacle.is_some() {
                self.limit("host", point, "", obstacle);
            }
        }
    }

    /// Adds what goes on, with less to see if there is an obstacle.
    fn limit(&mut self, group: &'static str, point: &str, how: &str, obstacle: Option<Obstacle>) {
        let is_limited = obstacle.is_some();
        self.note(group, point, how, obstacle, false);
        if is_limited && let Some(finding) = self.findings.last_mut() {
            finding.state = FindingState::Degraded;
        }
    }

    /// What decides how points are watched, and whether what is missed can be told.
    fn hooks(&mut self, btf: &Btf) {
        let host = Host::ask(btf);
        let how = host.preemption.describe();
        let mut finding = |point: &str, state, how: &str, reason| {
            self.findings.push(Finding {
                point: point.to_owned(),
                group: "kernel",
                state,
                how: how.to_owned(),
                reason,
                remedy: None,
            });
        };
        let why = Some(host.why().to_owned());
        finding("preemption", FindingState::Ok, how, why);
        let loss = Tells::of(btf).loss();
        let state = if loss.is_some() {
            FindingState::Degraded
        } else {
            FindingState::Ok
        };
        finding("misses", state, "counted by the kernel", loss);
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

    /// Whether this reason is another than the one that is said of all points.
    fn differs(&self, why: &str) -> bool {
        let mut said = self.findings.iter().filter_map(|f| f.reason.as_deref());
        !said.any(|said| said == why)
    }

    fn point(&mut self, attachment: &Attachment) {
        let point = attachment.point;
        let how = attachment.how().unwrap_or_default();
        let (state, reason) = match &attachment.outcome {
            // Why those under a spinlock differ from what is said of all.
            Outcome::Attached {
                instead: None, why, ..
            } => (
                FindingState::Ok,
                self.differs(why).then(|| (*why).to_owned()),
            ),
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
}
