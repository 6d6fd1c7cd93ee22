//! What was seen to change since the screen was started: told by comparing each look with the one
//! before, so that it is the same whoever's maps are read. What begins and ends between two looks
//! is in the counters only.

use std::collections::{HashMap, VecDeque};

use lease_trace_common::stake::StakeKey;

use super::row::{Row, Standing};
use crate::{
    clock::{Clock, Timestamp},
    sinks::text,
};

/// Moments kept of one stake: as many as most terminals have lines.
const MOMENTS: usize = 64;
/// Looks kept of the curves: more than a screen is wide.
const SAMPLES: usize = 512;

/// Something that happened to a stake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    pub at: Timestamp,
    pub what: String,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct History {
    moments: HashMap<StakeKey, VecDeque<Moment>>,
    /// At each look, the newest last.
    pub zombies: VecDeque<u64>,
    pub pins: VecDeque<u64>,
}

impl History {
    /// A stake at the first look.
    pub fn found(&mut self, row: &Row, clock: &Clock) {
        let found = Row {
            cause: None,
            ..row.clone()
        };
        self.add(row, clock.now(), format!("found: {}", describe(&found)));
    }

    /// A stake that was not there at the last look.
    pub fn appeared(&mut self, row: &Row, clock: &Clock) {
        self.add(row, since(row, clock), describe(row));
    }

    /// A stake that was.
    pub fn compare(&mut self, before: &Row, now: &Row, clock: &Clock) {
        if before.standing != now.standing || before.since_ns != now.since_ns {
            self.add(now, since(now, clock), describe(now));
        } else if before.pins != now.pins {
            let what = format!("{} to {}", before.pins, counted(now.pins));
            self.add(now, clock.now(), what);
        }
        if now.breaking && !before.breaking {
            self.add(
                now,
                clock.now(),
                "somebody wants the lease broken".to_owned(),
            );
        }
    }

    /// A stake that is gone.
    pub fn ended(&mut self, row: &Row, clock: &Clock) {
        let what = match row.standing {
            Standing::Zombie => "at-rest: its last pin went",
            _ => "nothing left",
        };
        self.add(row, clock.now(), what.to_owned());
    }

    /// No more is asked of this stake.
    pub fn forget(&mut self, key: &StakeKey) {
        self.moments.remove(key);
    }

    /// What happened to a stake, the newest first.
    pub fn of(&self, key: &StakeKey) -> impl Iterator<Item = &Moment> {
        self.moments.get(key).into_iter().flatten().rev()
    }

    /// One more point of each curve.
    pub fn sample(&mut self, zombies: u64, pins: u64) {
        for (curve, value) in [(&mut self.zombies, zombies), (&mut self.pins, pins)] {
            if curve.len() == SAMPLES {
                curve.pop_front();
            }
            curve.push_back(value);
        }
    }

    fn add(&mut self, row: &Row, at: Timestamp, what: String) {
        let moments = self.moments.entry(row.key).or_default();
        if moments.len() == MOMENTS {
            moments.pop_front();
        }
        moments.push_back(Moment { at, what });
    }
}

/// When it came to be what it is.
fn since(row: &Row, clock: &Clock) -> Timestamp {
    match row.since_ns {
        0 => clock.now(),
        since => clock.at(since),
    }
}

fn describe(row: &Row) -> String {
    let name = row.standing.name();
    match (&row.cause, row.standing) {
        (Some(cause), _) => format!("{name} by {cause}, {}", counted(row.pins)),
        (None, Standing::Leased) => format!("{name}, {}", row.mode.unwrap_or("?")),
        (None, _) => format!("{name}, {}", counted(row.pins)),
    }
}

fn counted(pins: u64) -> String {
    text::counted(pins, "pin")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Zone, fixtures, sinks::top::top_tests::row};

    fn told(history: &History, key: &StakeKey) -> Vec<String> {
        let tell =
            |moment: &Moment| format!("{} {}", moment.at.time_of_day(Zone::Utc), moment.what);
        history.of(key).map(tell).collect()
    }

    #[test]
    fn a_life_is_told_from_its_end() {
        let (mut history, clock) = (History::default(), fixtures::clock());
        let leased = row(1, Standing::Leased, 90);
        let covered = row(1, Standing::Covered, 92);
        let more = Row {
            pins: 512,
            ..covered.clone()
        };
        let zombie = Row {
            pins: 512,
            ..row(1, Standing::Zombie, 95)
        };
        history.found(&leased, &clock);
        history.compare(&leased, &covered, &clock);
        history.compare(&covered, &covered, &clock);
        history.compare(&covered, &more, &clock);
        history.compare(&more, &zombie, &clock);
        history.ended(&zombie, &clock);
        assert_eq!(
            told(&history, &zombie.key),
            [
                "08:15:00 at-rest: its last pin went",
                "08:14:55 zombie by unlock, 512 pins",
                "08:15:00 256 to 512 pins",
                "08:14:52 covered, 256 pins",
                "08:15:00 found: leased, write",
            ]
        );
        history.forget(&zombie.key);
        assert!(told(&history, &zombie.key).is_empty());
    }

    #[test]
    fn neither_moments_nor_curves_grow_without_end() {
        let (mut history, clock) = (History::default(), fixtures::clock());
        let row = row(1, Standing::Leased, 90);
        for at in 0..2000 {
            history.found(&row, &clock);
            history.sample(at, at);
        }
        assert_eq!(history.of(&row.key).count(), MOMENTS);
        assert_eq!(
            (history.pins.len(), history.pins.back()),
            (SAMPLES, Some(&1999))
        );
    }
}
