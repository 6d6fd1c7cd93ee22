//! What a rule comes to for each release path. The kernel side decides by the same function,
//! [`lease_trace_common::verdict::applicable`].

use lease_trace_common::{
    cause::Cause,
    policy::{Action, DENIABLE, cause_bit},
    verdict,
};
use serde::Serialize;

use crate::kernel::release_paths::{NOWHERE, ReleasePaths};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    Denied,
    Held,
    Stopped,
    Killed,
    Reported,
    /// Neither the action can be had, nor what was to be done otherwise.
    Impossible,
    /// It depends on a kernel that could not be asked.
    Unknown,
    /// The process is ending.
    Nothing,
    /// The rule is not about this release path.
    Unmatched,
}

impl Effect {
    /// In the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Denied,
        Self::Held,
        Self::Stopped,
        Self::Killed,
        Self::Reported,
        Self::Impossible,
        Self::Unknown,
        Self::Nothing,
        Self::Unmatched,
    ];

    /// What carrying out an action comes to.
    const fn of(action: Action) -> Self {
        match action {
            Action::Report => Self::Reported,
            Action::Deny => Self::Denied,
            Action::Hold => Self::Held,
            Action::Stop => Self::Stopped,
            Action::Kill => Self::Killed,
        }
    }
}

/// What a rule wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub action: Action,
    pub fallback: Option<Action>,
    /// Set of causes, see [`cause_bit`].
    pub causes: u32,
}

/// What happens, and why not what was wanted first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub effect: Effect,
    pub reason: Option<String>,
    /// The reason is this kernel: another one could do it.
    pub here: bool,
}

impl Outcome {
    const fn plain(effect: Effect) -> Self {
        Self {
            effect,
            reason: None,
            here: false,
        }
    }
}

/// Why a hold does not outlast a break.
const BREAK: &str = "the kernel takes the lease away, whoever keeps the file";
/// Why neither can be had for pins without a lease.
const BARE: &str = "there is no release to deny and no lease to hold";

impl Wanted {
    /// For a lease that goes by this release path. `ways` is `None` where the kernel could not be asked.
    pub fn at(&self, cause: Cause, ways: Option<&ReleasePaths>) -> Outcome {
        if self.causes & cause_bit(cause as u32) == 0 {
            return Outcome::plain(Effect::Unmatched);
        }
        if cause.is_ending() {
            return Outcome::plain(Effect::Nothing);
        }
        let hold_by_denial = self.action == Action::Hold && cause == Cause::Unlock;
        let first = if hold_by_denial {
            Action::Deny
        } else {
            self.action
        };
        let denial = match ways {
            Some(ways) => ways.deny(cause),
            None if !DENIABLE.contains(&cause) => Err(NOWHERE),
            None if first == Action::Deny => return Outcome::plain(Effect::Unknown),
            None => Err(NOWHERE),
        };
        let fallback = self.fallback.unwrap_or_default();
        let applies = verdict::applicable(self.action, fallback, cause, denial.is_ok());
        let effect = Effect::of(applies);
        if effect == Effect::of(first) {
            return Outcome::plain(effect);
        }
        let reason = match denial {
            Err(why) if first == Action::Deny => why,
            _ => BREAK,
        };
        self.fallen_back(
            effect,
            reason,
            first == Action::Deny && DENIABLE.contains(&cause),
        )
    }

    /// For long-term pins that no lease covers.
    pub fn at_bare_pin(&self) -> Outcome {
        match self.action {
            Action::Deny | Action::Hold => self.fallen_back(self.too_late(), BARE, false),
            action => Outcome::plain(Effect::of(action)),
        }
    }

    /// What is left when the lease is gone: see [`verdict::decide`].
    fn too_late(&self) -> Effect {
        match self.fallback {
            Some(action @ (Action::Stop | Action::Kill)) => Effect::of(action),
            _ => Effect::Reported,
        }
    }

    /// Something else than the first choice: what `fallback` says, or the rule is refused.
    fn fallen_back(&self, effect: Effect, reason: &str, here: bool) -> Outcome {
        let meant = self.fallback.map(Effect::of) == Some(effect);
        Outcome {
            effect: if meant { effect } else { Effect::Impossible },
            reason: Some(reason.to_owned()),
            here,
        }
    }
}

