//! One run of `monitor`, without the kernel: notifications in, records out to a sink.

use std::collections::BTreeMap;

use lease_trace_common::{
    count::Count,
    event::{Event, EventKind},
    policy::Action,
    stake::StakeKey,
    verdict::Outcome,
};

use crate::{
    actions::{ActionTaken, Request},
    clock::{Clock, elapsed_ms},
    enrich::Names,
    entries,
    filter::Filter,
    ledger::Ledger,
    orphans::Orphans,
    record::{Corrected, Detail, End, Lost, Name, Record, Start},
    rules,
    sinks::{Sink, WriteError},
    tracer::{
        self,
        cross_check::CrossCheck,
        in_force::InForce,
        proof::Correction,
        snapshot::{Everybody, Holder, Leased, Notification, Snapshot, StakeView},
    },
};

/// What `--cross-check` finds.
const ESCAPED: &str = "pin references were seen by none of the hooks, by the kernel's own count";

/// What ends with the monitor.
const LAPSED: &str = "files that were held are let go, since the monitor ends";

/// What a run needs and what it has seen.
pub struct Session {
    sink: Box<dyn Sink>,
    filter: Filter,
    names: Names,
    ledger: Ledger,
    orphans: Orphans,
    /// Leases set and ended are shown, too.
    all_events: bool,
    started_ns: u64,
    /// The losses told so far.
    told: [u64; Count::LEN],
    lost: u64,
    /// The last of what a cross-check came to, and how much of it was told.
    cross_check: Option<CrossCheck>,
    told_escaped: i64,
}

impl Session {
    pub fn new(sink: Box<dyn Sink>, filter: Filter, names: Names, all_events: bool) -> Self {
        Self {
            sink,
            filter,
            names,
            ledger: Ledger::default(),
            orphans: Orphans::default(),
            all_events,
            started_ns: Clock::sample().boot_ns(),
            told: [0; Count::LEN],
            lost: 0,
            cross_check: None,
            told_escaped: 0,
        }
    }

    /// Tells what is watched, and what cannot be.
    pub fn start(&mut self, mut start: Start) -> Result<(), WriteError> {
        if let Err(error) = self.names.check() {
            start.cannot.push(format!("consumers: {error}"));
        }
        self.tell(Name::Start, Detail::Start(start))?;
        self.sink.flush()
    }

    /// Tells what these notifications say, as far as it is asked for, and returns what they ask
    /// userspace to do; what became of that is told by [`Self::rule_action`].
    pub fn batch(&mut self, notifications: &[Vec<u8>]) -> Result<Vec<Request>, WriteError> {
        let clock = Clock::sample();
        let mut unreadable = 0;
        let mut orders = Vec::new();
        for bytes in notifications {
            match Event::parse(bytes) {
                Some((event, path)) => match EventKind::from_raw(event.kind) {
                    Some(kind) => match Request::of(kind, &event, path) {
                        Some(order) => {
                            if order.is_told() {
                                self.notification(kind, &event, path, &clock)?;
                            }
                            orders.push(order);
                        }
                        None => self.notification(kind, &event, path, &clock)?,
                    },
                    None => unreadable += 1,
                },
                None => unreadable += 1,
            }
        }
        self.lose(Lost::UNREADABLE, unreadable)?;
        self.sink.flush()?;
        Ok(orders)
    }

    /// Tells what became of an order.
    pub fn rule_action(&mut self, rule_action: &ActionTaken) -> Result<(), WriteError> {
        let ActionTaken {
            name,
            event,
            path,
            outcome,
        } = rule_action;
        let clock = Clock::sample();
        if *name == Name::Killed {
            self.ledger.wait_for_rest(event, path, Name::Failed);
        }
        let record = self
            .ledger
            .enter_action(*name, event, path, outcome, &clock, &mut self.names);
        if self.filter.admits(event, path, &mut self.names.cgroups) {
            self.sink.write(&record)?;
        }
        self.sink.flush()
    }

    /// What names are looked up in.
    pub const fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Zombies born and not yet at rest, as far as notifications tell.
    pub fn zombies(&self) -> u64 {
        self.ledger.zombies()
    }

    /// Tells that the files held now are held no longer, since the monitor ends.
    pub fn lapse(&mut self, files: usize) -> Result<(), WriteError> {
        self.lose(LAPSED, files as u64)
    }

    /// Tells the zombies that should be at rest by now.
    pub fn overdue(&mut self) -> Result<(), WriteError> {
        let clock = Clock::sample();
        for record in self.ledger.overdue(&clock, &mut self.names) {
            self.sink.write(&record)?;
        }
        self.sink.flush()
    }

    /// Orphaned pins were told and have not ended.
    pub fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// What is known of orphaned pins.
    pub const fn known_orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// Tells what a walk has found of orphaned pins, see [`Orphans::update`], and returns those to which rules apply
    /// now. The notifications up to the moment at which `stakes` were read must have been told before.
    pub fn orphans(
        &mut self,
        stakes: &[StakeView],
        leased: &Leased,
        holders: &[Holder],
        has_rules: bool,
        all: impl FnOnce() -> Result<Everybody, tracer::Error>,
    ) -> anyhow::Result<Vec<(StakeKey, u64)>> {
        let clock = Clock::sample();
        let now_ns = clock.boot_ns();
        let changes = self
            .orphans
            .update(stakes, leased, holders, now_ns, has_rules, all)?;
        for change in changes.told {
            let Notification { event, path } = &change.notification;
            let kind = match change.end {
                None => EventKind::OrphanedPin,
                Some(_) => EventKind::OrphanEnd,
            };
            if self.filter.admits(event, path, &mut self.names.cgroups) {
                let record = self
                    .ledger
                    .enter_orphan(kind, &change, &clock, &mut self.names);
                self.sink.write(&record)?;
            }
        }
        self.sink.flush()?;
        Ok(changes.certain)
    }

