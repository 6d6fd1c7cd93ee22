//! The records of a policy.

use std::collections::HashSet;

use lease_trace_common::{
    below::Below,
    cause::Cause,
    lease::{F_RDLCK, F_WRLCK, Kind},
    policy::{
        ANY_CAUSE, Action, BANKS, DENIABLE, HITS, Header, OWN_BREAK, ROWS, RULES, Rule, RuleFacts,
        USUAL_CAUSES, cause_bit, hit, kind_bit, mode_bit, on,
    },
    verdict::Outcome,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_header_keeps_its_parts(
        generation: u32,
        bank in 0..BANKS,
        rules in 0..=RULES,
        deniable in 0_u32..1 << 16,
        enforce: bool,
        audit: bool,
        holds: bool,
        bare_pins: bool,
        paths: bool,
        below: u32,
    ) {
        let header = Header::new(generation, bank, rules)
            .of_modes(enforce, audit)
            .watching(holds, bare_pins)
            .with_paths(paths)
            .deniable_by(deniable);
        prop_assert_eq!(header.generation(), generation);
        prop_assert_eq!(header.bank(), bank);
        prop_assert_eq!(header.rules(), rules);
        prop_assert_eq!(header.deniable(), deniable);
        prop_assert_eq!(header.enforces(), enforce);
        prop_assert_eq!(header.audits(), audit);
        prop_assert_eq!(header.auditing().enforces(), false);
        prop_assert_eq!(header.auditing().rules(), rules);
        prop_assert_eq!(header.holds(), holds);
        prop_assert_eq!(header.bare_pins(), bare_pins);
        prop_assert_eq!(header.has_paths(), paths);
        let known = Below::new(header, below);
        prop_assert_eq!(known.rules(header), if generation == 0 { 0 } else { below });
        let other = Header::new(generation.wrapping_add(1), bank, rules);
        prop_assert!(!known.is_of(other) && !Below::default().is_of(header));
    }
}

#[test]
fn every_cause_has_a_bit_of_its_own_that_fits_the_header() {
    let bits: HashSet<u32> = Cause::ALL.map(|cause| cause_bit(cause as u32)).into();
    assert_eq!(bits.len(), Cause::ALL.len());
    assert!(bits.iter().all(|bit| *bit < 1 << 16));
    assert!(DENIABLE.iter().all(|cause| !cause.is_ending()));
}

#[test]
fn every_hit_has_a_counter_of_its_own() {
    let mut seen = HashSet::new();
    for row in 0..ROWS {
        for action in Action::ALL {
            for outcome in Outcome::ALL {
                let at = hit(row, action, outcome);
                assert!(at < ROWS * HITS);
                assert!(seen.insert(at), "{row} {action:?} {outcome:?}");
            }
        }
    }
}

fn facts() -> RuleFacts {
    RuleFacts {
        on: on::ZOMBIE,
        kind: kind_bit(Kind::Lease),
        mode: mode_bit(F_WRLCK),
        cause: cause_bit(Cause::Close as u32),
        pins: 4,
        uid: 1000,
        gid: 100,
        comm: [u64::from_le_bytes(*b"client\0\0"), 0],
        comm_before: [u64::from_le_bytes(*b"loader\0\0"), 0],
    }
}

#[test]
fn a_process_is_known_by_its_name_now_and_by_the_one_it_had() {
    for (name, is_admitted) in [
        (b"client\0\0", true),
        (b"loader\0\0", true),
        (b"other\0\0\0", false),
    ] {
        let rule = Rule {
            comm_mask: [u64::MAX, u64::MAX],
            comm_bits: [u64::from_le_bytes(*name), 0],
            ..Rule::ANY
        };
        assert_eq!(rule.admits(&facts()), is_admitted);
    }
}

