//! What the stakes ask userspace to hold, whether or not it was notified of it.

use lease_trace_common::{
    event::{Event, EventKind},
    policy::{Action, NAME_LEN},
    stake::pins,
    verdict::Outcome,
};

use crate::tracer::{
    in_force::InForce,
    snapshot::{Notification, StakeView},
};

/// What a stake asks for, as its notification would have put it.
pub struct Wanted {
    pub event: Event,
    pub path: Vec<u8>,
}

/// A stake does not say which rule it is of, where it is not known otherwise: it is shown as this, which no rule is
/// called.
pub const SOME_RULE: [u8; NAME_LEN] = {
    let mut name = [0; NAME_LEN];
    name[0] = b'?';
    name
};

/// Stakes that are marked as held and have pins.
pub fn wanted(stakes: &[StakeView], in_force: &InForce, now_ns: u64) -> Vec<Wanted> {
    let rule = rule(in_force);
    stakes
        .iter()
        .filter(|view| view.stake.is_held() && pins(view.stake.word) > 0)
        .filter_map(|view| of(view, EventKind::Hold, Action::Hold as u32, rule, now_ns))
        .collect()
}

/// What a stake asks for, as its notification would have put it; `None` if its inode is not known.
pub fn of(
    view: &StakeView,
    kind: EventKind,
    action: u32,
    rule: [u8; NAME_LEN],
    now_ns: u64,
) -> Option<Wanted> {
    let Notification { event, path } = view.notification(kind, now_ns)?;
    let event = Event {
        action,
        outcome: Outcome::HandedOver as u32,
        enforced: 1,
        rule,
        ..event
    };
    Some(Wanted { event, path })
}

/// The rule that holds, where there is only one.
fn rule(in_force: &InForce) -> [u8; NAME_LEN] {
    let mut holding = in_force.rules.iter().map(|rule| &rule.rule).filter(|rule| {
        rule.acts() && [rule.action, rule.fallback].contains(&(Action::Hold as u32))
    });
    if let (Some(only), None) = (holding.next(), holding.next()) {
        return only.name;
    }
    SOME_RULE
}

#[cfg(test)]
mod tests {
    use lease_trace_common::{
        policy::{Header, Rule},
        stake::{LEASE, PIN},
    };

    use super::*;
    use crate::{fixtures, tracer::in_force::RuleInForce};

    fn view(held: u64, word: u64) -> StakeView {
        let mut view = fixtures::stake(word);
        view.stake.held = held;
        view
    }

    fn in_force(names: &[&[u8]]) -> InForce {
        let rules = names.iter().map(|name| {
            let mut rule = Rule::ANY;
            rule.name[..name.len()].copy_from_slice(name);
            rule.action = Action::Hold as u32;
            RuleInForce {
                rule,
                hits: Vec::new(),
            }
        });
        InForce {
            header: Header::default(),
            rules: rules.collect(),
        }
    }

    #[test]
    fn only_stakes_with_pins_that_are_marked_are_held() {
        let stakes = [view(1, PIN + LEASE), view(0, PIN + LEASE), view(1, LEASE)];
        let wanted = wanted(&stakes, &in_force(&[b"rings"]), 5);
        let [only] = wanted.as_slice() else {
            panic!("{} are wanted", wanted.len());
        };
        let event = &only.event;
        assert_eq!((event.inode_id, event.owner.tgid, event.ino), (9, 4711, 12));
        assert_eq!(event.pins, 1);
        assert_eq!(&event.rule[..6], b"rings\0");
    }

    #[test]
    fn of_two_rules_that_hold_neither_is_named() {
        assert_eq!(&rule(&in_force(&[b"a", b"b"]))[..2], b"?\0");
    }
}
