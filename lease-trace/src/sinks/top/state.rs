//! The screen as it is: the stakes of the last look, how they are listed, which one is selected.
//! No terminal and no kernel here.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use lease_trace_common::stake::StakeKey;

use super::{
    history::History,
    order::{Only, Sort},
    row::{Row, Standing},
};
use crate::{
    clock::{Clock, Zone},
    record::{Entry, Lost},
};

/// How long a zombie that has come to rest is still listed, ms.
const FAREWELL_MS: u64 = 10_000;

/// Whose figures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Those of the monitor with this pid.
    Monitor(u32),
    /// Those of the enforcement in place, without a monitor.
    Enforcement,
    /// Its own hooks: nobody else watches.
    Own,
}

/// What is to be known beside the stakes.
#[derive(Clone, Debug)]
pub struct Facts {
    pub from: From,
    /// Everything that was lost since those who watch began.
    pub lost: Vec<Lost>,
    /// What cannot be seen on this kernel, and why.
    pub cannot: Vec<String>,
    /// Zombies started, and ended, since the screen was started.
    pub started: u64,
    pub ended: u64,
    /// Time from look to look.
    pub every: Duration,
}

/// Everything about one stake.
#[derive(Clone, Debug)]
pub struct Detail {
    pub key: StakeKey,
    pub entry: Entry,
    /// Functions of the kernel in which the first pins were taken, innermost first.
    pub stack: Vec<String>,
    /// How old is what it says of holders, ms; `None`: nobody has looked yet.
    pub walked_ms: Option<u64>,
}

/// How much of the screen the details have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    #[default]
    Closed,
    Below,
    Whole,
}

/// What lies over the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    Help,
    Losses,
}

/// The screen.
pub struct Screen {
    pub facts: Facts,
    /// When the figures were read.
    pub clock: Clock,
    /// When the first ones were.
    pub began: Clock,
    pub zone: Zone,
    pub history: History,
    pub sort: Sort,
    pub reverse: bool,
    pub only: Only,
    /// What must be mentioned in a row, as typed.
    pub find: String,
    /// Keys go into `find`.
    pub typing: bool,
    pub paused: bool,
    pub pane: Pane,
    pub overlay: Option<Overlay>,
    /// Lines of the details or the overlay above the uppermost that is shown.
    pub scroll: u16,
    /// Rows that the list had room for when it was last drawn.
    pub page: usize,
    /// The uppermost row of the list.
    pub first: usize,
    pub detail: Option<Detail>,
    /// Why there are no newer figures.
    pub trouble: Option<String>,
    rows: HashMap<StakeKey, Row>,
    /// Those that were zombies, and since when they are at rest (CLOCK_BOOTTIME, ns).
    resting: BTreeMap<StakeKey, (Row, u64)>,
    /// What is listed, in order.
    listed: Vec<StakeKey>,
    selected: Option<StakeKey>,
}

impl Screen {
    /// With what the first look has found.
    pub fn new(rows: Vec<Row>, facts: Facts, clock: Clock, zone: Zone) -> Self {
        let mut screen = Self {
            facts,
            clock,
            began: clock,
            zone,
            history: History::default(),
            sort: Sort::default(),
            reverse: false,
            only: Only::default(),
            find: String::new(),
            typing: false,
            paused: false,
            pane: Pane::default(),
            overlay: None,
            scroll: 0,
            page: 1,
            first: 0,
            detail: None,
            trouble: None,
            rows: rows.into_iter().map(|row| (row.key, row)).collect(),
            resting: BTreeMap::new(),
            listed: Vec::new(),
            selected: None,
        };
        screen.begin();
        screen
    }

    /// Begins anew with what others who watch have found: their stakes are not those of before.
    pub fn restart(&mut self, rows: Vec<Row>, facts: Facts, clock: Clock) {
        self.rows = rows.into_iter().map(|row| (row.key, row)).collect();
        self.resting.clear();
        self.history = History::default();
        (self.facts, self.clock, self.trouble) = (facts, clock, None);
        self.pane = Pane::Closed;
        self.deselect();
        self.begin();
    }

    fn begin(&mut self) {
        for row in self.rows.values() {
            self.history.found(row, &self.clock);
        }
        self.sample();
        self.arrange();
    }

