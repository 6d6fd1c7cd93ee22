//! The ledger: what a run of `monitor` has seen, as the user side knows it.
//!
//! It turns notifications into records and remembers the zombies that are alive, so that their
//! end can be told with what was known at their beginning, when their process may still have been
//! there to ask. The truth stays in the maps.

use std::collections::{BTreeMap, HashMap};

use lease_trace_common::{
    STACK_LEN,
    cause::Cause,
    event::{Event, EventKind},
    policy::{self, Action},
    stake::{StakeKey, Task},
    verdict::Outcome,
};

use crate::{
    clock::{Clock, Timestamp, elapsed_ms},
    enrich::Names,
    orphans::Change,
    record::{
        Detail, Dev, File, FilePath, Holder, Lease, Name, Orphan, Owner, PinSource, ProcessRef,
        Record, RuleAction, Transition,
    },
    tracer::snapshot::Notification,
};

/// What a run has seen.
#[derive(Default)]
pub struct Ledger {
    alive: HashMap<StakeKey, Remembered>,
    by_event: BTreeMap<Name, u64>,
    /// Owners that were sent SIGKILL, and ending ones that a rule gives time, until their zombie
    /// is at rest.
    awaited: HashMap<StakeKey, Awaited>,
}

/// A zombie that must be at rest by some time.
struct Awaited {
    event: Event,
    path: Vec<u8>,
    by_ns: u64,
    name: Name,
}

/// How long after SIGKILL lease and pins must be gone. The kernel tears rings down in the
/// background.
const KILL_LIMIT_MS: u64 = 10_000;

/// What was known of a zombie when it was born.
struct Remembered {
    owner: Owner,
    source: PinSource,
}

impl Ledger {
    /// Enters a notification and tells it.
    pub fn enter(
        &mut self,
        kind: EventKind,
        event: &Event,
        path: &[u8],
        clock: &Clock,
        names: &mut Names,
    ) -> Record {
        let name = Name::of(kind, event);
        let mut transition = self.transition(kind, event, path, names);
        transition.rule_action = match kind {
            EventKind::Action => Some(rule_action(event, outcome(event), names)),
            EventKind::AtRest => self.verified(event),
            _ => None,
        };
        self.record(name, clock.at(event.time_ns), transition)
    }

    /// Tells what userspace did on behalf of a rule.
    pub fn enter_action(
        &mut self,
        name: Name,
        event: &Event,
        path: &[u8],
        outcome: &'static str,
        clock: &Clock,
        names: &mut Names,
    ) -> Record {
        let mut transition = self.transition(EventKind::Action, event, path, names);
        transition.rule_action = Some(rule_action(event, outcome, names));
        self.record(name, clock.now(), transition)
    }

    /// Tells a change of orphaned pins.
    pub fn enter_orphan(
        &mut self,
        kind: EventKind,
        change: &Change,
        clock: &Clock,
        names: &mut Names,
    ) -> Record {
        let Change {
            notification: Notification { event, path },
            holders,
            end,
        } = change;
        let mut transition = self.transition(kind, event, path, names);
        transition.orphan = Orphan {
            holders: end
                .is_none()
                .then(|| holders.iter().map(Holder::of).collect()),
            end: *end,
            orphaned_ms: end.map(|_| elapsed_ms(event.since_ns, event.time_ns)),
        };
        self.record(Name::of(kind, event), clock.at(event.time_ns), transition)
    }

    fn record(&mut self, event: Name, time: Timestamp, transition: Transition) -> Record {
        *self.by_event.entry(event).or_default() += 1;
        Record {
            time,
            event,
            detail: Detail::Transition(Box::new(transition)),
        }
    }

    /// From now on this zombie's end is awaited.
    pub fn wait_for_rest(&mut self, event: &Event, path: &[u8], name: Name) {
        let limit_ms = if name == Name::Overdue {
            event.grace_ms
        } else {
            KILL_LIMIT_MS
        };
        let awaited = Awaited {
            event: *event,
            path: path.to_vec(),
            by_ns: event.time_ns + limit_ms * 1_000_000,
            name,
        };
        self.awaited.insert(event.stake(), awaited);
    }

