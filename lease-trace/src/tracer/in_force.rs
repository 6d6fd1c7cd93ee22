//! The policy in the kernel's maps: put in force by one store, read back, and what it came to.

use std::{
    borrow::{Borrow, BorrowMut},
    collections::HashMap,
    iter,
};

use aya::maps::{Array, MapData};
use lease_trace_common::policy::{
    Action, BANKS, CONSUMERS, ConsumerName, HITS, Header, Mode, NAME_LEN, ROWS, RULES, Rule,
    TEXT_RANGES, TextRange, hit, index,
};
use lease_trace_common::verdict::Outcome;

use rustix::time::{ClockId, clock_gettime};

use super::error::Error;
use crate::kernel::undisturbed::Undisturbed;

/// The programs' clock, CLOCK_BOOTTIME, in nanoseconds.
fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A policy, compiled and not yet in force.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Some rule holds.
    pub holds: bool,
    /// Some rule watches bare pins.
    pub bare_pins: bool,
    /// How long a held file may be kept after its process let it go, ms.
    pub hold_limit_ms: u64,
    pub rules: Vec<Rule>,
    /// The consumers that rules name, number 1 first.
    pub consumers: Vec<String>,
    /// Their code, sorted by its start.
    pub text_ranges: Vec<TextRange>,
}

impl Plan {
    /// Whether some rule is of this mode.
    fn has(&self, mode: Mode) -> bool {
        self.rules.iter().any(|rule| rule.mode() == mode)
    }
}

/// A rule in force and what it came to, in this policy and those before it that had it.
#[derive(Clone, Debug)]
pub struct RuleInForce {
    pub rule: Rule,
    pub hits: Vec<(Action, Outcome, u64)>,
}

/// The policy in force.
#[derive(Clone, Debug)]
pub struct InForce {
    pub header: Header,
    pub rules: Vec<RuleInForce>,
}

/// Whether two tables say the same. Where the last function of a module ends is not known: it is taken to
/// go on up to the next symbol, of whatever kind.
pub fn same_code(one: &[TextRange], other: &[TextRange]) -> bool {
    let key = |range: &TextRange| (range.start, range.consumer, range.helper);
    one.iter().map(key).eq(other.iter().map(key))
}

/// The maps of the policy.
pub struct PolicyMaps<T> {
    pub policy: Array<T, u64>,
    pub rules: Array<T, Rule>,
    pub text_ranges: Array<T, TextRange>,
    pub consumers: Array<T, ConsumerName>,
    pub hits: Array<T, u64>,
}

impl<T: Borrow<MapData>> PolicyMaps<T> {
    pub fn header(&self) -> Result<Header, Error> {
        let _undisturbed = Undisturbed::claim();
        let word = self
            .policy
            .get(&index::HEADER, 0)
            .map_err(|error| Error::maps("cannot read the map", "POLICY", error))?;
        Ok(Header(word))
    }

    pub fn in_force(&self) -> Result<InForce, Error> {
        let header = self.header()?;
        let rules = (0..header.rules())
            .map(|number| self.rule(header.bank(), number))
            .collect::<Result<_, _>>()?;
        Ok(InForce { header, rules })
    }

    fn rule(&self, bank: u32, number: u32) -> Result<RuleInForce, Error> {
        let _undisturbed = Undisturbed::claim();
        let rule = self.record(bank, number)?;
        let mut hits = Vec::new();
        for action in Action::ALL {
            for outcome in Outcome::ALL {
                let times = self
                    .hits
                    .get(&hit(rule.row, action, outcome), 0)
                    .map_err(|error| Error::maps("cannot read the map", "HITS", error))?;
                if times > 0 {
                    hits.push((action, outcome, times));
                }
            }
        }
        Ok(RuleInForce { rule, hits })
    }

    fn record(&self, bank: u32, number: u32) -> Result<Rule, Error> {
        self.rules
            .get(&(bank * RULES + number), 0)
            .map_err(|error| Error::maps("cannot read the map", "RULES", error))
    }

    /// The consumers that rules in force name, number 1 first.
    pub fn consumers(&self) -> Result<Vec<String>, Error> {
        let _undisturbed = Undisturbed::claim();
        let half = self.header()?.bank() & 1;
        let mut names = Vec::new();
        for number in 0..CONSUMERS {
            let name = self
                .consumers
                .get(&(half * CONSUMERS + number), 0)
                .map_err(|error| Error::maps("cannot read the map", "CONSUMERS", error))?;
            if name.name().is_empty() {
                break;
            }
            names.push(String::from_utf8_lossy(name.name()).into_owned());
        }
        Ok(names)
    }

