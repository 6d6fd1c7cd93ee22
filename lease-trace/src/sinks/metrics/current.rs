//! What there is now, as the maps say it when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use lease_trace_common::{
    STACK_LEN,
    cause::Cause,
    count::Count,
    policy::Header,
    stake::{self, Stake, State},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    counted::Kind,
    words::{UNKNOWN, Words},
};
use crate::{entries, tracer::holdings::Holdings};

pub type Stack = [u64; STACK_LEN];

/// All that is known at one moment.
pub struct Figures<'a> {
    pub holdings: &'a Holdings,
    /// Sums over all CPUs, indexed by [`Count`].
    pub counts: &'a [u64; Count::LEN],
    pub policy: Header,
    /// Files that this monitor holds.
    pub held: usize,
    /// Files that had fewer pins than are counted, when they were looked at last.
    pub doubtful: usize,
    /// Pin references that no hook saw, where a cross-check runs.
    pub escaped: Option<i64>,
    /// Now, on the kernel's clock.
    pub now_ns: u64,
}

pub struct Current {
    leases: Family<Lease, Gauge>,
    stakes: Family<InState, Gauge>,
    pins: Family<InState, Gauge>,
    zombies: Family<Kind, Gauge>,
    oldest: Gauge<f64, AtomicU64>,
    held: Gauge,
    doubtful: Gauge,
    escaped: Family<Whole, Gauge>,
    rules: Family<Mode, Gauge>,
    taken: Counter,
    dropped: Counter,
    entries: Family<Map, Gauge>,
    max_entries: Family<Map, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lease {
    kind: &'static str,
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

/// No label: a metric that can be absent as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Whole {}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Map {
    map: &'static str,
}

/// What a stake can be, but for nothing.
const STATES: [State; 4] = [State::Leased, State::Covered, State::Zombie, State::BarePin];

impl Current {
    pub fn register(registry: &mut Registry, points: Option<(usize, usize)>) -> Self {
        let current = Self {
            leases: Family::default(),
            stakes: Family::default(),
            pins: Family::default(),
            zombies: Family::default(),
            oldest: Gauge::default(),
            held: Gauge::default(),
            doubtful: Gauge::default(),
            escaped: Family::default(),
            rules: Family::default(),
            taken: Counter::default(),
            dropped: Counter::default(),
            entries: Family::default(),
            max_entries: Family::default(),
        };
        let mut gauge = |name, help, family: &Family<InState, Gauge>| {
            registry.register(name, help, family.clone());
        };
        gauge(
            "stakes",
            "Processes with leases or pins in a file, once for each file",
            &current.stakes,
        );
        gauge(
            "pins",
            "Pin references on pages of files, by what their stake is",
            &current.pins,
        );
        registry.register("leases", "Leases in force", current.leases.clone());
        registry.register("zombies", "Zombies now", current.zombies.clone());
        registry.register_with_unit(
            "oldest_zombie_age",
            "How long the oldest zombie has been one; 0 without any",
            Unit::Seconds,
            current.oldest.clone(),
        );
        registry.register(
            "held_files",
            "Files that the monitor holds",
            current.held.clone(),
        );
        registry.register(
            "doubtful_files",
            "Files in which fewer pins were found than are counted, when they were looked at last",
            current.doubtful.clone(),
        );
        registry.register(
            "escaped_pins",
            "Pin references that the kernel counts and no hook saw; below zero the other way round",
            current.escaped.clone(),
        );
        registry.register(
            "rules",
            "Rules in force, by the mode they are in",
            current.rules.clone(),
        );
        registry.register(
            "pins_taken",
            "Pin references taken on files",
            current.taken.clone(),
        );
        registry.register(
            "pins_dropped",
            "Pin references dropped",
            current.dropped.clone(),
        );
        registry.register(
            "map_entries",
            "Entries of a BPF map",
            current.entries.clone(),
        );
        registry.register(
            "map_max_entries",
            "Entries that a BPF map has room for",
            current.max_entries.clone(),
        );
        if let Some((watched, unavailable)) = points {
            let family: Family<InState, Gauge> = Family::default();
            registry.register(
                "points",
                "Points in the kernel, by whether they can be watched",
                family.clone(),
            );
            for (state, count) in [("watched", watched), ("unavailable", unavailable)] {
                family.get_or_create(&InState { state }).set(count as i64);
            }
        }
        current
    }

    pub fn enter(
        &self,
        figures: &Figures<'_>,
        consumers: &mut Words,
        mut consumer: impl FnMut(&Stack) -> Option<String>,
    ) {
        let Figures {
            holdings,
            counts,
            policy,
            held,
            doubtful,
            escaped,
            now_ns,
        } = figures;
        self.leases.clear();
        for lease in &holdings.leases {
            let (kind, mode) = (lease.info.kind().name(), lease.info.mode_name());
            self.leases.get_or_create(&Lease { kind, mode }).inc();
        }
        self.zombies.clear();
        for state in STATES {
            let stakes = holdings
                .stakes
                .iter()
                .filter(|stake| stake::state(stake.word) == state);
            let pins: u64 = stakes.clone().map(|stake| stake::pins(stake.word)).sum();
            let state = InState {
                state: entries::state_name(state),
            };
            self.stakes.get_or_create(&state).set(stakes.count() as i64);
            if state.state != entries::state_name(State::Leased) {
                self.pins.get_or_create(&state).set(pins as i64);
            }
        }
        let mut oldest_ns = *now_ns;
        for zombie in zombies(&holdings.stakes) {
            let kind = Kind {
                cause: Cause::from_raw(zombie.lease.cause).map_or(UNKNOWN, Cause::name),
                consumer: consumers.admit(consumer(&zombie.stack).as_deref()),
            };
            self.zombies.get_or_create(&kind).inc();
            oldest_ns = oldest_ns.min(zombie.released_ns);
        }
        self.oldest.set((now_ns - oldest_ns) as f64 / 1e9);
        self.held.set(*held as i64);
        self.doubtful.set(*doubtful as i64);
        if let Some(escaped) = escaped {
            self.escaped.get_or_create(&Whole {}).set(*escaped);
        }
        self.rules.clear();
        let mode = policy.mode().in_data();
        self.rules
            .get_or_create(&Mode { mode })
            .set(i64::from(policy.rules()));
        for (counter, count) in [
            (&self.taken, Count::Pinned),
            (&self.dropped, Count::Unpinned),
        ] {
            // Ours alone, on one thread.
            counter
                .inner()
                .store(counts[count as usize], Ordering::Relaxed);
        }
        for fill in &holdings.fill {
            let map = Map { map: fill.map };
            self.entries.get_or_create(&map).set(fill.entries as i64);
            self.max_entries
                .get_or_create(&map)
                .set(fill.max_entries as i64);
        }
    }
}

fn zombies(stakes: &[Stake]) -> impl Iterator<Item = &Stake> {
    stakes
        .iter()
        .filter(|stake| stake::state(stake.word) == State::Zombie)
}