#[test]
fn a_break_is_a_breach_under_a_rule_that_says_so_or_if_it_was_ones_own() {
    let by_others = RuleFacts {
        cause: cause_bit(Cause::BreakTimeout as u32),
        ..facts()
    };
    let own = RuleFacts {
        cause: by_others.cause | OWN_BREAK,
        ..facts()
    };
    let usual = Rule {
        causes: USUAL_CAUSES,
        ..Rule::ANY
    };
    let named = Rule {
        causes: by_others.cause,
        ..Rule::ANY
    };
    let closes = Rule {
        causes: cause_bit(Cause::Close as u32),
        ..Rule::ANY
    };
    assert_eq!(
        [by_others, own].map(|facts| usual.admits(&facts)),
        [false, true]
    );
    assert_eq!(
        [by_others, own].map(|facts| named.admits(&facts)),
        [true, true]
    );
    assert_eq!(
        [by_others, own].map(|facts| closes.admits(&facts)),
        [false, false]
    );
}

#[test]
fn a_rule_without_conditions_admits_every_zombie() {
    assert!(Rule::ANY.admits(&facts()));
    let bare = RuleFacts {
        on: on::BARE_PIN,
        ..facts()
    };
    assert!(!Rule::ANY.admits(&bare));
}

#[test]
fn each_condition_can_fail() {
    let failing = [
        Rule {
            on: on::BARE_PIN,
            ..Rule::ANY
        },
        Rule {
            kinds: kind_bit(Kind::Deleg),
            ..Rule::ANY
        },
        Rule {
            modes: mode_bit(F_RDLCK),
            ..Rule::ANY
        },
        Rule {
            causes: cause_bit(Cause::Unlock as u32),
            ..Rule::ANY
        },
        Rule {
            min_pins: 5,
            ..Rule::ANY
        },
        Rule {
            uid: [1001, u32::MAX],
            ..Rule::ANY
        },
        Rule {
            uid: [0, 999],
            ..Rule::ANY
        },
        Rule {
            gid: [101, 101],
            ..Rule::ANY
        },
        Rule {
            comm_mask: [0xff, 0],
            comm_bits: [u64::from(b'x'), 0],
            ..Rule::ANY
        },
    ];
    for rule in failing {
        assert!(!rule.admits(&facts()), "{rule:?}");
    }
    let matching = [
        Rule {
            kinds: kind_bit(Kind::Lease),
            ..Rule::ANY
        },
        Rule {
            modes: mode_bit(F_WRLCK),
            ..Rule::ANY
        },
        Rule {
            causes: cause_bit(Cause::Close as u32),
            ..Rule::ANY
        },
        Rule {
            min_pins: 4,
            ..Rule::ANY
        },
        Rule {
            uid: [1000, 1000],
            ..Rule::ANY
        },
        Rule {
            gid: [100, 100],
            ..Rule::ANY
        },
        Rule {
            comm_mask: [0xff, 0],
            comm_bits: [u64::from(b'c'), 0],
            ..Rule::ANY
        },
    ];
    for rule in matching {
        assert!(rule.admits(&facts()), "{rule:?}");
    }
}

#[test]
fn a_bare_pin_has_no_lease_to_ask_about() {
    let rule = Rule {
        on: on::BARE_PIN,
        kinds: 0,
        modes: 0,
        causes: 0,
        ..Rule::ANY
    };
    let bare = RuleFacts {
        on: on::BARE_PIN,
        ..facts()
    };
    assert!(rule.admits(&bare));
}

#[test]
fn while_a_lease_lasts_it_may_go_by_any_release_path() {
    let lasting = RuleFacts {
        cause: ANY_CAUSE,
        ..facts()
    };
    for cause in Cause::ALL {
        let rule = Rule {
            causes: cause_bit(cause as u32),
            ..Rule::ANY
        };
        assert!(rule.admits(&lasting), "{cause:?}");
    }
}

#[test]
fn a_gid_that_is_not_known_matches_only_any_group() {
    let unknown = RuleFacts {
        gid: u32::MAX,
        ..facts()
    };
    assert!(Rule::ANY.admits(&unknown));
    let named = Rule {
        gid: [0, u32::MAX - 1],
        ..Rule::ANY
    };
    assert!(!named.admits(&unknown));
}
