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

/// A stake to be held, as its notification would have put it.
pub struct Wanted {
    pub event: Event,
    pub path: Vec<u8>,
}

/// A stake does not say which rule it is held by. It is known where only one rule holds; else it is
/// shown as this, which no rule is called.
const SOME_RULE: &[u8] = b"?";

/// Stakes that are marked as held and have pins.
pub fn wanted(stakes: &[StakeView], in_force: &InForce, now_ns: u64) -> Vec<Wanted> {
    let rule = rule(in_force);
    stakes
        .iter()
        .filter(|view| view.stake.held == 1 && pins(view.stake.word) > 0)
        .filter_map(|view| of(view, rule, now_ns))
        .collect()
}

fn of(view: &StakeView, rule: [u8; NAME_LEN], now_ns: u64) -> Option<Wanted> {
    let Notification { event, path } = view.notification(EventKind::Hold, now_ns)?;
    let event = Event {
        action: Action::Hold as u32,
        outcome: Outcome::HandedOver as u32,
        enforced: 1,
        rule,
        ..event
    };
    Some(Wanted { event, path })
}

fn rule(in_force: &InForce) -> [u8; NAME_LEN] {
    let mut holding = in_force
        .rules
        .iter()
        .map(|rule| &rule.rule)
        .filter(|rule| [rule.action, rule.fallback].contains(&(Action::Hold as u32)));
    if let (Some(only), None) = (holding.next(), holding.next()) {
        return only.name;
    }
    let mut name = [0; NAME_LEN];
    name[..SOME_RULE.len()].copy_from_slice(SOME_RULE);
    name
}

#[cfg(test)]
mod tests {
    use lease_trace_common::{
        policy::{Header, Rule},
        stake::{Inode, LEASE, PIN, Stake, StakeKey},
    };

    use super::*;
    use crate::{
        fixtures,
        tracer::{in_force::RuleInForce, snapshot::InodeView},
    };

    fn view(held: u64, word: u64) -> StakeView {
        let mut inode: Inode = fixtures::blank();
        inode.ino = 12;
        let mut stake: Stake = fixtures::blank();
        (stake.held, stake.word, stake.owner.tgid) = (held, word, 4711);
        StakeView {
            key: StakeKey::new(4711, 9),
            stake,
            inode: InodeView {
                inode: Some(inode),
                path: None,
                breaker: None,
            },
        }
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
