//! Orders to signal the owner of a stake. A notification of one may be lost, since the ring is everybody's;
//! the stake keeps the last that it was given, and what was not carried out is carried out from there.

use std::collections::HashMap;

use lease_trace_common::{
    event::{Event, EventKind},
    policy::{Action, NAME_LEN},
    stake::{Order, ZOMBIE, leases, pins},
    word,
};

use super::{
    Request, RequestKind,
    doubt::Waiting,
    wanted::{self, SOME_RULE, Wanted},
};
use crate::tracer::snapshot::StakeView;

/// How many are remembered as carried out; beyond, the oldest is forgotten. It would be carried out again only if
/// notifications are lost while its stake has pins, which a killed process has not.
const MOST: usize = 4096;

/// The kernel may give bare pins back before the call has returned that took them, and judges those that stay itself
/// then. What is older is of a call that lasts, or whose return no hook saw.
const YOUNG_NS: u64 = 50_000_000;

/// What became of orders.
#[derive(Default)]
pub struct Orders {
    /// When each was carried out, by process, inode and action (CLOCK_BOOTTIME, ns).
    carried_out: HashMap<(u32, u64, u32), u64>,
    /// The rules of those that wait, by the same.
    rules: HashMap<(u32, u64, u32), [u8; NAME_LEN]>,
    /// Older ones were for another monitor (CLOCK_BOOTTIME, ns).
    since_ns: u64,
}

impl Orders {
    /// From now on orders are for this monitor. What was given before, and perhaps carried out, is left alone: a
    /// process that was stopped may have been continued since.
    pub fn begin(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
    }

    /// Notes which rule the order in this event, which is to wait, is of: the stake does not say so.
    pub fn keep_rule(&mut self, event: &Event) {
        if self.rules.len() < MOST {
            let key = (event.owner.tgid, event.inode_id, event.action);
            self.rules.insert(key, event.rule);
        }
    }

    /// Notes that the order in this event, or one that was given later, is carried out; false if it was already.
    pub fn is_new(&mut self, event: &Event, now_ns: u64) -> bool {
        let key = (event.owner.tgid, event.inode_id, event.action);
        if self
            .carried_out
            .get(&key)
            .is_some_and(|at| *at >= event.time_ns)
        {
            return false;
        }
        self.rules.remove(&key);
        if self.carried_out.len() >= MOST
            && let Some(oldest) = self.carried_out.iter().min_by_key(|(_, at)| **at)
        {
            let oldest = *oldest.0;
            self.carried_out.remove(&oldest);
        }
        self.carried_out.insert(key, now_ns);
        true
    }

    /// What stakes with pins were ordered and nobody has carried out.
    pub fn outstanding(&self, stakes: &[StakeView], now_ns: u64) -> Outstanding {
        let mut outstanding = Outstanding::default();
        for view in stakes {
            let Order {
                given_ns,
                generation,
                action,
                orphaned,
            } = Order::unpacked(view.stake.ordered);
            let key = (view.key.tgid, view.key.inode, action);
            let is_done = self.carried_out.get(&key).is_some_and(|at| *at >= given_ns);
            let is_its = word::generation(view.stake.word) == Some(generation);
            // A lease that came meanwhile covers them.
            let is_covered =
                !orphaned && leases(view.stake.word) > 0 && view.stake.word & ZOMBIE == 0;
            let is_over = is_covered || pins(view.stake.word) == 0;
            if given_ns <= self.since_ns || is_done || !is_its || is_over {
                continue;
            }
            if now_ns.saturating_sub(given_ns) < YOUNG_NS {
                outstanding.some_are_young = true;
                continue;
            }
            let rule = self.rules.get(&key).copied().unwrap_or(SOME_RULE);
            let wanted = wanted::of(view, EventKind::Action, action, rule, now_ns);
            let Some(Wanted { event, path }) = wanted else {
                continue;
            };
            let kind = RequestKind::Signal(Action::from_raw(action));
            let request = Request { kind, event, path };
            if event.doubtful != 0 {
                outstanding.waiting.push(Waiting { request, given_ns });
            } else {
                outstanding.requests.push(request);
            }
        }
        outstanding
    }
}

/// Orders that nobody has carried out.
#[derive(Default)]
pub struct Outstanding {
    pub requests: Vec<Request>,
    /// For stakes of which it is not known whether the pins are theirs.
    pub waiting: Vec<Waiting>,
    /// Some were given just now.
    pub some_are_young: bool,
}