    /// Tells the zombies that are not at rest although they should be.
    pub fn overdue(&mut self, clock: &Clock, names: &mut Names) -> Vec<Record> {
        let now = clock.boot_ns();
        let late: Vec<_> = self
            .awaited
            .extract_if(|_, awaited| awaited.by_ns <= now)
            .filter(|(key, _)| self.alive.contains_key(key))
            .map(|(_, awaited)| awaited)
            .collect();
        late.into_iter()
            .map(
                |Awaited {
                     event, path, name, ..
                 }| {
                    self.enter_action(name, &event, &path, "pins-remain", clock, names)
                },
            )
            .collect()
    }

    /// The rule behind the end of this zombie, if it was awaited.
    fn verified(&mut self, event: &Event) -> Option<RuleAction> {
        let awaited = self.awaited.remove(&event.stake())?;
        (awaited.name != Name::Overdue).then(|| RuleAction {
            rule: rule(&awaited.event),
            action: Action::from_raw(awaited.event.action),
            outcome: "verified",
            thread: None,
            stack: Vec::new(),
        })
    }

    /// How many records of which event.
    pub const fn by_event(&self) -> &BTreeMap<Name, u64> {
        &self.by_event
    }

    /// Zombies born and not yet at rest, as far as notifications tell.
    pub fn zombies(&self) -> u64 {
        self.alive.len() as u64
    }

    fn transition(
        &mut self,
        kind: EventKind,
        event: &Event,
        path: &[u8],
        names: &mut Names,
    ) -> Transition {
        let key = event.stake();
        let remembered = match kind {
            EventKind::AtRest => self.alive.remove(&key),
            _ => None,
        };
        let Remembered { owner, source } = remembered.unwrap_or_else(|| Remembered {
            owner: names.owner(&event.owner),
            source: source(kind, event, names),
        });
        if kind == EventKind::Zombie {
            let remembered = Remembered {
                owner: owner.clone(),
                source: source.clone(),
            };
            self.alive.insert(key, remembered);
        }
        let ended = match kind {
            EventKind::LeaseSet
            | EventKind::BarePin
            | EventKind::BarePinEnd
            | EventKind::OrphanedPin
            | EventKind::OrphanEnd => None,
            _ => Cause::from_raw(event.lease.cause),
        };
        // A lease is held until it goes: now, or when the zombie was born.
        let until_ns = match kind {
            EventKind::Zombie | EventKind::AtRest => event.since_ns,
            _ => event.time_ns,
        };
        let lease = Lease::of(&event.lease, until_ns).map(|lease| match kind {
            EventKind::LeaseSet => Lease {
                held_ms: None,
                ..lease
            },
            _ => lease,
        });
        Transition {
            owner,
            releaser: (ended.is_some() || kind == EventKind::BarePinEnd)
                .then(|| releaser(&event.releaser))
                .flatten(),
            breaker: ended.and_then(|_| releaser(&event.breaker)),
            file: File {
                path: FilePath::new(path, event.path_flags),
                dev: Some(Dev(event.dev)),
                ino: Some(event.ino),
            },
            lease,
            cause: ended,
            pins: has_pins(kind).then_some(event.pins),
            doubtful: has_pins(kind) && event.pins > 0 && event.doubtful != 0,
            source,
            ends_by_itself: match kind {
                EventKind::Zombie | EventKind::AtRest => Some(event.lease.ends_by_itself()),
                _ => None,
            },
            pinned_ms: pinned_until_ns(kind, event)
                .filter(|_| event.pinned_ns != 0)
                .map(|until_ns| elapsed_ms(event.pinned_ns, until_ns)),
            zombie_ms: (kind == EventKind::AtRest)
                .then(|| elapsed_ms(event.since_ns, event.time_ns)),
            orphan: Orphan::default(),
            rule_action: None,
        }
    }
}

/// Until when `pinned_ms` counts.
const fn pinned_until_ns(kind: EventKind, event: &Event) -> Option<u64> {
    match kind {
        EventKind::Zombie | EventKind::AtRest => Some(event.since_ns),
        EventKind::BarePinEnd => Some(event.time_ns),
        _ => None,
    }
}

const fn has_pins(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Zombie
            | EventKind::AtRest
            | EventKind::BarePin
            | EventKind::BarePinEnd
            | EventKind::Action
            | EventKind::OrphanedPin
            | EventKind::OrphanEnd
    )
}

fn rule_action(event: &Event, outcome: &'static str, names: &mut Names) -> RuleAction {
    RuleAction {
        rule: rule(event),
        action: Action::from_raw(event.action),
        outcome,
        thread: (event.thread != 0).then_some(event.thread),
        stack: names.functions(&event.stack),
    }
}

fn rule(event: &Event) -> String {
    String::from_utf8_lossy(policy::trim(&event.rule)).into_owned()
}

