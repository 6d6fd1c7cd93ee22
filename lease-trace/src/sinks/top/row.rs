//! One stake as the list shows and orders it: what can be told without asking /proc, for there may
//! be thousands.

use std::collections::{BTreeSet, HashMap};

use lease_trace_common::{
    cause::Cause,
    stake::{self, StakeKey, State},
};

use crate::{
    enrich::Names,
    entries::{self, Walk},
    record::{FilePath, Lease, ProcessRef},
    sinks::text,
    tracer::snapshot::{Snapshot, StakeView},
};

/// What a stake is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Zombie,
    OrphanedPin,
    BarePin,
    Covered,
    Leased,
    /// It was a zombie a moment ago.
    AtRest,
}

impl Standing {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zombie => "zombie",
            Self::OrphanedPin => "orphaned-pin",
            Self::BarePin => "bare-pin",
            Self::Covered => "covered",
            Self::Leased => "leased",
            Self::AtRest => "at-rest",
        }
    }

    /// By the name that the report has for it; `None`: there is nothing in the stake.
    fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Zombie,
            Self::OrphanedPin,
            Self::BarePin,
            Self::Covered,
            Self::Leased,
        ];
        all.into_iter().find(|standing| standing.name() == name)
    }

    /// The rule is broken, or no lease was ever there to keep it.
    pub const fn is_breach(self) -> bool {
        matches!(self, Self::Zombie | Self::OrphanedPin | Self::BarePin)
    }
}

/// What a walk over everybody's descriptors and mappings has found.
#[derive(Default)]
pub struct Walked {
    /// When (CLOCK_BOOTTIME, ns); 0: there was none yet.
    pub at_ns: u64,
    /// What only the walk could tell: pins that turned out to be orphaned, or to be covered.
    standings: HashMap<StakeKey, Standing>,
    /// Leases that somebody wants broken: inode id, and who set them.
    breaking: BTreeSet<(u64, u32)>,
}

impl Walked {
    /// `snapshot`: read right behind the walk, with the walk's holders in it.
    pub fn new(snapshot: &Snapshot, walk: &Walk, at_ns: u64) -> Self {
        let standings = snapshot.stakes.iter().filter_map(|view| {
            let name = walk.standing(view);
            let plain = entries::state_name(stake::state(view.stake.word));
            let standing = Standing::named(name).filter(|_| name != plain)?;
            Some((view.key, standing))
        });
        let leases = snapshot.leases.iter();
        let breaking = leases
            .filter(|view| walk.is_breaking(view.id()))
            .map(|view| (view.inode_id, view.lease.setter.tgid));
        Self {
            standings: standings.collect(),
            breaking: breaking.collect(),
            at_ns,
        }
    }

    /// What a stake is now, which may have changed since the walk.
    fn standing(&self, view: &StakeView) -> Option<Standing> {
        let state = stake::state(view.stake.word);
        let found = self.standings.get(&view.key).copied();
        match (state, found) {
            (State::Covered, Some(Standing::OrphanedPin))
            | (State::BarePin, Some(Standing::Covered)) => found,
            _ => Standing::named(entries::state_name(state)),
        }
    }
}

/// One stake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: StakeKey,
    pub standing: Standing,
    pub process: ProcessRef,
    pub unit: Option<String>,
    /// `read` or `write`; `None`: no lease ever covered it.
    pub mode: Option<&'static str>,
    /// How the lease ended, with a `*` if the process is ending.
    pub cause: Option<String>,
    /// Since when it has been what it is (CLOCK_BOOTTIME, ns); 0: not known.
    pub since_ns: u64,
    pub pins: u64,
    /// How many is not certain.
    pub doubtful: bool,
    pub consumer: Option<String>,
    /// Escaped, with what is to be said of it.
    pub path: String,
    /// Somebody wants its lease broken.
    pub breaking: bool,
}

impl Row {
    /// `None`: nothing is in the stake.
    pub fn of(view: &StakeView, walked: &Walked, names: &mut Names) -> Option<Self> {
        let StakeView { key, stake, inode } = view;
        let standing = walked.standing(view)?;
        let pins = stake::pins(stake.word);
        let since_ns = match standing {
            Standing::Zombie => stake.released_ns,
            Standing::Leased => stake.lease.set_ns,
            _ => stake.pinned_ns,
        };
        let cause = match standing {
            Standing::Zombie => Cause::from_raw(stake.lease.cause),
            _ => None,
        };
        let path = inode.path.as_deref().and_then(FilePath::of);
        let (path, note) = text::path(path.as_ref());
        Some(Self {
            key: *key,
            standing,
            process: ProcessRef::of(&stake.owner),
            unit: names.owner(&stake.owner).unit,
            mode: Lease::of(&stake.lease, 0).map(|lease| lease.mode),
            cause: cause.map(|cause| {
                let mark = if stake.lease.ends_by_itself() {
                    "*"
                } else {
                    ""
                };
                format!("{}{mark}", cause.name())
            }),
            since_ns,
            pins,
            doubtful: pins > 0 && inode.is_doubtful(),
            consumer: (pins > 0).then(|| names.consumer(&stake.stack)).flatten(),
            path: path + note,
            breaking: stake::leases(stake.word) > 0
                && walked.breaking.contains(&(key.inode, key.tgid)),
        })
    }

    /// How long it has been what it is, ms.
    pub fn age_ms(&self, now_ns: u64) -> Option<u64> {
        (self.since_ns != 0).then(|| crate::clock::elapsed_ms(self.since_ns, now_ns))
    }

    /// Whether any of its words has `part` in it, whatever the case of letters. `part` is in lower
    /// case.
    pub fn mentions(&self, part: &str) -> bool {
        let words = [
            Some(self.standing.name()),
            Some(self.process.comm.as_str()),
            self.unit.as_deref(),
            self.mode,
            self.cause.as_deref(),
            self.consumer.as_deref(),
            Some(self.path.as_str()),
        ];
        let mut words = words.into_iter().flatten();
        words.any(|word| word.to_lowercase().contains(part))
            || self.process.pid.to_string().contains(part)
    }
}
