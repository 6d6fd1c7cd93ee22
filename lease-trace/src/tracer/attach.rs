//! The attach plan at work: for every probe point fentry/fexit first, kprobe/kretprobe where that
//! is refused. What is possible is found out by loading and attaching, never from a version.

use std::{os::fd::AsFd as _, path::Path, time::Instant};

use aya::{
    Ebpf,
    programs::{KProbe, Program, ProgramError, kprobe::KProbeLink, links::FdLink},
};

use super::{
    AttachMode,
    error::{Error, chain, is_eperm, program_reason},
    object::Object,
    raw,
};
use crate::kernel::{
    self,
    bpf::Kind,
    host,
    points::{Group, Need, POINTS, Point},
};

/// How a point is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Trampoline,
    Probe,
}

/// What became of one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Watched; with the reason why the preferred hook was not taken, if there is one.
    Attached { hook: Hook, instead: Option<String> },
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
        Some(match (hook, self.point.returns) {
            (Hook::Trampoline, true) => "fentry+fexit",
            (Hook::Trampoline, false) => "fentry",
            (Hook::Probe, true) => "kprobe+kretprobe",
            (Hook::Probe, false) => "kprobe",
        })
    }

    pub const fn is_kprobe(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Attached {
                hook: Hook::Probe,
                ..
            }
        )
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

/// What keeps one program attached. The kernel keeps the program for it, whatever becomes of the object
/// that it was loaded from.
#[allow(dead_code, reason = "held for what its end does")]
pub enum Link {
    Trampoline(raw::Link),
    Probe(KProbeLink),
}

/// Attaches every point there is, in the order of their groups. An error is one that concerns all
/// of them. With a folder of bpffs the links are pinned there, and what is attached outlives this
/// process.
pub fn attach(
    object: &mut Object,
    mode: AttachMode,
    folder: Option<&Path>,
) -> Result<Vec<Attachment>, Error> {
    attach_groups(object, mode, folder, &Group::ALL)
}

/// The same with the points of these groups only.
pub fn attach_groups(
    object: &mut Object,
    mode: AttachMode,
    folder: Option<&Path>,
    groups: &[Group],
) -> Result<Vec<Attachment>, Error> {
    let mut points: Vec<&'static Point> = POINTS
        .iter()
        .filter(|point| groups.contains(&point.group))
        .collect();
    points.sort_by_key(|point| point.group);
    let mut attachments = Vec::with_capacity(points.len());
    for point in points {
        let outcome = if !object.types.has_function(point.function) {
            Outcome::Absent
        } else if let Some(reason) = stranger(&object.types, point) {
            Outcome::Failed { reason }
        } else {
            attach_point(object, point, mode, folder)?
        };
        log::debug!("{}: {outcome:?}", point.function);
        attachments.push(Attachment { point, outcome });
    }
    Ok(attachments)
}

/// Whether a point is watched by fentry, which the kernel passes by least.
pub fn has_trampoline(attachments: &[Attachment], function: &str) -> bool {
    let hook = Hook::Trampoline;
    attachments.iter().any(|attachment| {
        let is_watched =
            matches!(&attachment.outcome, Outcome::Attached { hook: its, .. } if *its == hook);
        is_watched && attachment.point.function == function
    })
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
    folder: Option<&Path>,
) -> Result<Outcome, Error> {
    let mut instead = None;
    if mode != AttachMode::Kprobe {
        match with_trampoline(object, point, folder) {
            Ok(()) => {
                return Ok(Outcome::Attached {
                    hook: Hook::Trampoline,
                    instead: None,
                });
            }
            Err(reason) => instead = Some(format!("fentry: {}", reason.refine()?)),
        }
    }
    if mode == AttachMode::Fentry {
        return Ok(Outcome::Failed {
            reason: instead.unwrap_or_default(),
        });
    }
    if let Some(obstacle) = host::kprobes() {
        let reason = match instead {
            Some(instead) => format!("{instead}; {obstacle}"),
            None => obstacle.to_string(),
        };
        return Ok(Outcome::Failed { reason });
    }
    match with_probe(object, point, folder) {
        Ok(()) => Ok(Outcome::Attached {
            hook: Hook::Probe,
            instead,
        }),
        Err(reason) => {
            let probe = reason.refine()?;
            let reason = match instead {
                Some(instead) => format!("{instead}; kprobe: {probe}"),
                None => format!("kprobe: {probe}"),
            };
            Ok(Outcome::Failed { reason })
        }
    }
}

