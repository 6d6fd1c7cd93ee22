//! The attach plan at work: for every probe point the kind of hook that misses least here, the next
//! one where that is refused. What is possible is found out by loading and attaching, never from a
//! version.

use std::path::Path;

use super::{
    AttachMode,
    error::{Error, chain},
    kinds::{Hook, Part},
    object::Object,
    raw::{self, Link},
};
use crate::kernel::{
    self,
    bpf::Kind,
    host,
    points::{Group, Need, POINTS, Point, RETURNED, UNLOCKED},
    preemption::Preemption,
};

/// What became of one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Watched.
    Attached {
        hook: Hook,
        /// Why this kind of hook is preferred here.
        why: &'static str,
        /// Why the preferred one was not taken, if it was not.
        instead: Option<String>,
    },
    /// This kernel has no such function.
    Absent,
    /// The function is there and cannot be watched.
    Failed { reason: String },
}

/// A point and what became of it.
pub struct Attachment {
    pub point: &'static Point,
    pub outcome: Outcome,
}

impl Attachment {
    /// `fentry+fexit`, if it is watched.
    pub fn how(&self) -> Option<&'static str> {
        let Outcome::Attached { hook, .. } = &self.outcome else {
            return None;
        };
        Some(if self.point.returns_only {
            hook.name_of_return()
        } else {
            hook.name(self.point.returns)
        })
    }

    pub const fn is_watched(&self) -> bool {
        matches!(self.outcome, Outcome::Attached { .. })
    }

    /// Whether the kernel passes it over while bpf(2) reads a map on that CPU.
    pub const fn is_kprobe(&self) -> bool {
        matches!(&self.outcome, Outcome::Attached { hook, .. } if hook.has_kprobe())
    }

    /// `pin_user_pages: fentry+fexit`
    pub fn describe(&self) -> Option<String> {
        Some(format!("{}: {}", self.point.function, self.how()?))
    }

    /// What cannot be shown, and why.
    pub fn loss(&self) -> Option<String> {
        let Point { function, loss, .. } = self.point;
        match &self.outcome {
            Outcome::Attached { .. } => None,
            Outcome::Absent if self.point.need == Need::IfPresent => None,
            Outcome::Absent => Some(format!("{loss}: this kernel has no {function}")),
            Outcome::Failed { reason } => Some(format!("{loss}: {function}: {reason}")),
        }
    }
}

/// Attaches every point there is, in the order of their groups. An error is one that concerns all
/// of them. With a directory of bpffs the links are pinned there, and what is attached outlives this
/// process.
pub fn attach(
    object: &mut Object,
    mode: AttachMode,
    directory: Option<&Path>,
) -> Result<Vec<Attachment>, Error> {
    attach_groups(object, mode, directory, &Group::ALL)
}

/// The same with the points of these groups only.
pub fn attach_groups(
    object: &mut Object,
    mode: AttachMode,
    directory: Option<&Path>,
    groups: &[Group],
) -> Result<Vec<Attachment>, Error> {
    let mut points: Vec<&'static Point> = POINTS
        .iter()
        .filter(|point| groups.contains(&point.group))
        .collect();
    points.sort_by_key(|point| point.group);
    points
        .into_iter()
        .map(|point| attach_one(object, point, mode, directory))
        .collect()
}

/// Attaches what judges a release once `flc_lock` is free.
pub fn attach_unlocked(
    object: &mut Object,
    mode: AttachMode,
    directory: Option<&Path>,
) -> Result<Attachment, Error> {
    let [leases, locks] = &UNLOCKED;
    let point = if object.types.has_function(leases.function) {
        leases
    } else {
        locks
    };
    attach_one(object, point, mode, directory)
}

/// Attaches what judges bare pins when the system calls have returned that took them.
pub fn attach_returned(
    object: &mut Object,
    mode: AttachMode,
    directory: Option<&Path>,
) -> Result<Vec<Attachment>, Error> {
    RETURNED
        .iter()
        .map(|point| attach_one(object, point, mode, directory))
        .collect()
}

fn attach_one(
    object: &mut Object,
    point: &'static Point,
    mode: AttachMode,
    directory: Option<&Path>,
) -> Result<Attachment, Error> {
    let outcome = if !object.types.has_function(point.function) {
        Outcome::Absent
    } else if let Some(reason) = stranger(&object.types, point) {
        Outcome::Failed { reason }
    } else {
        attach_point(object, point, mode, directory)?
    };
    let attachment = Attachment { point, outcome };
    let how = attachment.how().unwrap_or("not watched");
    log::debug!("{}: {how}: {:?}", point.function, attachment.outcome);
    Ok(attachment)
}

