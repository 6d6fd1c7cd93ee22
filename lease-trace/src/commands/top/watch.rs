//! Look after look: what was read becomes rows, losses, and the details of the stake selected.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use lease_trace_common::{count::Count, event::EventKind, stake::StakeKey};

use super::feed::{Feed, lives};
use crate::{
    clock::{Clock, Zone, elapsed_ms},
    enrich::{Names, locks},
    entries::{self, Walk},
    filter::Filter,
    session::losses,
    sinks::top::{
        Detail, Facts, From, Screen,
        row::{Row, Walked},
    },
    tracer::{self, orphaned, snapshot::Snapshot},
};

/// Walks over everybody's descriptors are no closer together than this.
const WALKS: Duration = Duration::from_secs(2);
/// And take no more than this part of the time.
const SHARE: u32 = 20;
/// With rules in force: a walk holds each open file for a moment, and a close in that moment is not
/// the last, so that no rule meets it.
const SHARE_WITH_RULES: u32 = 200;
/// How long the end of a lease may take behind the end of its last reference.
const CLOSING: Duration = Duration::from_millis(50);

/// The screen and what it is made from.
pub struct Watch {
    pub screen: Screen,
    feed: Feed,
    filter: Filter,
    names: Names,
    interval: Duration,
    cannot: Vec<String>,
    /// The last look, with the holders of the last walk.
    snapshot: Snapshot,
    walked: Walked,
    walk_after: Instant,
    /// Orphaned pins of which a second look has shown that they are.
    orphaned: BTreeSet<StakeKey>,
    /// Which maps were read, see [`Feed::maps`].
    maps: Option<u64>,
    /// The counters at the first look.
    began: [u64; Count::LEN],
}

impl Watch {
    /// Looks for the first time.
    pub fn start(
        mut feed: Feed,
        filter: Filter,
        names: Names,
        interval: Duration,
    ) -> anyhow::Result<Self> {
        let maps = feed.maps();
        let Some(snapshot) = feed.look()? else {
            bail!("the monitor has just ended; start it again, or top without it");
        };
        let mut cannot = feed.cannot();
        if let Err(error) = names.check() {
            cannot.push(format!("consumers and kernel stacks: {error}"));
        }
        let clock = Clock::sample();
        let began = snapshot.counts;
        let facts = Facts {
            from: feed.from(&snapshot),
            lost: Vec::new(),
            cannot: Vec::new(),
            started: 0,
            ended: 0,
            every: interval,
        };
        let mut watch = Self {
            screen: Screen::new(Vec::new(), facts, clock, Zone::Local),
            feed,
            filter,
            names,
            interval,
            cannot,
            snapshot,
            walked: Walked::default(),
            walk_after: Instant::now(),
            orphaned: BTreeSet::new(),
            maps,
            began,
        };
        watch.walk()?;
        let (rows, facts, clock) = watch.read();
        watch.screen = Screen::new(rows, facts, clock, Zone::Local);
        Ok(watch)
    }

    /// Looks again. Whoever watches may have ended: then the screen says so and keeps what it has.
    pub fn look(&mut self) -> anyhow::Result<()> {
        if self.screen.paused {
            return Ok(());
        }
        match self.again() {
            Ok(true) => {}
            Ok(false) => {
                let who = match self.screen.facts.from {
                    From::Monitor(pid) => format!("monitor {pid}"),
                    From::Enforcement | From::Own => "the enforcement".to_owned(),
                };
                self.out_of_date(&format!("{who} has ended"));
            }
            // The maps of others come and go; those of its own do not.
            Err(error) => match self.feed {
                Feed::InPlace => self.out_of_date(&error.to_string()),
                Feed::Own(_) => return Err(error.into()),
            },
        }
        self.look_closer();
        Ok(())
    }

    fn out_of_date(&mut self, why: &str) {
        let time = self.screen.clock.now().time_of_day(self.screen.zone);
        self.screen.trouble = Some(format!("{why}; these figures are of {time}"));
    }

