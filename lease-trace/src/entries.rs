//! A snapshot as the entries of a report.

mod asked;
mod surveyed;

use std::collections::{BTreeSet, HashMap};

use lease_trace_common::{
    cause::Cause,
    lease::Kind,
    stake::{self, State},
};

pub use self::{
    asked::{Squatters, Subject},
    surveyed::Surveyed,
};
use crate::{
    breaking::Breaking,
    clock::{Clock, elapsed_ms},
    enrich::{Names, locks::LockLine, process, size},
    ledger,
    record::{Dev, Entry, File, FilePath, Holder, Lease, Owner, PinSource, ProcessRef},
    tracer::{
        orphaned::Held,
        snapshot::{InodeView, LeaseView, Snapshot, Source, StakeView},
    },
};

/// What a walk over descriptors and mappings tells of stakes.
pub struct Walk {
    held: Held,
    breaks: Breaking,
}

impl Walk {
    pub fn of(snapshot: &Snapshot, listed: &[LockLine]) -> Self {
        Self {
            held: Held::new(&snapshot.leased(), &snapshot.holders),
            breaks: Breaking::of(snapshot, listed),
        }
    }

    /// What a stake is in the light of who holds the leased files now.
    pub fn standing(&self, view: &StakeView) -> &'static str {
        match stake::state(view.stake.word) {
            State::Covered if self.held.orphans(view) => "orphaned-pin",
            State::BarePin if self.held.covers(view) => state_name(State::Covered),
            state => state_name(state),
        }
    }

    /// Whether somebody wants this lease broken, by its identity.
    pub fn is_breaking(&self, lease: u64) -> bool {
        self.breaks.contains(lease)
    }
}

/// The zombies, the longest first.
pub fn zombies(
    snapshot: &Snapshot,
    listed: &[LockLine],
    clock: &Clock,
    names: &mut Names,
) -> Vec<Entry> {
    let walk = Walk::of(snapshot, listed);
    let mut entries: Vec<_> = snapshot
        .stakes
        .iter()
        .filter(|view| stake::state(view.stake.word) == State::Zombie)
        .map(|view| stake(view, &walk, snapshot, clock, names))
        .collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.age_ms));
    entries
}

/// All stakes with anything in them, by process.
pub fn stakes(
    snapshot: &Snapshot,
    listed: &[LockLine],
    clock: &Clock,
    names: &mut Names,
) -> Vec<Entry> {
    let walk = Walk::of(snapshot, listed);
    let mut entries: Vec<_> = snapshot
        .stakes
        .iter()
        .filter(|view| stake::state(view.stake.word) != State::Empty)
        .map(|view| stake(view, &walk, snapshot, clock, names))
        .collect();
    sort(&mut entries);
    entries
}

/// All leases in force, by process. Those that the kernel lists in /proc/locks and the snapshot
/// does not have are added with the little that is known of them.
pub fn leases(
    snapshot: &Snapshot,
    listed: &[LockLine],
    clock: &Clock,
    names: &mut Names,
) -> Vec<Entry> {
    let breaks = Breaking::of(snapshot, listed);
    let mut entries: Vec<_> = snapshot
        .leases
        .iter()
        .map(|view| lease(view, &breaks, snapshot, clock, names))
        .collect();
    let missing = missing(&entries, listed);
    entries.extend(missing.into_iter().map(|line| lock(line, snapshot)));
    sort(&mut entries);
    entries
}

fn sort(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| {
        let dev = entry.file.dev.map(|dev| (dev.major(), dev.minor()));
        (entry.owner.process.pid, dev, entry.file.ino)
    });
}

/// The squatters among stakes: a lease without any pin which somebody wants broken, or which was
/// held for so long.
pub fn squatters(mut stakes: Vec<Entry>, which: Squatters) -> Vec<Entry> {
    stakes.retain(|entry| {
        let held = entry.lease.as_ref().and_then(|lease| lease.held_ms);
        // A lease older than the tool is older than anybody can say.
        let long = match which {
            Squatters::InTheWay => false,
            Squatters::Held { ms } => held.is_none_or(|held| held >= ms),
        };
        let no_pin = entry.pins.is_none_or(|pins| pins == 0);
        no_pin
            && entry.leases.is_some_and(|leases| leases > 0)
            && (entry.breaking == Some(true) || long)
    });
    stakes
}

pub const fn state_name(state: State) -> &'static str {
    match state {
        State::Empty => "empty",
        State::Leased => "leased",
        State::Covered => "covered",
        State::Zombie => "zombie",
        State::BarePin => "bare-pin",
    }
}