/// Whether no call of a function is missed that runs under a spinlock: it is watched by fentry, which no map that
/// is read elsewhere passes over, and no task is preempted there.
pub fn is_exact(attachments: &[Attachment], function: &str, preemption: Preemption) -> bool {
    let hook = Hook::Trampoline;
    let is_watched = attachments.iter().any(|attachment| {
        let is_watched =
            matches!(&attachment.outcome, Outcome::Attached { hook: its, .. } if *its == hook);
        is_watched && attachment.point.function == function
    });
    is_watched && !preemption.may_miss_locked()
}

/// Fails if a point that the main job depends on is not watched.
pub fn require(attachments: &[Attachment]) -> Result<(), Error> {
    for Attachment { point, outcome } in attachments {
        let reason = match outcome {
            _ if point.need != Need::Required => continue,
            Outcome::Attached { .. } => continue,
            Outcome::Absent => "this kernel has no such function".to_owned(),
            Outcome::Failed { reason } => reason.clone(),
        };
        return Err(Error::Point {
            function: point.function,
            reason,
            loss: point.loss,
        });
    }
    Ok(())
}

/// Why a function is not the one this point relies on: its prototype is another. What BTF does
/// not describe cannot be compared.
fn stranger(types: &kernel::btf::Btf, point: &Point) -> Option<String> {
    let prototype = types.prototype(point.function)?;
    if point
        .prototypes
        .iter()
        .any(|known| prototype.starts_with(known))
    {
        return None;
    }
    Some(format!(
        "its prototype `{prototype}` is not one that lease-trace knows"
    ))
}

fn attach_point(
    object: &mut Object,
    point: &'static Point,
    mode: AttachMode,
    directory: Option<&Path>,
) -> Result<Outcome, Error> {
    let (order, why) = object.host.order(mode, point);
    let mut refused = Vec::new();
    for hook in order {
        let reason = match (hook, host::kprobes()) {
            (Hook::Probe, Some(obstacle)) => obstacle.to_string(),
            _ => match put(object, point, *hook, directory) {
                Ok(()) => {
                    return Ok(Outcome::Attached {
                        hook: *hook,
                        why,
                        instead: (!refused.is_empty()).then(|| refused.join("; ")),
                    });
                }
                Err(refusal) => format!("{}: {}", hook.name(false), refusal.refine()?),
            },
        };
        refused.push(reason);
    }
    Ok(Outcome::Failed {
        reason: refused.join("; "),
    })
}

/// Why one hook was refused.
enum Refusal {
    Raw(raw::Refusal),
    /// It was attached and cannot be kept so.
    Pin(String),
}

impl Refusal {
    /// EPERM concerns every program: it ends the start. Anything else concerns this hook.
    fn refine(self) -> Result<String, Error> {
        match self {
            Self::Raw(refusal) if refusal.is_eperm() => Err(Error::Refused {
                call: "bpf(2) for loading a program".to_owned(),
            }),
            Self::Raw(refusal) => Ok(chain(&refusal)),
            Self::Pin(reason) => Ok(reason),
        }
    }
}

impl From<raw::Refusal> for Refusal {
    fn from(refusal: raw::Refusal) -> Self {
        Self::Raw(refusal)
    }
}

/// Puts one kind of hook in place, both of its ends or none.
fn put(
    object: &mut Object,
    point: &Point,
    hook: Hook,
    directory: Option<&Path>,
) -> Result<(), Refusal> {
    let function = point.function;
    // Dropped, and with that detached, if the next cannot be attached.
    let parts = hook.parts(point.returns);
    let parts = parts.filter(|part| !point.returns_only || part.is_return());
    let attached = parts.map(|part| {
        let Part { suffix, kind, end } = part;
        let name = format!("{}_{suffix}", point.stem);
        let program = point.program(suffix);
        let raw = &mut object.raw;
        match kind {
            Kind::KprobeMulti => raw
                .load_shared(&program, kind)?
                .attach_multi(name, function, end),
            Kind::Kprobe => raw
                .load_shared(&program, kind)?
                .attach_kprobe(name, function, end),
            _ => {
                let id = object.types.function_id(function).unwrap_or_default();
                raw.load(&program, kind, id)?.attach(name)
            }
        }
    });
    let attached: Vec<Link> = attached.collect::<Result<_, _>>()?;
    for link in attached.into_iter().rev() {
        if let Some(directory) = directory {
            let reason =
                |error| Refusal::Pin(format!("cannot pin into {}: {error}", directory.display()));
            link.pin(directory).map_err(reason)?;
        }
        object.links.push(link);
    }
    Ok(())
}
