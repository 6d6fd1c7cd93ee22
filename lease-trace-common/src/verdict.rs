//! What is done about a breach: the rule that matched and the situation in, the verdict out.

use crate::{cause::Cause, policy::Action};

/// When it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The lease is still there and its release can be refused.
    Before,
    /// The lease is gone.
    After,
}

/// Who is not touched, and why. The numbers are part of the record.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// Nobody: the rule applies.
    No = 0,
    /// Pid 1.
    Init = 1,
    /// The task is exiting, or SIGKILL is pending: it goes anyway.
    Ending = 2,
    /// lease-trace itself.
    Tracer = 3,
    /// Another process than the owner of the pins let go.
    Bystander = 4,
}

/// What became of an action. The numbers are part of the record.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
pub enum Outcome {
    /// Denied; the signal is sent; the file is held.
    Done = 1,
    /// Userspace is asked to do it, since the current task is not the one meant.
    HandedOver = 2,
    /// Not done: pid 1 or lease-trace itself.
    Spared = 3,
    /// Not done: somebody else let go.
    Bystander = 4,
    /// The action came too late or was refused by the kernel.
    Failed = 5,
    /// It would have been done in enforce mode.
    Would = 6,
    /// Not done: the task is ending.
    Ending = 7,
}

impl Outcome {
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::HandedOver,
        Self::Spared,
        Self::Bystander,
        Self::Failed,
        Self::Would,
        Self::Ending,
    ];

    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as u32 == raw)
    }
}

/// What is true when it is decided.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is true or false whatever the others are"
)]
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Enforce mode, not audit mode.
    pub enforce: bool,
    pub moment: Moment,
    /// The [`Cause`] in its record; 0 for a bare pin.
    pub cause: u32,
    /// This kernel lets that release path be denied.
    pub deniable: bool,
    pub spared: Spared,
    /// Whether the pins are this stake's is not known: several processes have some in the file, and the kernel has
    /// fewer than they were counted.
    pub doubtful: bool,
    /// The policy is so new ([`crate::policy::SETTLES_NS`]) that the release may have been let through by the one before.
    pub settling: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, and nothing is told.
    Pass,
    /// Refuse the release.
    Deny,
    /// Send the signal of this action to the owner of the pins.
    Signal(Action),
    /// The same once it is known that they are his.
    Order(Action),
    /// Only tell.
    Tell(Action, Outcome),
}

/// What a rule comes to for one release path: `deny` only where it can be had, `hold` of an unlock by
/// denying it, since a duplicate does not keep a lease that is unlocked, and no `hold` where the
/// kernel takes the lease away.
#[inline(always)]
pub const fn applicable(action: Action, fallback: Action, cause: Cause, deniable: bool) -> Action {
    applies(action, fallback, cause as u32, deniable)
}

#[inline(always)]
const fn applies(action: Action, fallback: Action, cause: u32, deniable: bool) -> Action {
    let action = match action {
        Action::Deny if !deniable => fallback,
        other => other,
    };
    match action {
        Action::Hold if cause == Cause::Unlock as u32 && deniable => Action::Deny,
        // Nothing can be kept.
        Action::Hold
            if cause == 0
                || cause == Cause::Unlock as u32
                || cause == Cause::BreakTimeout as u32 =>
        {
            match fallback {
                Action::Stop | Action::Kill => fallback,
                Action::Report | Action::Deny | Action::Hold => Action::Report,
            }
        }
        // Nothing but the rule's first choice may deny, or it would not have been replaced.
        Action::Deny if !deniable => Action::Report,
        other => other,
    }
}

/// The verdict on one breach.
#[inline(always)]
pub const fn decide(action: Action, fallback: Action, now: &Situation) -> Verdict {
    let applies = applies(action, fallback, now.cause, now.deniable);
    match now.moment {
        Moment::Before => {
            if now.enforce
                && !now.doubtful
                && matches!(applies, Action::Deny)
                && matches!(now.spared, Spared::No)
            {
                Verdict::Deny
            } else {
                Verdict::Pass
            }
        }
        Moment::After => after(applies, fallback, now),
    }
}

#[inline(always)]
const fn after(applies: Action, fallback: Action, now: &Situation) -> Verdict {
    match now.spared {
        Spared::Init | Spared::Tracer => return Verdict::Tell(applies, Outcome::Spared),
        Spared::Ending => return Verdict::Tell(applies, Outcome::Ending),
        Spared::Bystander | Spared::No => {}
    }
    if matches!(applies, Action::Report) {
        return Verdict::Tell(Action::Report, Outcome::Done);
    }
    let is_bystander = matches!(now.spared, Spared::Bystander);
    let applies = match applies {
        // Who has no pins of his own was refused nothing.
        Action::Deny if is_bystander => applies,
        Action::Deny | Action::Hold if !now.enforce => {
            return Verdict::Tell(applies, Outcome::Would);
        }
        // It was to be denied or held and went all the same: a race, or the hold came too late. Nobody pays with the
        // fallback for what no rule refused when he asked.
        Action::Deny | Action::Hold => match fallback {
            Action::Stop | Action::Kill if !now.settling || matches!(applies, Action::Hold) => {
                fallback
            }
            _ => return Verdict::Tell(applies, Outcome::Failed),
        },
        other => other,
    };
    if is_bystander {
        Verdict::Tell(applies, Outcome::Bystander)
    } else if now.enforce && now.doubtful {
        Verdict::Order(applies)
    } else if now.enforce {
        Verdict::Signal(applies)
    } else {
        Verdict::Tell(applies, Outcome::Would)
    }
}