#[cfg(test)]
mod tests {
    use lease_trace_common::stake::{LEASE, PIN};

    use super::*;
    use crate::fixtures;

    const MS: u64 = Order::GRAIN_NS;
    const GENERATION: u64 = 7;
    /// When what was given before is not young any more.
    const LATER: u64 = 100 * MS;

    fn ordered(given_ns: u64, pins: u64) -> StakeView {
        let mut view = fixtures::stake(word::fresh(GENERATION) + pins * PIN);
        let order = Order {
            given_ns,
            generation: GENERATION,
            action: Action::Kill as u32,
            orphaned: false,
        };
        assert_eq!(Order::unpacked(order.packed()), order);
        view.stake.ordered = order.packed();
        view
    }

    #[test]
    fn what_was_lost_is_carried_out_once() {
        let mut orders = Orders::default();
        orders.begin(5 * MS);
        let requests = |orders: &Orders, stakes: &[StakeView], now_ns| {
            let outstanding = orders.outstanding(stakes, now_ns);
            assert!(outstanding.waiting.is_empty());
            outstanding.requests
        };
        assert!(requests(&orders, &[ordered(4 * MS, 1)], LATER).is_empty());
        assert!(requests(&orders, &[ordered(8 * MS, 0)], LATER).is_empty());
        // A lease makes it void, unless it is of orphaned pins, which have one.
        let mut covered = ordered(8 * MS, 1);
        covered.stake.word += LEASE;
        assert!(requests(&orders, &[covered], LATER).is_empty());
        let mut orphaned = ordered(8 * MS, 1);
        orphaned.stake.word += LEASE;
        let order = Order::unpacked(orphaned.stake.ordered);
        orphaned.stake.ordered = Order {
            orphaned: true,
            ..order
        }
        .packed();
        assert_eq!(requests(&orders, &[orphaned], LATER).len(), 1);
        // That of another stake, whose memory this one has.
        let mut other = ordered(8 * MS, 1);
        other.stake.word = word::fresh(GENERATION + 1) + PIN;
        assert!(requests(&orders, &[other], LATER).is_empty());
        let stakes = [ordered(8 * MS, 1)];
        let outstanding = requests(&orders, &stakes, LATER);
        let [only] = outstanding.as_slice() else {
            panic!("{outstanding:?}");
        };
        assert_eq!(only.kind, RequestKind::Signal(Action::Kill));
        assert!(orders.is_new(&only.event, LATER));
        assert!(requests(&orders, &stakes, LATER + MS).is_empty());
        // Its notification was not lost after all.
        let late = Event {
            time_ns: 8 * MS + 5,
            ..only.event
        };
        assert!(!orders.is_new(&late, LATER + MS));
        // A later one is another.
        let later = [ordered(LATER + MS, 1)];
        assert_eq!(requests(&orders, &later, 2 * LATER).len(), 1);
        // One that was just given waits.
        let outstanding = orders.outstanding(&later, LATER + 2 * MS);
        assert!(outstanding.requests.is_empty() && outstanding.some_are_young);
    }

    #[test]
    fn what_is_doubtful_waits_and_is_carried_out_once_it_is_not() {
        let mut orders = Orders::default();
        orders.begin(5 * MS);
        let mut view = ordered(8 * MS, 1);
        let inode = view.inode.inode.as_mut().expect("an inode");
        inode.doubt = 1;
        let mut stakes = [view];
        let outstanding = orders.outstanding(&stakes, LATER);
        assert_eq!(
            (outstanding.waiting.len(), outstanding.requests.len()),
            (1, 0)
        );
        let [waiting] = outstanding.waiting.as_slice() else {
            panic!("one waits");
        };
        assert_eq!(waiting.given_ns, 8 * MS);
        let mut event = waiting.request.event;
        event.rule[0] = b'r';
        orders.keep_rule(&event);
        let inode = stakes[0].inode.inode.as_mut().expect("an inode");
        inode.doubt = 0;
        let outstanding = orders.outstanding(&stakes, LATER + MS);
        assert_eq!(
            (outstanding.waiting.len(), outstanding.requests.len()),
            (0, 1)
        );
        assert_eq!(outstanding.requests[0].event.rule[0], b'r');
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut orders = Orders::default();
        let mut event: Event = fixtures::blank();
        for number in 0..2 * MOST as u64 {
            (event.inode_id, event.time_ns) = (number, number);
            assert!(orders.is_new(&event, number + 1));
        }
        assert_eq!(orders.carried_out.len(), MOST);
    }
}
