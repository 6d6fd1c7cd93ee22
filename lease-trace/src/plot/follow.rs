//! One row of a picture: the leases and pins of one process on one file, followed from event to
//! event. What a record does not say stays open at that side.

use super::{
    axis::clock,
    read::{Event, Micros, Name},
};
use crate::sinks::text;

/// Where a bar begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    At(Micros),
    /// Beyond what the record knows: there already when it began, or still there when it ended.
    Beyond,
    /// Nobody saw it: known to be there at this moment, and no further.
    Unseen(Micros),
}

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Lease,
    /// Pins before their lease went.
    Covered,
    Bare,
    Orphaned,
    Zombie,
}

/// Something that lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    pub kind: Kind,
    pub from: Edge,
    pub to: Edge,
    /// What stands in it, if there is room.
    pub label: String,
    /// All that is known of it, line by line.
    pub title: String,
}

/// Something at one moment: what came of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: Micros,
    pub title: String,
}

/// A bar that has not ended.
#[derive(Debug)]
struct Open {
    from: Edge,
    words: Words,
}

/// What is said of a bar.
#[derive(Debug, Default)]
struct Words {
    label: String,
    facts: Vec<String>,
}

/// What is being drawn of one process and file.
#[derive(Debug, Default)]
pub struct Row {
    pub bars: Vec<Bar>,
    pub marks: Vec<Mark>,
    leases: Vec<Open>,
    bare: Option<Open>,
    orphan: Option<Open>,
    zombie: Option<Open>,
    /// When the last lease bar ended.
    lease_ended: Option<Micros>,
}

impl Row {
    /// Takes an event in. `begin` is when the record began: what is older was found, not seen.
    pub fn take(&mut self, at: Micros, name: Name, event: &Event, begin: Micros) {
        match name {
            Name::LeaseSet => {
                let from = if at < begin {
                    Edge::Beyond
                } else {
                    Edge::At(at)
                };
                let words = lease_words(event);
                self.leases.push(Open { from, words });
            }
            Name::LeaseEnd => self.lease_end(at, event, begin),
            Name::Zombie => self.zombie(at, event, begin),
            Name::AtRest => self.at_rest(at, event, begin),
            Name::BarePin => {
                self.bare.get_or_insert_with(|| Open {
                    from: Edge::At(at),
                    words: pin_words("pins without a lease", event),
                });
            }
            Name::BarePinEnd => self.bare_end(at, event, begin),
            Name::OrphanedPin => {
                self.orphan.get_or_insert_with(|| Open {
                    from: Edge::At(at),
                    words: pin_words("orphaned pins", event),
                });
            }
            Name::OrphanEnd => self.orphan_end(at, Some(event), begin),
            Name::RuleAction(what) => self.marks.push(Mark {
                at,
                title: format!("{what}{}\n{}", by_rule(event), clock(at)),
            }),
            Name::Start | Name::Corrected | Name::Lost | Name::End => {}
        }
    }

    /// Ends what is open in this way.
    pub fn finish(&mut self, to: Edge) {
        let bars = &mut self.bars;
        let mut close = |kind, open: Open, to| bars.push(bar(kind, open.from, to, open.words));
        for lease in std::mem::take(&mut self.leases) {
            close(Kind::Lease, lease, to);
        }
        // Recordings of before had no end of bare pins.
        if let Some(bare) = self.bare.take() {
            let Open { from, words } = bare;
            let seen = match from {
                Edge::At(at) => Edge::Unseen(at),
                other => other,
            };
            close(Kind::Bare, Open { from, words }, seen);
        }
        if let Some(orphan) = self.orphan.take() {
            close(Kind::Orphaned, orphan, to);
        }
        if let Some(zombie) = self.zombie.take() {
            close(Kind::Zombie, zombie, to);
        }
        self.lease_ended = None;
    }

    fn lease_end(&mut self, at: Micros, event: &Event, begin: Micros) {
        let set = set_at(at, event);
        // The one that was set when this one says it was; else the oldest.
        let distance = |open: &Open| match (open.from, set) {
            (Edge::At(from), Some(set)) => from.saturating_sub(set).saturating_abs(),
            _ => 0,
        };
        let nearest = (0..self.leases.len()).min_by_key(|index| distance(&self.leases[*index]));
        let from = match nearest {
            Some(index) => self.leases.remove(index).from,
            // The zombie's event came first and said so already.
            None if self
                .lease_ended
                .is_some_and(|ended| at.saturating_sub(ended) < 1_000_000) =>
            {
                return;
            }
            None => since(set, begin),
        };
        self.push_lease(from, at, event);
    }

    /// All leases of this process on this file went.
    fn zombie(&mut self, at: Micros, event: &Event, begin: Micros) {
        let open = std::mem::take(&mut self.leases);
        for lease in &open {
            self.push_lease(lease.from, at, event);
        }
        let told = self
            .lease_ended
            .is_some_and(|ended| at.saturating_sub(ended) < 1_000_000);
        if open.is_empty() && !told && event.lease.is_some() {
            self.push_lease(since(set_at(at, event), begin), at, event);
        }
        let orphaned = self.orphan.is_some();
        self.orphan_end(at, None, begin);
        if !orphaned {
            self.covered(at, event, begin);
        }
        self.bare = None;
        if let Some(before) = self.zombie.take() {
            let Open { from, words } = before;
            self.bars.push(bar(Kind::Zombie, from, Edge::At(at), words));
        }
        self.zombie = Some(Open {
            from: Edge::At(at),
            words: zombie_words(event),
        });
    }

