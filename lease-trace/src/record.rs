//! What the product says, as data: the output contract, member by member.
//!
//! Records of `monitor` and entries of `report` share these types, so a thing has one name
//! wherever it is shown. Members that do not apply are absent. docs/ndjson.schema.json is generated
//! from them (`schema.rs`), and what is said here of a member is its description there.

mod file;
mod name;

use std::collections::BTreeMap;

use lease_trace_common::{
    cause::Cause,
    lease::{Kind, LeaseInfo},
    policy::{Action, Mode},
    stake::Task,
};
use serde::Serialize;

pub use self::{
    file::{Dev, File, FilePath},
    name::Name,
};
use crate::{
    clock::Timestamp,
    tracer::{cross_check::CrossCheck, snapshot},
};

/// One line of `monitor`.
#[derive(Debug, Serialize)]
pub struct Record {
    pub time: Timestamp,
    pub event: Name,
    #[serde(flatten)]
    pub detail: Detail,
}

/// What was done on behalf of a rule.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleAction {
    /// The first rule that matched.
    pub rule: String,
    #[cfg_attr(test, schemars(schema_with = "crate::schema::action"))]
    pub action: Action,
    /// `done`; `would`: audit mode; `handed-over`: the monitor is asked to do it; `spared`: pid
    /// 1 or lease-trace; `bystander`: another process than the owner let go; `ending`: the process
    /// is ending; `failed`; `too-late`: closed before it could be held; `taken-back`: held again
    /// by a monitor that was started again; `gone`: the process has ended; `pins-gone`, `limit`:
    /// why a hold ended; `verified`: after a kill, lease and pins are gone; `pins-remain`: they
    /// are not.
    #[cfg_attr(test, schemars(schema_with = "crate::schema::outcome"))]
    pub outcome: &'static str,
    /// The thread that was stopped, killed or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<u32>,
    /// Functions of the kernel that it was in, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
}

/// The members that belong to a [`Name`].
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Detail {
    Transition(Box<Transition>),
    Start(Start),
    Corrected(Corrected),
    Lost(Lost),
    End(End),
}

/// A change of one stake.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
pub struct Transition {
    /// The owner of the pins; of the lease, where there are no pins.
    #[serde(flatten)]
    pub owner: Owner,
    /// Who let the lease go, or dropped the last pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub releaser: Option<ProcessRef>,
    /// Who wants the lease broken, or wanted it when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<ProcessRef>,
    #[serde(flatten)]
    pub file: File,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// How the lease ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::cause"))]
    pub cause: Option<Cause>,
    /// Pin references.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pins: Option<u64>,
    /// How many there are is not certain: fewer were found in the file's page cache, or a drop could not be
    /// credited to one of several owners.
    #[serde(skip_serializing_if = "is_false")]
    pub doubtful: bool,
    #[serde(flatten)]
    pub source: PinSource,
    /// The process is ending, and its pins go with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_by_itself: Option<bool>,
    /// How long the first of the pins had been there when the lease went, or the last of bare pins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_ms: Option<u64>,
    /// How long the zombie lasted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zombie_ms: Option<u64>,
    #[serde(flatten)]
    pub orphan: Orphan,
    #[serde(flatten)]
    pub rule_action: Option<RuleAction>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What belongs to orphaned pins alone.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Default, Serialize)]
pub struct Orphan {
    /// Who keeps the lease alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<Holder>>,
    /// How it ended: `pins-gone`: there are none any more; `covered`: the owner has a reference to
    /// a leased file again.
    #[serde(rename = "outcome", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::orphan_end"))]
    pub end: Option<&'static str>,
    /// How long they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphaned_ms: Option<u64>,
}

/// The first record of a run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
pub struct Start {
    /// The monitor itself.
    pub pid: u32,
    /// Release of the running kernel.
    pub kernel: String,
    /// `POINT: HOW` for each probe point in use.
    pub attach: Vec<String>,
    /// What this kernel cannot show, with the reason, a sentence each.
    pub cannot: Vec<String>,
    /// What a monitor that did not end by itself had left behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<String>,
    /// The policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyInForce>,
}

/// The policy in force.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyInForce {
    /// `enforce`, or `monitor`: mode `audit` of a policy.
    #[cfg_attr(test, schemars(schema_with = "crate::schema::policy_mode"))]
    pub mode: Mode,
    /// Names of the rules, first to last.
    pub rules: Vec<String>,
    /// Grows with each policy that is put in force.
    pub generation: u32,
}