/// Why one hook was refused.
enum Refusal {
    Trampoline(raw::Refusal),
    Probe(ProgramError),
    /// The object lacks a program that the table of points names.
    NoProgram(String),
    /// It was attached and cannot be kept so.
    Pin(String),
}

impl Refusal {
    /// EPERM concerns every program: it ends the start. Anything else concerns this hook.
    fn refine(self) -> Result<String, Error> {
        let is_refused = match &self {
            Self::Trampoline(refusal) => refusal.is_eperm(),
            Self::Probe(error) => is_eperm(error),
            _ => false,
        };
        if is_refused {
            return Err(Error::Refused {
                call: "bpf(2) for loading a program".to_owned(),
            });
        }
        Ok(match self {
            Self::Trampoline(refusal) => chain(&refusal),
            Self::Probe(error) => program_reason(&error),
            Self::Pin(reason) => reason,
            Self::NoProgram(name) => format!("the object has no program {name}"),
        })
    }
}

impl From<raw::Refusal> for Refusal {
    fn from(refusal: raw::Refusal) -> Self {
        Self::Trampoline(refusal)
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        Self::Probe(error)
    }
}

/// The return side goes first: a call whose entry was seen is always seen to leave.
fn with_trampoline(
    object: &mut Object,
    point: &Point,
    folder: Option<&Path>,
) -> Result<(), Refusal> {
    let Object {
        raw, types, links, ..
    } = object;
    let put = |kind: Kind, end: &str| {
        let name = format!("{}_{end}", point.stem);
        let id = types.function_id(point.function).unwrap_or_default();
        raw.load(&name, kind, id)?.attach()
    };
    // Dropped, and with that detached, if the entry cannot be attached.
    let exit = point
        .returns
        .then(|| put(Kind::Exit, "leave"))
        .transpose()?;
    let entry = put(Kind::Entry, "enter")?;
    for link in [Some(entry), exit].into_iter().flatten() {
        if let Some(folder) = folder {
            let reason =
                |error| Refusal::Pin(format!("cannot pin into {}: {error}", folder.display()));
            link.pin(folder).map_err(reason)?;
        }
        links.push(Link::Trampoline(link));
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, Refusal> {
    ebpf.program_mut(name)
        .ok_or_else(|| Refusal::NoProgram(name.to_owned()))
}

fn with_probe(object: &mut Object, point: &Point, folder: Option<&Path>) -> Result<(), Refusal> {
    let Object { ebpf, links, .. } = object;
    let mut names = vec![format!("{}_probe", point.stem)];
    if point.returns {
        names.insert(0, format!("{}_ret", point.stem));
    }
    for name in names {
        let probe: &mut KProbe = program(ebpf, &name)?.try_into()?;
        let begun = Instant::now();
        probe.load()?;
        raw::say_cost(&name, begun, probe.fd()?.as_fd());
        let link = probe.attach(point.function, 0)?;
        let link = probe.take_link(link)?;
        if let Some(folder) = folder {
            let link = FdLink::try_from(link)
                .map_err(|error| Refusal::Pin(format!("{name} cannot be pinned: {error}")))?;
            pin(link, &folder.join(&name))?;
        } else {
            links.push(Link::Probe(link));
        }
    }
    Ok(())
}

/// Keeps what is attached until the file is removed.
fn pin(link: FdLink, path: &Path) -> Result<(), Refusal> {
    link.pin(path)
        .map(drop)
        .map_err(|error| Refusal::Pin(format!("cannot pin {}: {}", path.display(), chain(&error))))
}