/// What became of an action, in a word.
fn outcome(event: &Event) -> &'static str {
    match Outcome::from_raw(event.outcome) {
        Some(Outcome::Done) => "done",
        Some(Outcome::HandedOver) => "handed-over",
        Some(Outcome::Spared) => "spared",
        Some(Outcome::Bystander) => "bystander",
        Some(Outcome::Would) => "would",
        Some(Outcome::Ending) => "ending",
        Some(Outcome::Failed) | None => "failed",
    }
}

/// What asked for the pins, if the notification is about pins. The stack of an action is that of
/// the release, not of the pin.
fn source(kind: EventKind, event: &Event, names: &mut Names) -> PinSource {
    const NOBODY: &[u64; STACK_LEN] = &[0; STACK_LEN];
    if !has_pins(kind) {
        return PinSource::default();
    }
    let stack = match kind {
        EventKind::Action => NOBODY,
        _ => &event.stack,
    };
    names.source(event.owner.tgid, stack, &event.context)
}

/// A task that was not recorded is all zeroes.
pub fn releaser(task: &Task) -> Option<ProcessRef> {
    (task.tgid != 0 || task.comm[0] != 0).then(|| ProcessRef::of(task))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enrich::cgroup::Cgroups, fixtures};

    fn enter(ledger: &mut Ledger, event: &Event) -> Transition {
        let kind = EventKind::from_raw(event.kind).expect("a known kind");
        let mut names = Names::new(Cgroups::default());
        let record = ledger.enter(kind, event, b"/f", &fixtures::clock(), &mut names);
        match record.detail {
            Detail::Transition(transition) => *transition,
            other => panic!("not a transition: {other:?}"),
        }
    }

    #[test]
    fn a_zombie_is_alive_until_it_is_at_rest() {
        let mut ledger = Ledger::default();
        enter(&mut ledger, &fixtures::event(EventKind::Zombie));
        assert_eq!(ledger.zombies(), 1);
        enter(&mut ledger, &fixtures::event(EventKind::AtRest));
        assert_eq!(ledger.zombies(), 0);
        assert_eq!(ledger.by_event()[&Name::Zombie], 1);
    }

    #[test]
    fn a_lease_at_rest_was_held_until_the_zombie_was_born() {
        let event = fixtures::event(EventKind::AtRest);
        let at_rest = enter(&mut Ledger::default(), &event);
        let held = at_rest.lease.and_then(|lease| lease.held_ms);
        assert_eq!(held, Some(elapsed_ms(event.lease.set_ns, event.since_ns)));
        assert_eq!(
            at_rest.zombie_ms,
            Some(elapsed_ms(event.since_ns, event.time_ns))
        );
    }

    #[test]
    fn a_lease_older_than_the_tool_has_no_age() {
        let mut event = fixtures::event(EventKind::Zombie);
        event.lease.set_ns = 0;
        let zombie = enter(&mut Ledger::default(), &event);
        assert_eq!(zombie.lease.map(|lease| lease.held_ms), Some(None));
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let set = enter(
            &mut Ledger::default(),
            &fixtures::event(EventKind::LeaseSet),
        );
        assert!(set.cause.is_none() && set.pins.is_none() && set.releaser.is_none());
        let bare = enter(&mut Ledger::default(), &fixtures::event(EventKind::BarePin));
        assert!(bare.lease.is_none() && bare.cause.is_none() && bare.pins.is_some());
    }

    #[test]
    fn the_end_of_bare_pins_says_how_long_they_were_there_and_who_dropped_the_last() {
        let event = fixtures::event(EventKind::BarePinEnd);
        let end = enter(&mut Ledger::default(), &event);
        assert_eq!(end.pinned_ms, Some(8_000));
        assert!(end.releaser.is_some_and(|who| who.pid == 4711));
        assert!(end.lease.is_none() && end.cause.is_none() && end.pins == Some(256));
    }

    #[test]
    fn a_process_that_is_going_away_ends_its_zombies_itself() {
        let mut event = fixtures::event(EventKind::Zombie);
        assert_eq!(
            enter(&mut Ledger::default(), &event).ends_by_itself,
            Some(false)
        );
        event.lease.cause = Cause::Killed as u32;
        event.lease.known |= lease_trace_common::lease::known::ENDING;
        assert_eq!(
            enter(&mut Ledger::default(), &event).ends_by_itself,
            Some(true)
        );
    }
}
