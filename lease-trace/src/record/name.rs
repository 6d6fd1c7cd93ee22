//! Names of events.

use lease_trace_common::{
    event::{Event, EventKind},
    policy::Action,
    verdict::Outcome,
};
use serde::Serialize;

/// What a record is about.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    Start,
    LeaseSet,
    LeaseEnd,
    Zombie,
    AtRest,
    BarePin,
    BarePinEnd,
    /// Pins whose owner has no reference to the leased file any more, which others keep.
    OrphanedPin,
    /// The end of that, other than as a zombie.
    OrphanEnd,
    /// A rule that only tells.
    Reported,
    Denied,
    Held,
    HoldEnd,
    Stopped,
    Killed,
    WouldDeny,
    WouldHold,
    WouldStop,
    WouldKill,
    /// A rule matched and somebody was not to be touched.
    Spared,
    /// A rule matched and what it says could not be done.
    Failed,
    /// An ending process left a zombie for longer than its rule's grace time.
    Overdue,
    /// The books were put right.
    Corrected,
    Lost,
    End,
}

impl Name {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::LeaseSet => "lease-set",
            Self::LeaseEnd => "lease-end",
            Self::Zombie => "zombie",
            Self::AtRest => "at-rest",
            Self::BarePin => "bare-pin",
            Self::BarePinEnd => "bare-pin-end",
            Self::OrphanedPin => "orphaned-pin",
            Self::OrphanEnd => "orphan-end",
            Self::Reported => "reported",
            Self::Denied => "denied",
            Self::Held => "held",
            Self::HoldEnd => "hold-end",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::WouldDeny => "would-deny",
            Self::WouldHold => "would-hold",
            Self::WouldStop => "would-stop",
            Self::WouldKill => "would-kill",
            Self::Spared => "spared",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
            Self::Corrected => "corrected",
            Self::Lost => "lost",
            Self::End => "end",
        }
    }
}

impl Name {
    /// The name of a notification; what became of an action decides the name of an action.
    pub fn of(kind: EventKind, event: &Event) -> Self {
        match kind {
            EventKind::LeaseSet => Self::LeaseSet,
            EventKind::LeaseEnd => Self::LeaseEnd,
            EventKind::Zombie => Self::Zombie,
            EventKind::AtRest => Self::AtRest,
            EventKind::BarePin => Self::BarePin,
            EventKind::OrphanedPin => Self::OrphanedPin,
            EventKind::OrphanEnd => Self::OrphanEnd,
            EventKind::BarePinEnd => Self::BarePinEnd,
            EventKind::Hold => Self::Held,
            EventKind::Unhold => Self::HoldEnd,
            EventKind::Action => Self::of_action(
                Action::from_raw(event.action),
                Outcome::from_raw(event.outcome),
            ),
        }
    }

    const fn of_action(action: Action, outcome: Option<Outcome>) -> Self {
        match (outcome, action) {
            (Some(Outcome::Would), Action::Deny) => Self::WouldDeny,
            (Some(Outcome::Would), Action::Hold) => Self::WouldHold,
            (Some(Outcome::Would), Action::Stop) => Self::WouldStop,
            (Some(Outcome::Would), Action::Kill) => Self::WouldKill,
            (Some(Outcome::Spared | Outcome::Bystander | Outcome::Ending), _) => Self::Spared,
            (Some(Outcome::Done | Outcome::HandedOver), Action::Report) => Self::Reported,
            (Some(Outcome::Done | Outcome::HandedOver), Action::Deny) => Self::Denied,
            (Some(Outcome::Done | Outcome::HandedOver), Action::Hold) => Self::Held,
            (Some(Outcome::Done | Outcome::HandedOver), Action::Stop) => Self::Stopped,
            (Some(Outcome::Done | Outcome::HandedOver), Action::Kill) => Self::Killed,
            (Some(Outcome::Failed) | None, _) | (Some(Outcome::Would), Action::Report) => {
                Self::Failed
            }
        }
    }
}