/// The pins of a file were not those that the kernel has, and are now.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
pub struct Corrected {
    #[serde(flatten)]
    pub file: File,
    /// Pin references that were counted.
    pub pins_counted: u64,
    /// Those that the file's page cache has.
    pub pins_found: u64,
}

/// Something that was lost since the last record of this kind.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// What it was.
    pub what: &'static str,
    /// How many.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub count: u64,
}

impl Lost {
    /// A record of the ring buffer that is shorter than it says, or of a kind that is not known.
    pub const UNREADABLE: &str = "notifications could not be read";
}

/// The last record of a run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
pub struct End {
    /// Records of transitions that were written.
    pub events: u64,
    /// The same by their names.
    pub by_event: BTreeMap<Name, u64>,
    /// The sum of all `lost` records.
    pub lost: u64,
    /// Zombies that are still there.
    pub zombies: u64,
    /// All pins while it ran, by both counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_check: Option<CrossCheck>,
    /// What each rule came to since it was put in force.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(skip)]
    pub left: Vec<Entry>,
    #[serde(skip)]
    pub duration_ms: u64,
}

/// Who: a process and where it runs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    #[serde(flatten)]
    pub process: ProcessRef,
    /// User of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// As in /proc/PID/cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The innermost systemd unit of the cgroup, but for slices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The innermost container of the cgroup: its id, or its name where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Who: a process.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRef {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Name of the process, at most 15 bytes; empty if it is gone.
    pub comm: String,
}

impl ProcessRef {
    pub fn of(task: &Task) -> Self {
        let end = task.comm.iter().position(|byte| *byte == 0);
        let comm = &task.comm[..end.unwrap_or(task.comm.len())];
        Self {
            pid: task.tgid,
            comm: String::from_utf8_lossy(comm).into_owned(),
        }
    }
}

/// The lease meant.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lease {
    #[cfg_attr(test, schemars(schema_with = "crate::schema::lease_kind"))]
    pub kind: Kind,
    #[cfg_attr(test, schemars(schema_with = "crate::schema::lease_mode"))]
    pub mode: &'static str,
    /// How long it was held (so far, in a report); absent if it is older than the tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
}

impl Lease {
    /// The lease as of `until_ns` on the kernel's clock; `None` if the record stands for none.
    pub fn of(info: &LeaseInfo, until_ns: u64) -> Option<Self> {
        info.is_lease().then(|| Self {
            kind: info.kind(),
            mode: info.mode_name(),
            held_ms: (info.set_ns != 0).then(|| crate::clock::elapsed_ms(info.set_ns, until_ns)),
        })
    }
}

/// What asked for the pins.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PinSource {
    /// The driver or subsystem that asked for the pins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Its RDMA device, where there can be only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The descriptor of the process through which the first of its pins were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_fd: Option<u32>,
    /// The file behind it: a path, or a name such as `[io_uring]` or `socket:[4711]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// One entry of a report: a lease or a stake.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    pub owner: Owner,
    /// Who let the lease go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub releaser: Option<ProcessRef>,
    /// Who wants, or wanted, the lease broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<ProcessRef>,
    #[serde(flatten)]
    pub file: File,
    /// What the stake is; `pinned`: nobody watched, so that it is a zombie or a bare pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::state"))]
    pub state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// How the lease ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "crate::schema::cause"))]
    pub cause: Option<Cause>,
    /// Leases that the process has on the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<u64>,
    /// Pin references; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pins: Option<u64>,
    /// How many there are is not certain: fewer were found in the file's page cache, or a drop could not be
    /// credited to one of several owners.
    #[serde(skip_serializing_if = "is_false")]
    pub doubtful: bool,
    /// The most at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_pins: Option<u64>,
    /// Where pins are not known: all that the process has pinned, whatever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_pin_bytes: Option<u64>,
    #[serde(flatten)]
    pub source: PinSource,
    /// The process is ending, and its pins go with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_by_itself: Option<bool>,
    /// How long it has been what it is: a zombie, pinned, leased; absent: older than the tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Size of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Everybody who keeps the lease alive; of a stake, everybody else who has the file open or
    /// mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<Holder>>,
    /// Somebody wants the lease broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaking: Option<bool>,
    /// Who keeps the file on behalf of a rule: the monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<ProcessRef>,
}

/// One reference to a file.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    #[serde(flatten)]
    pub process: ProcessRef,
    /// Absent: a mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
}

impl Holder {
    pub fn of(found: &snapshot::Holder) -> Self {
        Self {
            process: ProcessRef {
                pid: found.tgid,
                comm: found.comm.clone(),
            },
            fd: found.fd,
        }
    }
}