/// Who wants a lease on this file broken.
fn breaker(view: &InodeView) -> Option<ProcessRef> {
    ledger::releaser(view.breaker.as_ref()?)
}

/// Everybody else who has the file of a stake open or mapped.
fn others(view: &StakeView, snapshot: &Snapshot) -> Option<Vec<Holder>> {
    // Of an inode that is gone nobody can tell.
    view.inode.inode.filter(|inode| inode.address != 0)?;
    snapshot.source?;
    let mut others: Vec<_> = snapshot
        .holders
        .iter()
        .filter(|holder| holder.inode == view.key.inode && holder.tgid != view.key.tgid)
        .map(|holder| (holder.tgid, holder.fd, Holder::of(holder)))
        .collect();
    others.sort_by_key(|(tgid, fd, _)| (*tgid, fd.is_none(), *fd));
    Some(others.into_iter().map(|(_, _, holder)| holder).collect())
}

/// One stake, whatever is in it.
pub fn stake(
    view: &StakeView,
    walk: &Walk,
    snapshot: &Snapshot,
    clock: &Clock,
    names: &mut Names,
) -> Entry {
    let StakeView { key, stake, inode } = view;
    let state = stake::state(stake.word);
    let leases = stake::leases(stake.word);
    let pins = stake::pins(stake.word);
    // Without a monitor, only leases are seen: no pin is then not the same as none known.
    let known = snapshot.source.is_some() || pins > 0;
    let (since_ns, until_ns) = match state {
        State::Zombie => (stake.released_ns, stake.released_ns),
        State::Leased => (stake.lease.set_ns, clock.boot_ns()),
        State::Covered | State::BarePin | State::Empty => (stake.pinned_ns, clock.boot_ns()),
    };
    // A zombie may have a lease again: that does not undo the breach.
    let cause = (leases == 0 || state == State::Zombie)
        .then(|| Cause::from_raw(stake.lease.cause))
        .flatten();
    let breaking = leases > 0
        && snapshot.leases.iter().any(|lease| {
            lease.inode_id == key.inode
                && lease.lease.setter.tgid == key.tgid
                && walk.is_breaking(lease.id())
        });
    let owner = names.owner(&stake.owner);
    let file = file(inode);
    Entry {
        releaser: cause.and_then(|_| ledger::releaser(&stake.releaser)),
        breaker: if breaking {
            breaker(inode)
        } else {
            cause
                .filter(|_| stake.lease.is_breaking())
                .and_then(|_| ledger::releaser(&stake.breaker))
        },
        state: known.then(|| walk.standing(view)),
        lease: Lease::of(&stake.lease, until_ns),
        cause,
        leases: Some(leases),
        pins: known.then_some(pins),
        doubtful: pins > 0 && inode.is_doubtful(),
        peak_pins: known.then_some(stake.peak.max(pins)),
        vm_pin_bytes: if known {
            None
        } else {
            process::pinned_bytes(owner.process.pid)
        },
        source: if pins > 0 {
            names.source(stake.owner.tgid, &stake.stack, &stake.context)
        } else {
            PinSource::default()
        },
        ends_by_itself: (state == State::Zombie).then(|| stake.lease.ends_by_itself()),
        age_ms: (since_ns != 0).then(|| elapsed_ms(since_ns, clock.boot_ns())),
        size_bytes: size::of(owner.process.pid, &file, &[]),
        holders: others(view, snapshot),
        breaking: (leases > 0).then_some(breaking),
        held_by: monitor(snapshot).filter(|_| stake.is_held()),
        owner,
        file,
    }
}