    /// Where their code is by the policy in force, sorted by its start.
    pub fn text_ranges(&self) -> Result<Vec<TextRange>, Error> {
        let _undisturbed = Undisturbed::claim();
        let half = self.header()?.bank() & 1;
        let many = self
            .policy
            .get(&index::TEXT_RANGES[half as usize], 0)
            .map_err(|error| Error::maps("cannot read the map", "POLICY", error))?;
        (0..TEXT_RANGES.min(many as u32))
            .map(|number| self.text_ranges.get(&(half * TEXT_RANGES + number), 0))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::maps("cannot read the map", "TEXT_RANGES", error))
    }

    /// The rows of the rules in all banks, by name, but for those that are in `bank` alone: there
    /// are at least as many others as a policy has rules.
    fn rows(&self, bank: u32) -> Result<HashMap<[u8; NAME_LEN], u32>, Error> {
        let mut rows = HashMap::new();
        for other in (0..BANKS).filter(|other| *other != bank) {
            for number in 0..RULES {
                let rule = self.record(other, number)?;
                if !rule.name().is_empty() {
                    rows.insert(rule.name, rule.row);
                }
            }
        }
        Ok(rows)
    }
}

impl<T: BorrowMut<MapData>> PolicyMaps<T> {
    /// Puts a policy in force in the place of the one there is. Until the last store the old one
    /// holds; if anything fails before, it goes on to.
    pub fn put_in_force(&mut self, plan: &Plan, deniable: u32) -> Result<Header, Error> {
        let generation = self.header()?.generation() + 1;
        self.put(plan, deniable, generation, boot_ns())
    }

    /// The same of one that has been in force since then, if with this generation.
    fn put(
        &mut self,
        plan: &Plan,
        deniable: u32,
        generation: u32,
        since_ns: u64,
    ) -> Result<Header, Error> {
        let failed =
            |name: &'static str| move |error| Error::maps("cannot write the map", name, error);
        let _undisturbed = Undisturbed::claim();
        let before = self.header()?;
        let bank = (before.bank() + 1) % BANKS;
        // A rule goes on counting where it was counted before. No program reads this bank any more.
        let mut rows = self.rows(bank)?;
        for (number, rule) in (0..RULES).zip(plan.rules.iter().map(Some).chain(iter::repeat(None)))
        {
            let mut rule = rule.copied().unwrap_or(Rule::ANY);
            if !rule.name().is_empty() {
                rule.row = match rows.get(&rule.name) {
                    Some(row) => *row,
                    None => self.clear_row(&rows)?,
                };
                rows.insert(rule.name, rule.row);
            }
            self.rules
                .set(bank * RULES + number, rule, 0)
                .map_err(failed("RULES"))?;
        }
        let half = bank & 1;
        let names = plan.consumers.iter().map(String::as_str);
        for (number, name) in (0..CONSUMERS).zip(names.chain(iter::repeat(""))) {
            self.consumers
                .set(half * CONSUMERS + number, ConsumerName::new(name), 0)
                .map_err(failed("CONSUMERS"))?;
        }
        for (number, range) in (0..TEXT_RANGES).zip(&plan.text_ranges) {
            self.text_ranges
                .set(half * TEXT_RANGES + number, *range, 0)
                .map_err(failed("TEXT_RANGES"))?;
        }
        self.policy
            .set(
                index::TEXT_RANGES[half as usize],
                plan.text_ranges.len() as u64,
                0,
            )
            .map_err(failed("POLICY"))?;
        let header = Header::new(generation, bank, plan.rules.len() as u32)
            .of_modes(plan.has(Mode::Enforce), plan.has(Mode::Audit))
            .watching(plan.holds, plan.bare_pins)
            .with_paths(plan.rules.iter().any(|rule| rule.path_ino != 0))
            .deniable_by(deniable);
        self.policy
            .set(index::SINCE, since_ns, 0)
            .map_err(failed("POLICY"))?;
        self.policy
            .set(index::HEADER, header.0, 0)
            .map_err(failed("POLICY"))?;
        Ok(header)
    }
}

impl<T: BorrowMut<MapData>> PolicyMaps<T> {
    /// Puts the rules in force again, with the code of their consumers where it is now.
    pub fn move_consumers(&mut self, text_ranges: Vec<TextRange>) -> Result<(), Error> {
        let InForce { header, rules } = self.in_force()?;
        let plan = Plan {
            holds: header.holds(),
            bare_pins: header.bare_pins(),
            rules: rules.into_iter().map(|rule| rule.rule).collect(),
            consumers: self.consumers()?,
            text_ranges,
            // It is in no map of the policy, and stays.
            hold_limit_ms: 0,
        };
        let since_ns = self
            .policy
            .get(&index::SINCE, 0)
            .map_err(|error| Error::maps("cannot read the map", "POLICY", error))?;
        let generation = header.generation();
        self.put(&plan, header.deniable(), generation, since_ns)
            .map(drop)
    }

    /// A row that none of these rules has, set to zero.
    fn clear_row(&mut self, taken: &HashMap<[u8; NAME_LEN], u32>) -> Result<u32, Error> {
        let row = (0..ROWS).find(|row| taken.values().all(|other| other != row));
        let row = row.ok_or_else(|| Error::maps("cannot write the map", "HITS", "it is full"))?;
        for counter in 0..HITS {
            self.hits
                .set(row * HITS + counter, 0, 0)
                .map_err(|error| Error::maps("cannot write the map", "HITS", error))?;
        }
        Ok(row)
    }
}
