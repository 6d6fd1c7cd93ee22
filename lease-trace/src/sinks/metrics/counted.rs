//! What happened, counted as its records pass.

use std::sync::atomic::Ordering;

use lease_trace_common::{cause::Cause, count::Count};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::words::{UNKNOWN, Words};
use crate::record::{Corrected, Detail, Lost, Name, Record, RuleAction, Transition};

/// From a slip of a moment to what nobody will clear up, s.
const ZOMBIE_SECONDS: [f64; 12] = [
    0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0,
];

pub struct Counted {
    born: Family<Kind, Counter>,
    bare_pins: Family<Consumer, Counter>,
    orphaned_pins: Family<Consumer, Counter>,
    zombie: Histogram,
    held: Histogram,
    actions: Family<OfRule, Counter>,
    corrected: Counter,
    rules: Words,
    pub lost: Losses,
}

/// What kind of zombie.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    pub cause: &'static str,
    pub consumer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Consumer {
    consumer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRule {
    rule: String,
    action: &'static str,
    outcome: &'static str,
}

impl Counted {
    pub fn register(registry: &mut Registry) -> Self {
        let counted = Self {
            born: Family::default(),
            bare_pins: Family::default(),
            orphaned_pins: Family::default(),
            zombie: Histogram::new(ZOMBIE_SECONDS),
            held: Histogram::new(ZOMBIE_SECONDS),
            actions: Family::default(),
            corrected: Counter::default(),
            rules: Words::of_rules(),
            lost: Losses::register(registry),
        };
        registry.register("zombies_born", "Zombies born", counted.born.clone());
        registry.register(
            "bare_pins",
            "Times that a process pinned pages of a file that no lease of its own covered",
            counted.bare_pins.clone(),
        );
        registry.register(
            "orphaned_pins",
            "Times that a process dropped its last reference to a lease under its pins",
            counted.orphaned_pins.clone(),
        );
        registry.register_with_unit(
            "zombie_duration",
            "How long zombies were that are at rest",
            Unit::Seconds,
            counted.zombie.clone(),
        );
        registry.register_with_unit(
            "zombie_lease_held",
            "How long the leases were held that left a zombie",
            Unit::Seconds,
            counted.held.clone(),
        );
        registry.register(
            "actions",
            "What became of the actions of rules",
            counted.actions.clone(),
        );
        registry.register(
            "pins_corrected",
            "Pin references taken out of the count, since their file had fewer",
            counted.corrected.clone(),
        );
        counted
    }

    pub fn enter(&mut self, record: &Record, consumers: &mut Words) {
        match &record.detail {
            Detail::Transition(transition) => {
                self.transition(record.event, transition, consumers);
            }
            Detail::Lost(Lost { what, count }) if *what == Lost::UNREADABLE => {
                self.lost.unreadable.inc_by(*count);
            }
            Detail::Corrected(Corrected {
                pins_counted,
                pins_found,
                ..
            }) => {
                self.corrected
                    .inc_by(pins_counted.saturating_sub(*pins_found));
            }
            Detail::Lost(_) | Detail::Start(_) | Detail::End(_) => {}
        }
    }

    fn transition(&mut self, event: Name, transition: &Transition, consumers: &mut Words) {
        let consumer = transition.source.consumer.as_deref();
        match event {
            Name::Zombie => {
                let kind = Kind {
                    cause: transition.cause.map_or(UNKNOWN, Cause::name),
                    consumer: consumers.admit(consumer),
                };
                self.born.get_or_create(&kind).inc();
                if let Some(held_ms) = transition.lease.as_ref().and_then(|lease| lease.held_ms) {
                    self.held.observe(seconds(held_ms));
                }
            }
            Name::AtRest => {
                if let Some(zombie_ms) = transition.zombie_ms {
                    self.zombie.observe(seconds(zombie_ms));
                }
            }
            Name::BarePin => {
                let consumer = consumers.admit(consumer);
                self.bare_pins.get_or_create(&Consumer { consumer }).inc();
            }
            Name::OrphanedPin => {
                let consumer = consumers.admit(consumer);
                self.orphaned_pins
                    .get_or_create(&Consumer { consumer })
                    .inc();
            }
            _ => {}
        }
        if let Some(RuleAction {
            rule,
            action,
            outcome,
            ..
        }) = &transition.rule_action
        {
            let action = OfRule {
                rule: self.rules.admit(Some(rule)),
                action: action.name(),
                outcome,
            };
            self.actions.get_or_create(&action).inc();
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// What was lost: as the kernel counts it, and what could not be read here.
pub struct Losses {
    kernel: Vec<(Count, Counter)>,
    unreadable: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Loss {
    what: String,
}

impl Losses {
    /// All of them are there from the start, so that the first loss is an increase.
    fn register(registry: &mut Registry) -> Self {
        let family: Family<Loss, Counter> = Family::default();
        registry.register(
            "lost",
            "What could not be kept, read or credited; docs/metrics.md has what each means",
            family.clone(),
        );
        let counter = |what: String| family.get_or_create_owned(&Loss { what });
        let kernel = Count::ALL
            .into_iter()
            .filter(|count| count.loss().is_some())
            .map(|count| (count, counter(word(count))))
            .collect();
        Self {
            kernel,
            unreadable: counter("unreadable".to_owned()),
        }
    }

    pub fn enter(&self, counts: &[u64; Count::LEN]) {
        for (count, counter) in &self.kernel {
            // Ours alone, on one thread.
            counter
                .inner()
                .store(counts[*count as usize], Ordering::Relaxed);
        }
    }
}

/// `LostRing` as `ring`: the name of the counter, without what it has in common with the others.
fn word(count: Count) -> String {
    let name = format!("{count:?}");
    name.strip_prefix("Lost").unwrap_or(&name).to_lowercase()
}