    /// Whether there was anything to look at.
    fn again(&mut self) -> Result<bool, tracer::Error> {
        let Some(mut snapshot) = self.feed.look()? else {
            return Ok(false);
        };
        snapshot.holders = std::mem::take(&mut self.snapshot.holders);
        // Others' maps have others' inode ids in them.
        let maps = self.feed.maps();
        let others = maps != self.maps;
        self.maps = maps;
        self.snapshot = snapshot;
        if others {
            self.began = [0; Count::LEN];
            self.walked = Walked::default();
            self.orphaned.clear();
            self.walk_after = Instant::now();
        }
        if Instant::now() >= self.walk_after && !self.snapshot.stakes.is_empty() {
            self.walk()?;
        }
        let (rows, facts, clock) = self.read();
        if others {
            self.screen.restart(rows, facts, clock);
        } else {
            self.screen.update(rows, facts, clock);
        }
        Ok(true)
    }

    /// Who has the files, and what only that can tell.
    fn walk(&mut self) -> Result<(), tracer::Error> {
        let begun = Instant::now();
        self.found()?;
        let mut found = orphaned::among(&self.snapshot);
        if !found.is_subset(&self.orphaned) {
            // A file that is just being closed is in no table any more while its lease has not ended
            // yet.
            thread::sleep(CLOSING);
            self.found()?;
            found = orphaned::among(&self.snapshot);
        }
        self.orphaned = found;
        // A list that cannot be read leaves what holders' descriptors tell.
        let listed = locks::leases().unwrap_or_default();
        let walk = Walk::of(&self.snapshot, &listed);
        self.walked = Walked::new(&self.snapshot, &walk, Clock::sample().boot_ns());
        let share = if self.feed.rules()? > 0 {
            SHARE_WITH_RULES
        } else {
            SHARE
        };
        self.walk_after = begun + WALKS.max(begun.elapsed() * share);
        Ok(())
    }

    /// One walk, and the maps as they are right behind it.
    fn found(&mut self) -> Result<(), tracer::Error> {
        let holders = self.feed.holders()?;
        if let Some(snapshot) = self.feed.look()? {
            self.snapshot = Snapshot {
                holders,
                ..snapshot
            };
        }
        Ok(())
    }

    /// What the last look comes to.
    fn read(&mut self) -> (Vec<Row>, Facts, Clock) {
        let clock = Clock::sample();
        let Self {
            snapshot,
            filter,
            names,
            walked,
            ..
        } = self;
        let rows = snapshot.stakes.iter().filter(|view| {
            // One whose inode is not known may be meant.
            let as_told = view.notification(EventKind::Zombie, clock.boot_ns());
            as_told.is_none_or(|told| filter.admits(&told.event, &told.path, &mut names.cgroups))
        });
        let rows: Vec<_> = rows.collect();
        let rows = rows
            .into_iter()
            .filter_map(|view| Row::of(view, walked, names));
        let rows = rows.collect();
        let (started, ended) = lives(&snapshot.counts);
        let (started_before, ended_before) = lives(&self.began);
        let facts = Facts {
            from: self.feed.from(snapshot),
            lost: losses(&snapshot.counts, &[0; Count::LEN]),
            cannot: self.cannot.clone(),
            started: started.saturating_sub(started_before),
            ended: ended.saturating_sub(ended_before),
            every: self.interval,
        };
        (rows, facts, clock)
    }

    /// Everything about the stake selected, if that is asked for. Of one that is gone, what was known
    /// last stays.
    pub fn look_closer(&mut self) {
        let Some(key) = self.screen.detail_key() else {
            self.screen.detail = None;
            return;
        };
        let Some(view) = self.snapshot.stakes.iter().find(|view| view.key == key) else {
            return;
        };
        let clock = Clock::sample();
        let walk = Walk::of(&self.snapshot, &locks::leases().unwrap_or_default());
        let entry = entries::stake(view, &walk, &self.snapshot, &clock, &mut self.names);
        self.screen.detail = Some(Detail {
            key,
            entry,
            stack: self.names.functions(&view.stake.stack),
            walked_ms: (self.walked.at_ns != 0)
                .then(|| elapsed_ms(self.walked.at_ns, clock.boot_ns())),
        });
    }

    /// See [`Feed::drained`].
    pub async fn drained(&mut self) {
        self.feed.drained().await;
    }

    /// Detaches what was attached.
    pub fn stop(self) {
        if let Feed::Own(tracer) = self.feed {
            tracer.stop();
        }
    }
}