    /// Tells the losses that have grown since they were last told.
    pub fn losses(&mut self, counts: &[u64; Count::LEN]) -> Result<(), WriteError> {
        for lost in losses(counts, &self.told) {
            self.lose(lost.what, lost.count)?;
        }
        self.told = *counts;
        self.sink.flush()
    }

    /// Tells what was put right.
    pub fn corrected(&mut self, correction: &Correction) -> Result<(), WriteError> {
        let corrected = Corrected {
            file: entries::file(&correction.inode),
            pins_counted: correction.counted,
            pins_found: correction.found,
        };
        self.tell(Name::Corrected, Detail::Corrected(corrected))?;
        self.sink.flush()
    }

    /// Tells what has escaped by now, if it is not what was told.
    pub fn cross_checked(&mut self, cross_check: CrossCheck) -> Result<(), WriteError> {
        let more = cross_check.escaped.abs_diff(self.told_escaped);
        self.told_escaped = cross_check.escaped;
        self.cross_check = Some(cross_check);
        self.lose(ESCAPED, more)?;
        self.sink.flush()
    }

    /// What has escaped by now, where a cross-check runs.
    pub fn escaped(&self) -> Option<i64> {
        self.cross_check.map(|cross_check| cross_check.escaped)
    }

    /// Tells what the run came to. The zombies that are left are those of the maps, where the
    /// maps could be read.
    pub fn end(
        mut self,
        snapshot: Option<&Snapshot>,
        in_force: Option<&InForce>,
    ) -> Result<(), WriteError> {
        let clock = Clock::sample();
        let left = snapshot.map(|snapshot| {
            let mut left = entries::zombies(snapshot, &[], &clock, &mut self.names);
            left.retain(|zombie| self.filter.admits_entry(zombie));
            left
        });
        let by_event = self.ledger.by_event().clone();
        let end = End {
            events: by_event.values().sum(),
            by_event,
            lost: self.lost,
            cross_check: self.cross_check,
            zombies: left
                .as_ref()
                .map_or_else(|| self.ledger.zombies(), |left| left.len() as u64),
            rules: in_force.map_or_else(BTreeMap::new, |in_force| {
                let rules = in_force.rules.iter();
                rules
                    .map(|rule| (rules::name(rule), rules::hits(rule)))
                    .collect()
            }),
            left: left.unwrap_or_default(),
            duration_ms: elapsed_ms(self.started_ns, clock.boot_ns()),
        };
        self.tell(Name::End, Detail::End(end))?;
        self.sink.flush()
    }

    fn notification(
        &mut self,
        kind: EventKind,
        event: &Event,
        path: &[u8],
        clock: &Clock,
    ) -> Result<(), WriteError> {
        if kind == EventKind::Action {
            match Outcome::from_raw(event.outcome) {
                Some(Outcome::Done) if event.action == Action::Kill as u32 => {
                    self.ledger.wait_for_rest(event, path, Name::Failed);
                }
                // Told only if its zombie outlives its rule's grace time.
                Some(Outcome::Ending) => {
                    self.ledger.wait_for_rest(event, path, Name::Overdue);
                    return Ok(());
                }
                _ => {}
            }
        }
        if kind == EventKind::Zombie {
            let key = StakeKey::new(event.owner.tgid, event.inode_id);
            self.orphans.became_zombie(key);
        }
        let of_a_lease = matches!(kind, EventKind::LeaseSet | EventKind::LeaseEnd);
        if of_a_lease && !self.all_events {
            return Ok(());
        }
        if !self.filter.admits(event, path, &mut self.names.cgroups) {
            return Ok(());
        }
        let record = self.ledger.enter(kind, event, path, clock, &mut self.names);
        self.sink.write(&record)
    }

    fn lose(&mut self, what: &'static str, count: u64) -> Result<(), WriteError> {
        if count == 0 {
            return Ok(());
        }
        self.lost += count;
        self.tell(Name::Lost, Detail::Lost(Lost { what, count }))
    }

    fn tell(&mut self, event: Name, detail: Detail) -> Result<(), WriteError> {
        self.sink.write(&Record {
            time: Clock::sample().now(),
            event,
            detail,
        })
    }
}

/// The counters that mean a loss and have grown, by how much.
pub fn losses(counts: &[u64; Count::LEN], before: &[u64; Count::LEN]) -> Vec<Lost> {
    Count::ALL
        .into_iter()
        .filter_map(|count| {
            let what = count.loss()?;
            let grown = counts[count as usize].saturating_sub(before[count as usize]);
            (grown > 0).then_some(Lost { what, count: grown })
        })
        .collect()
}

#[cfg(test)]
mod session_tests;
