//! The verdict, held against what may never happen: every action, what to do otherwise, release path,
//! moment, mode and who is spared.

use lease_trace_common::{
    cause::Cause,
    policy::Action,
    verdict::{Moment, Outcome, Situation, Spared, Verdict, applicable, decide},
};

const SPARED: [Spared; 5] = [
    Spared::No,
    Spared::Init,
    Spared::Ending,
    Spared::Tracer,
    Spared::Bystander,
];

/// A rule and a situation.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is true or false whatever the others are"
)]
#[derive(Clone, Copy, Debug)]
struct Case {
    action: Action,
    fallback: Action,
    cause: Cause,
    enforce: bool,
    moment: Moment,
    deniable: bool,
    spared: Spared,
    doubtful: bool,
    settling: bool,
}

impl Case {
    fn verdict(self) -> Verdict {
        let now = Situation {
            enforce: self.enforce,
            moment: self.moment,
            cause: self.cause as u32,
            deniable: self.deniable,
            spared: self.spared,
            doubtful: self.doubtful,
            settling: self.settling,
        };
        decide(self.action, self.fallback, &now)
    }

    fn applicable(self) -> Action {
        applicable(self.action, self.fallback, self.cause, self.deniable)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for action in Action::ALL {
        for fallback in Action::ALL {
            for cause in Cause::ALL {
                for spared in SPARED {
                    for bits in 0..32 {
                        cases.push(Case {
                            action,
                            fallback,
                            cause,
                            enforce: bits & 1 != 0,
                            moment: if bits & 2 != 0 {
                                Moment::Before
                            } else {
                                Moment::After
                            },
                            deniable: bits & 4 != 0,
                            spared,
                            doubtful: bits & 8 != 0,
                            settling: bits & 16 != 0,
                        });
                    }
                }
            }
        }
    }
    cases
}

/// A case in enforce mode, with nobody spared.
fn case(action: Action, fallback: Action, cause: Cause, deniable: bool) -> Case {
    Case {
        action,
        fallback,
        cause,
        enforce: true,
        moment: Moment::After,
        deniable,
        spared: Spared::No,
        doubtful: false,
        settling: false,
    }
}

#[test]
fn a_release_is_denied_only_before_it_and_only_where_that_is_possible() {
    for case in cases() {
        if case.verdict() == Verdict::Deny {
            assert!(case.moment == Moment::Before, "{case:?}");
            assert!(case.deniable && case.enforce, "{case:?}");
            assert!(!case.doubtful, "{case:?}");
            assert!(matches!(case.spared, Spared::No), "{case:?}");
            assert!(
                case.action == Action::Deny
                    || (case.action, case.cause) == (Action::Hold, Cause::Unlock),
                "{case:?}"
            );
        }
    }
}

#[test]
fn a_signal_is_sent_only_afterwards_and_only_to_the_owner_who_let_go() {
    for case in cases() {
        if let Verdict::Signal(signal) = case.verdict() {
            assert!(case.enforce && !case.doubtful, "{case:?}");
            assert!(case.moment == Moment::After, "{case:?}");
            assert!(case.spared == Spared::No, "{case:?}");
            assert!(matches!(signal, Action::Stop | Action::Kill), "{case:?}");
            assert!(signal == case.action || signal == case.fallback, "{case:?}");
        }
    }
}

/// It may have been let through by the policy before. What could not be denied gets what it always gets.
#[test]
fn while_a_policy_settles_nobody_pays_with_the_fallback_for_what_could_be_denied() {
    for case in cases().into_iter().filter(|case| case.settling) {
        let settled = Case {
            settling: false,
            ..case
        };
        let signals = |verdict| matches!(verdict, Verdict::Signal(_) | Verdict::Order(_));
        if case.applicable() == Action::Deny {
            assert!(!signals(case.verdict()), "{case:?}");
        } else {
            assert_eq!(case.verdict(), settled.verdict(), "{case:?}");
        }
        if case.moment == Moment::Before {
            assert_eq!(case.verdict(), settled.verdict(), "{case:?}");
        }
    }
}

/// Doubt puts off what is done, and takes nothing away.
#[test]
fn on_doubt_a_signal_is_ordered_and_nothing_is_denied() {
    for case in cases().into_iter().filter(|case| case.doubtful) {
        let otherwise = Case {
            doubtful: false,
            ..case
        };
        let expected = match otherwise.verdict() {
            Verdict::Deny => Verdict::Pass,
            Verdict::Signal(action) => Verdict::Order(action),
            other => other,
        };
        assert_eq!(case.verdict(), expected, "{case:?}");
    }
}

#[test]
fn audit_mode_does_nothing_and_reports_everything() {
    for case in cases().into_iter().filter(|case| !case.enforce) {
        match (case.moment, case.verdict()) {
            (Moment::Before, verdict) => assert_eq!(verdict, Verdict::Pass, "{case:?}"),
            (Moment::After, Verdict::Tell(action, outcome)) => {
                assert_eq!(action, case.applicable(), "{case:?}");
                let plain = !matches!(case.spared, Spared::Init | Spared::Tracer | Spared::Ending);
                let expected = match (action, case.spared) {
                    (Action::Report, _) => Outcome::Done,
                    (Action::Deny | Action::Stop | Action::Kill, Spared::Bystander) => {
                        Outcome::Bystander
                    }
                    _ => Outcome::Would,
                };
                assert!(!plain || outcome == expected, "{case:?}");
            }
            (Moment::After, verdict) => panic!("{case:?}: {verdict:?}"),
        }
    }
}

#[test]
fn nothing_is_told_before_and_everything_afterwards() {
    for case in cases() {
        match case.moment {
            Moment::Before => {
                assert!(matches!(case.verdict(), Verdict::Pass | Verdict::Deny));
            }
            Moment::After => {
                assert!(matches!(
                    case.verdict(),
                    Verdict::Signal(_) | Verdict::Order(_) | Verdict::Tell(..)
                ));
            }
        }
    }
}

#[test]
fn the_spared_are_left_alone_and_named() {
    let expected = [
        (Spared::Init, Outcome::Spared),
        (Spared::Tracer, Outcome::Spared),
        (Spared::Ending, Outcome::Ending),
    ];
    for case in cases() {
        let Some((_, outcome)) = expected.iter().find(|(spared, _)| *spared == case.spared) else {
            continue;
        };
        let verdict = match case.moment {
            Moment::Before => Verdict::Pass,
            Moment::After => Verdict::Tell(case.applicable(), *outcome),
        };
        assert_eq!(case.verdict(), verdict, "{case:?}");
    }
}

/// What a rule would do is what it does: enforce mode denies or signals where audit mode said so,
/// but for holds, which userspace keeps, and on doubt.
#[test]
fn audit_mode_says_what_enforce_mode_does() {
    for case in cases() {
        let touched = matches!(case.spared, Spared::No | Spared::Bystander);
        if case.enforce
            || case.doubtful
            || case.settling
            || case.moment == Moment::Before
            || !touched
        {
            continue;
        }
        let enforced = |moment| {
            Case {
                enforce: true,
                moment,
                ..case
            }
            .verdict()
        };
        match case.verdict() {
            Verdict::Tell(Action::Deny, Outcome::Would) => {
                assert_eq!(enforced(Moment::Before), Verdict::Deny, "{case:?}");
            }
            Verdict::Tell(signal @ (Action::Stop | Action::Kill), Outcome::Would) => {
                assert_eq!(enforced(Moment::After), Verdict::Signal(signal), "{case:?}");
            }
            verdict @ Verdict::Tell(_, Outcome::Bystander) => {
                assert_eq!(enforced(Moment::After), verdict, "{case:?}");
            }
            verdict => assert!(
                matches!(verdict, Verdict::Tell(Action::Report | Action::Hold, _)),
                "{case:?}: {verdict:?}"
            ),
        }
    }
}

#[test]
fn what_applies_can_be_had() {
    for case in cases() {
        let applies = case.applicable();
        assert!(applies != Action::Deny || case.deniable, "{case:?}");
        assert!(
            applies != Action::Hold || !matches!(case.cause, Cause::Unlock | Cause::BreakTimeout),
            "a duplicate does not keep what is unlocked or taken away: {case:?}"
        );
        assert!(
            [case.action, case.fallback, Action::Report, Action::Deny].contains(&applies),
            "{case:?}"
        );
    }
}

#[test]
fn what_rules_come_to() {
    use Action::{Deny, Hold, Kill, Report, Stop};
    use Cause::{BreakTimeout, Close, Unlock};
    let rows = [
        (Deny, Kill, Close, true, Deny),
        (Deny, Kill, Close, false, Kill),
        (Deny, Hold, Close, false, Hold),
        (Deny, Report, Close, false, Report),
        (Deny, Deny, Close, false, Report),
        (Hold, Report, Close, false, Hold),
        (Hold, Report, Close, true, Hold),
        (Hold, Report, Unlock, true, Deny),
        (Hold, Report, Unlock, false, Report),
        (Deny, Hold, Unlock, false, Report),
        (Hold, Report, BreakTimeout, false, Report),
        (Hold, Kill, BreakTimeout, false, Kill),
        (Deny, Hold, BreakTimeout, false, Report),
        (Stop, Kill, Unlock, true, Stop),
        (Kill, Report, Close, false, Kill),
        (Report, Kill, Close, true, Report),
    ];
    for (action, fallback, cause, deniable, expected) in rows {
        let case = case(action, fallback, cause, deniable);
        assert_eq!(case.applicable(), expected, "{case:?}");
    }
}

#[test]
fn what_went_all_the_same_gets_a_signal_or_is_told_as_failed() {
    for action in [Action::Deny, Action::Hold] {
        for fallback in Action::ALL {
            let verdict = case(action, fallback, Cause::Close, true).verdict();
            let expected = match fallback {
                Action::Stop | Action::Kill => Verdict::Signal(fallback),
                _ => Verdict::Tell(action, Outcome::Failed),
            };
            assert_eq!(verdict, expected, "{action:?} fallback {fallback:?}");
        }
    }
}

#[test]
fn a_bystander_is_not_a_reason_to_signal_the_owner() {
    let case = Case {
        spared: Spared::Bystander,
        ..case(Action::Kill, Action::Report, Cause::Other, false)
    };
    assert_eq!(
        case.verdict(),
        Verdict::Tell(Action::Kill, Outcome::Bystander)
    );
}

#[test]
fn numbers_in_records_come_back() {
    for outcome in Outcome::ALL {
        assert_eq!(Outcome::from_raw(outcome as u32), Some(outcome));
    }
    assert_eq!(Outcome::from_raw(0), None);
    for action in Action::ALL {
        assert_eq!(Action::from_raw(action as u32), action);
    }
    assert_eq!(Action::from_raw(99), Action::Report);
}