#[cfg(test)]
mod tests {
    use lease_trace_common::policy::ANY_CAUSE;

    use super::*;
    use crate::kernel::release_paths::{Answer, RELEASE_PATHS};

    fn wanted(action: Action, fallback: Option<Action>) -> Wanted {
        Wanted {
            action,
            fallback,
            causes: ANY_CAUSE,
        }
    }

    fn kernels() -> [ReleasePaths; 3] {
        [
            ReleasePaths::none(),
            ReleasePaths::like_debian_12(),
            ReleasePaths::like_linux_7(),
        ]
    }

    /// `doctor` and `policy check` say the same.
    #[test]
    fn an_action_can_be_had_where_doctor_says_so() {
        for ways in kernels() {
            for action in Action::ALL {
                for cause in RELEASE_PATHS {
                    let effect = wanted(action, None).at(cause, Some(&ways)).effect;
                    let agrees = match ways.can(action, cause) {
                        Answer::Yes { .. } => {
                            effect == Effect::of(action)
                                || (action, cause) == (Action::Hold, Cause::Unlock)
                                    && effect == Effect::Denied
                        }
                        Answer::No { .. } => effect == Effect::Impossible,
                        Answer::Ends => effect == Effect::Nothing,
                    };
                    assert!(agrees, "{action:?} {cause:?}: {effect:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_denied_that_cannot_be() {
        for ways in kernels() {
            for action in Action::ALL {
                for fallback in [None].into_iter().chain(Action::ALL.map(Some)) {
                    for cause in RELEASE_PATHS {
                        let outcome = wanted(action, fallback).at(cause, Some(&ways));
                        if outcome.effect == Effect::Denied {
                            assert!(ways.deny(cause).is_ok(), "{action:?} {cause:?}");
                        }
                    }
                    let bare = wanted(action, fallback).at_bare_pin().effect;
                    assert!(!matches!(bare, Effect::Denied | Effect::Held));
                }
            }
        }
    }

    #[test]
    fn what_the_fallback_says_happens_where_the_action_cannot_be_had() {
        let ways = ReleasePaths::like_debian_12();
        let at = |fallback, cause| {
            let outcome = wanted(Action::Deny, Some(fallback)).at(cause, Some(&ways));
            (outcome.effect, outcome.here)
        };
        assert_eq!(at(Action::Kill, Cause::Unlock), (Effect::Denied, false));
        assert_eq!(at(Action::Kill, Cause::Close), (Effect::Killed, true));
        assert_eq!(at(Action::Kill, Cause::Exec), (Effect::Killed, false));
        assert_eq!(at(Action::Hold, Cause::Close), (Effect::Held, true));
        assert_eq!(
            at(Action::Hold, Cause::BreakTimeout),
            (Effect::Impossible, false)
        );
        assert_eq!(at(Action::Report, Cause::Close), (Effect::Reported, true));
        assert_eq!(at(Action::Kill, Cause::Exit), (Effect::Nothing, false));
    }

    #[test]
    fn a_kernel_that_was_not_asked_leaves_only_denials_unknown() {
        let deny = wanted(Action::Deny, Some(Action::Kill));
        assert_eq!(deny.at(Cause::Close, None).effect, Effect::Unknown);
        assert_eq!(deny.at(Cause::Exec, None).effect, Effect::Killed);
        let hold = wanted(Action::Hold, None);
        assert_eq!(hold.at(Cause::Unlock, None).effect, Effect::Unknown);
        assert_eq!(hold.at(Cause::Close, None).effect, Effect::Held);
    }

    #[test]
    fn only_the_ways_let_in_matter() {
        let unlock = Wanted {
            causes: cause_bit(Cause::Unlock as u32),
            ..wanted(Action::Deny, None)
        };
        let ways = ReleasePaths::like_debian_12();
        assert_eq!(unlock.at(Cause::Unlock, Some(&ways)).effect, Effect::Denied);
        assert_eq!(
            unlock.at(Cause::Close, Some(&ways)).effect,
            Effect::Unmatched
        );
    }
}