    /// What another look has found.
    pub fn update(&mut self, rows: Vec<Row>, facts: Facts, clock: Clock) {
        let before = std::mem::take(&mut self.rows);
        self.rows = rows.into_iter().map(|row| (row.key, row)).collect();
        for row in self.rows.values() {
            self.resting.remove(&row.key);
            match before.get(&row.key) {
                Some(before) => self.history.compare(before, row, &clock),
                None => self.history.appeared(row, &clock),
            }
        }
        for (key, row) in before {
            if self.rows.contains_key(&key) {
                continue;
            }
            self.history.ended(&row, &clock);
            if row.standing == Standing::Zombie {
                let rest = Row {
                    standing: Standing::AtRest,
                    since_ns: clock.boot_ns(),
                    pins: 0,
                    doubtful: false,
                    ..row
                };
                self.resting.insert(key, (rest, clock.boot_ns()));
            } else {
                self.history.forget(&key);
            }
        }
        let selected = self.selected;
        let history = &mut self.history;
        self.resting.retain(|key, (_, since_ns)| {
            let age_ms = crate::clock::elapsed_ms(*since_ns, clock.boot_ns());
            let stays = age_ms < FAREWELL_MS || Some(*key) == selected;
            if !stays {
                history.forget(key);
            }
            stays
        });
        self.facts = facts;
        self.clock = clock;
        self.trouble = None;
        self.sample();
        self.arrange();
    }

    fn sample(&mut self) {
        let (zombies, pins) = (self.count(Standing::Zombie) as u64, self.pins());
        self.history.sample(zombies, pins);
    }

    /// Filters and orders anew. The selection stays with its stake, wherever that goes; where its
    /// stake is listed no more, it goes to whatever took its place.
    pub fn arrange(&mut self) {
        let place = self.selected_at();
        let part = self.find.to_lowercase();
        let mut rows: Vec<&Row> = self
            .rows
            .values()
            .chain(self.resting.values().map(|(row, _)| row))
            .filter(|row| self.only.admits(row.standing))
            .filter(|row| part.is_empty() || row.mentions(&part))
            .collect();
        rows.sort_by(|one, other| self.sort.compare(one, other));
        if self.reverse {
            rows.reverse();
        }
        self.listed = rows.into_iter().map(|row| row.key).collect();
        if self.selected.is_some() && self.selected_at().is_none() {
            let last = self.listed.len().saturating_sub(1);
            let place = place.unwrap_or(0).min(last);
            self.selected = self.listed.get(place).copied();
        }
        if self.detail_key().is_none() {
            self.detail = None;
        }
    }

    /// The rows listed, in order.
    pub fn listed(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.listed.iter().map(|key| match self.rows.get(key) {
            Some(row) => row,
            None => &self.resting[key].0,
        })
    }

    /// All stakes with anything in them.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.values()
    }

    pub fn count(&self, standing: Standing) -> usize {
        let rows = self.rows.values();
        rows.filter(|row| row.standing == standing).count()
    }

    /// Pin references in all stakes.
    pub fn pins(&self) -> u64 {
        self.rows.values().map(|row| row.pins).sum()
    }

    /// Age of the oldest zombie, ms.
    pub fn oldest_ms(&self) -> Option<u64> {
        let zombies = self
            .rows
            .values()
            .filter(|row| row.standing == Standing::Zombie);
        zombies
            .filter_map(|row| row.age_ms(self.clock.boot_ns()))
            .max()
    }

    /// The place of the selected stake in the list.
    pub fn selected_at(&self) -> Option<usize> {
        let selected = self.selected?;
        self.listed.iter().position(|key| *key == selected)
    }

    pub fn selected(&self) -> Option<&Row> {
        let key = self.selected?;
        let resting = || self.resting.get(&key).map(|(row, _)| row);
        self.rows.get(&key).or_else(resting)
    }

    /// Selects the row that is so many further down, or up; the first one if none was selected.
    pub fn step(&mut self, by: isize) {
        let last = self.listed.len().saturating_sub(1);
        let place = match self.selected_at() {
            Some(place) => place.saturating_add_signed(by).min(last),
            None => 0,
        };
        self.select(place);
    }

    /// Selects a row by its place, or the last.
    pub fn select(&mut self, place: usize) {
        let last = self.listed.len().saturating_sub(1);
        self.selected = self.listed.get(place.min(last)).copied();
        self.scroll = 0;
    }

    /// Selects none.
    pub fn deselect(&mut self) {
        self.selected = None;
        self.first = 0;
    }

    /// The stake whose details are shown.
    pub fn detail_key(&self) -> Option<StakeKey> {
        self.selected.filter(|_| self.pane != Pane::Closed)
    }
}

#[cfg(test)]
mod state_tests;