    fn bare_end(&mut self, at: Micros, event: &Event, begin: Micros) {
        let open = self.bare.take().unwrap_or_else(|| Open {
            from: since(event.pinned_ms.map(|ms| before(at, ms)), begin),
            words: pin_words("pins without a lease", event),
        });
        self.bars
            .push(bar(Kind::Bare, open.from, Edge::At(at), open.words));
    }

    fn at_rest(&mut self, at: Micros, event: &Event, begin: Micros) {
        let from = match self.zombie.take() {
            Some(open) => open.from,
            None => since(event.zombie_ms.map(|ms| before(at, ms)), begin),
        };
        let mut words = zombie_words(event);
        if let Some(ms) = event.zombie_ms {
            words.label = format!("{} · {}", words.label, text::age(ms));
        }
        self.bars.push(bar(Kind::Zombie, from, Edge::At(at), words));
    }

    /// The pins until the lease went.
    fn covered(&mut self, at: Micros, event: &Event, begin: Micros) {
        let from = match event.pinned_ms {
            Some(ms) => since(Some(before(at, ms)), begin),
            None => Edge::Unseen(at),
        };
        let words = pin_words("pins under the lease", event);
        self.bars
            .push(bar(Kind::Covered, from, Edge::At(at), words));
    }

    fn orphan_end(&mut self, at: Micros, event: Option<&Event>, begin: Micros) {
        let lasted = event.and_then(|event| event.orphaned_ms);
        let (from, words) = match (self.orphan.take(), event) {
            (Some(open), _) => (open.from, open.words),
            (None, Some(event)) => (
                since(lasted.map(|ms| before(at, ms)), begin),
                pin_words("orphaned pins", event),
            ),
            (None, None) => return,
        };
        self.bars
            .push(bar(Kind::Orphaned, from, Edge::At(at), words));
    }

    fn push_lease(&mut self, from: Edge, at: Micros, event: &Event) {
        self.lease_ended = Some(at);
        let words = lease_words(event);
        self.bars.push(bar(Kind::Lease, from, Edge::At(at), words));
    }
}

fn bar(kind: Kind, from: Edge, to: Edge, words: Words) -> Bar {
    // A wall clock that was set back makes no bar that ends before it begins.
    let from = match (from, to) {
        (Edge::At(from), Edge::At(to)) => Edge::At(from.min(to)),
        (from, _) => from,
    };
    let Words { label, mut facts } = words;
    facts.push(span(from, to));
    Bar {
        kind,
        from,
        to,
        label,
        title: facts.join("\n"),
    }
}

/// `08:15:02.001 to 08:15:14.001 (12s)`
fn span(from: Edge, to: Edge) -> String {
    let begun = match from {
        Edge::At(at) => clock(at),
        Edge::Beyond => "before the record".to_owned(),
        Edge::Unseen(_) => "start not known".to_owned(),
    };
    let ended = match to {
        Edge::At(at) => clock(at),
        Edge::Beyond => "still there at the end of the record".to_owned(),
        Edge::Unseen(_) => "end not known".to_owned(),
    };
    match (from, to) {
        (Edge::At(from), Edge::At(to)) => {
            let lasted = text::age(to.abs_diff(from) / 1_000);
            format!("{begun} to {ended} ({lasted})")
        }
        (_, Edge::At(_)) => format!("{begun}, until {ended}"),
        (Edge::At(_), _) => format!("since {begun}, {ended}"),
        _ => format!("{begun}, {ended}"),
    }
}

fn before(at: Micros, ms: u64) -> Micros {
    let us = ms.saturating_mul(1_000);
    at.saturating_sub(Micros::try_from(us).unwrap_or(Micros::MAX))
}

/// When the lease was set, if the event says how long it was held.
fn set_at(at: Micros, event: &Event) -> Option<Micros> {
    let held = event.lease.as_ref()?.held_ms?;
    Some(before(at, held))
}

/// A beginning that lies before the record is beyond it.
fn since(from: Option<Micros>, begin: Micros) -> Edge {
    match from {
        Some(from) if from >= begin => Edge::At(from),
        _ => Edge::Beyond,
    }
}

fn by_rule(event: &Event) -> String {
    let rule = event.rule.as_ref();
    rule.map_or_else(String::new, |rule| format!(" by rule {rule}"))
}

fn lease_words(event: &Event) -> Words {
    let Some(lease) = &event.lease else {
        return Words::default();
    };
    // The usual kind is not worth a word; a lease in its break is known by the cause.
    let label = format!("{} {}", lease.mode, lease.kind);
    let mut facts = vec![label.clone()];
    facts.extend(event.cause.as_ref().map(|cause| went(cause, event)));
    Words { label, facts }
}

fn pin_words(what: &str, event: &Event) -> Words {
    let label = pins(event);
    let facts = vec![what.to_owned(), label.clone()];
    Words { label, facts }
}

fn zombie_words(event: &Event) -> Words {
    let cause = event.cause.as_deref().unwrap_or("?");
    let pins = pins(event);
    Words {
        label: format!("{cause} · {pins}"),
        facts: vec!["zombie".to_owned(), went(cause, event), pins],
    }
}

/// `lease went by unlock, client[4711]`
fn went(cause: &str, event: &Event) -> String {
    // Of a zombie at rest it is who dropped the last pin, which is not the one who let go.
    let releaser = event
        .releaser
        .as_ref()
        .filter(|_| event.zombie_ms.is_none());
    let who = releaser.map(|who| format!(", {}[{}]", who.comm, who.pid));
    format!("the lease went by {cause}{}", who.unwrap_or_default())
}

/// `256 pins, io_uring`
fn pins(event: &Event) -> String {
    let pins = event
        .pins
        .map_or_else(|| "pins".to_owned(), |pins| text::counted(pins, "pin"));
    match &event.consumer {
        Some(consumer) => format!("{pins}, {consumer}"),
        None => pins,
    }
}