fn lease(
    view: &LeaseView,
    breaks: &Breaking,
    snapshot: &Snapshot,
    clock: &Clock,
    names: &mut Names,
) -> Entry {
    let id = view.id();
    let LeaseView {
        inode_id,
        lease,
        inode,
        ..
    } = view;
    let mut holders: Vec<_> = snapshot
        .holders
        .iter()
        .filter(|holder| holder.lease == id)
        .collect();
    holders.sort();
    let keepers: BTreeSet<u32> = holders
        .iter()
        .map(|holder| holder.tgid)
        .chain([lease.setter.tgid])
        .collect();
    let breaking = breaks.contains(id);
    let holders: Vec<_> = holders.into_iter().map(Holder::of).collect();
    let pinned: Vec<_> = snapshot
        .stakes
        .iter()
        .filter(|view| {
            view.key.inode == *inode_id
                && keepers.contains(&view.key.tgid)
                && stake::pins(view.stake.word) > 0
        })
        .collect();
    let pins: u64 = pinned.iter().map(|view| stake::pins(view.stake.word)).sum();
    let known = snapshot.source.is_some() || pins > 0;
    let source = pinned.first().map_or_else(PinSource::default, |view| {
        names.source(view.key.tgid, &view.stake.stack, &view.stake.context)
    });
    let owner = names.owner(&lease.setter);
    let file = file(inode);
    Entry {
        releaser: None,
        breaker: breaker(inode).filter(|_| breaking),
        state: None,
        lease: Lease::of(&lease.info, clock.boot_ns()),
        cause: None,
        leases: None,
        pins: known.then_some(pins),
        doubtful: pins > 0 && view.inode.is_doubtful(),
        peak_pins: None,
        vm_pin_bytes: if known { None } else { vm_pin(&keepers) },
        source,
        ends_by_itself: None,
        age_ms: (lease.info.set_ns != 0).then(|| elapsed_ms(lease.info.set_ns, clock.boot_ns())),
        size_bytes: size::of(owner.process.pid, &file, &holders),
        held_by: monitor(snapshot).filter(|monitor| keepers.contains(&monitor.pid)),
        holders: Some(holders),
        breaking: Some(breaking),
        owner,
        file,
    }
}

/// What /proc/locks says of a lease that nothing else is known of.
fn lock(line: &LockLine, snapshot: &Snapshot) -> Entry {
    let LockLine {
        delegation,
        breaking,
        write,
        pid,
        dev,
        ino,
    } = *line;
    Entry {
        owner: Owner {
            process: ProcessRef {
                pid,
                comm: process::comm(pid).unwrap_or_default(),
            },
            uid: process::uid(pid),
            cgroup: None,
            unit: None,
            container: None,
        },
        releaser: None,
        breaker: None,
        file: File {
            path: None,
            dev: Some(dev),
            ino: Some(ino),
        },
        state: None,
        lease: Some(Lease {
            kind: if delegation { Kind::Deleg } else { Kind::Lease },
            mode: if write { "write" } else { "read" },
            held_ms: None,
        }),
        cause: None,
        leases: None,
        pins: None,
        doubtful: false,
        peak_pins: None,
        vm_pin_bytes: match snapshot.source {
            Some(_) => None,
            None => process::pinned_bytes(pid),
        },
        source: PinSource::default(),
        ends_by_itself: None,
        age_ms: None,
        size_bytes: None,
        holders: None,
        breaking: Some(breaking),
        held_by: None,
    }
}

/// Who holds files on behalf of a rule.
fn monitor(snapshot: &Snapshot) -> Option<ProcessRef> {
    match snapshot.source {
        Some(Source::Monitor(pid)) => Some(ProcessRef {
            pid,
            comm: env!("CARGO_PKG_NAME").to_owned(),
        }),
        Some(Source::Enforcement) | None => None,
    }
}

/// The lines that no entry stands for. Each entry stands for one line; the pids are looked at
/// last, for /proc/locks has those of our pid namespace.
fn missing<'a>(entries: &[Entry], listed: &'a [LockLine]) -> Vec<&'a LockLine> {
    let mut found: HashMap<(u32, u64), Vec<u32>> = HashMap::new();
    for entry in entries {
        if let (Some(Dev(dev)), Some(ino)) = (entry.file.dev, entry.file.ino) {
            found
                .entry((dev, ino))
                .or_default()
                .push(entry.owner.process.pid);
        }
    }
    let (same, other): (Vec<_>, Vec<_>) = listed.iter().partition(|line| {
        let pids = found.get_mut(&(line.dev.0, line.ino));
        pids.is_some_and(|pids| {
            let at = pids.iter().position(|pid| *pid == line.pid);
            at.map(|at| pids.swap_remove(at)).is_some()
        })
    });
    drop(same);
    other
        .into_iter()
        .filter(|line| {
            let pids = found.get_mut(&(line.dev.0, line.ino));
            pids.is_none_or(|pids| pids.pop().is_none())
        })
        .collect()
}

fn vm_pin(pids: &BTreeSet<u32>) -> Option<u64> {
    let known = pids.iter().filter_map(|pid| process::pinned_bytes(*pid));
    known.reduce(u64::saturating_add)
}

/// Which file it is.
pub fn file(view: &InodeView) -> File {
    File {
        path: view.path.as_deref().and_then(FilePath::of),
        dev: view.inode.map(|inode| Dev(inode.dev)),
        ino: view.inode.map(|inode| inode.ino),
    }
}

#[cfg(test)]
mod entries_tests;
