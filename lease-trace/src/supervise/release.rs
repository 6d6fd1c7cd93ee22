//! Whether a call would release a lease with pins left, and whose.
//!
//! The kernel side says of each reference whose pins the end of its lease would leave uncovered;
//! here is decided whether the call ends it. A process has its references in descriptors and
//! mappings; a lease ends with the last reference of all.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use lease_trace_common::cause::Cause;

use super::{call::Call, process::Caller};
use crate::tracer::{
    Over,
    snapshot::{Place, Reference},
    watch::Watch,
};

/// A lease that would go with pins left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Inode id.
    pub inode: u64,
    /// Whose pins would be left.
    pub owner: u32,
    pub cause: Cause,
}

/// References that a call was let drop while others of the same file remain. Until it has dropped
/// them they still count, and a second call must not be let go by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dropping {
    file: u64,
    /// An address may soon be another file's.
    inode: u64,
    caller: Caller,
    place: Place,
    since: Instant,
    /// When a walk missed the reference first.
    gone: Option<Instant>,
}

/// A call let go takes no longer than this; it may have failed, too.
const LONGEST: Duration = Duration::from_secs(10);

/// What is not found any more may still count: a walk reads a file's references at one moment and misses a
/// descriptor at a later one, and close(2) takes the descriptor out before it drops the reference
/// (fs/open.c, `filp_close`). It does not count for longer than this.
const SETTLING: Duration = Duration::from_millis(100);

/// What a call does to a lease with pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nothing: other references remain, or no pins would.
    Nothing,
    /// The lease would go.
    Lease(Breach),
    /// Whether others remain is known only once those that are about to go have gone.
    Unsettled,
}

/// Everything let go that has not been seen to be gone.
#[derive(Debug, Default)]
pub struct InFlight(Vec<Dropping>);

impl InFlight {
    /// A thread that makes a call has done with the one before.
    pub fn done(&mut self, tid: u32) {
        self.0.retain(|dropping| dropping.caller.tid != tid);
    }

    /// Notes what this walk over a process shows to be gone, and forgets what has been for a while.
    fn seen(&mut self, tgid: u32, over: Over, there: &[Reference]) {
        self.0.retain_mut(|dropping| {
            let is_of_walk = dropping.caller.tgid == tgid
                && matches!(
                    (dropping.place, over),
                    (Place::Descriptor(_), Over::Descriptors)
                        | (Place::Mapping(..), Over::Mappings)
                );
            let is_there = |found: &Reference| {
                (found.file, found.inode, found.place)
                    == (dropping.file, dropping.inode, dropping.place)
            };
            if is_of_walk && !there.iter().any(is_there) {
                dropping.gone.get_or_insert_with(Instant::now);
            }
            dropping.since.elapsed() < LONGEST
                && dropping.gone.is_none_or(|gone| gone.elapsed() < SETTLING)
        });
    }

    /// How many of a file's references are about to go, those of this process at these places
    /// aside; and how many are gone, and may have been counted when the file was looked at.
    fn count(&self, of: &Reference, tgid: u32, but: &[Reference]) -> (u64, u64) {
        let is_meant = |dropping: &Dropping| {
            dropping.gone.is_none()
                && dropping.caller.tgid == tgid
                && but.iter().any(|found| found.place == dropping.place)
        };
        let others = self
            .0
            .iter()
            .filter(|dropping| (dropping.file, dropping.inode) == (of.file, of.inode))
            .filter(|dropping| !is_meant(dropping));
        others.fold((0, 0), |(going, gone), dropping| match dropping.gone {
            None => (going + 1, gone),
            Some(_) => (going, gone + 1),
        })
    }

    /// Threads that have ended have done with their calls, too.
    fn see_who_has_ended(&mut self, file: u64) {
        for dropping in &mut self.0 {
            if dropping.file == file && Caller::of(dropping.caller.tid) != Some(dropping.caller) {
                dropping.gone.get_or_insert_with(Instant::now);
            }
        }
    }

    fn add(&mut self, caller: Caller, dropped: &[Reference]) {
        self.0.extend(dropped.iter().map(|found| Dropping {
            file: found.file,
            inode: found.inode,
            caller,
            place: found.place,
            since: Instant::now(),
            gone: None,
        }));
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One look at the processes: each is walked over once, however many of its threads ask.
pub struct Look<'a> {
    watch: &'a Watch,
    in_flight: &'a mut InFlight,
    walked: HashMap<(u32, Over), Vec<Reference>>,
}

impl<'a> Look<'a> {
    pub fn new(watch: &'a Watch, in_flight: &'a mut InFlight) -> Self {
        Self {
            watch,
            in_flight,
            walked: HashMap::new(),
        }
    }

    /// What a call would release.
    pub fn released(&mut self, call: &Call, caller: Caller) -> io::Result<Released> {
        let (cause, dropped) = match call {
            Call::Unlock { fd } => {
                let found = self.at(caller, |at| at == Place::Descriptor(*fd))?;
                let breach = found.first().and_then(|found| breach(found, Cause::Unlock));
                return Ok(breach.map_or(Released::Nothing, Released::Lease));
            }
            Call::Close { fd } => (
                Cause::Close,
                self.at(caller, |at| at == Place::Descriptor(*fd))?,
            ),
            Call::Dup { old, new, .. } if caller.has(*old) => (
                Cause::Dup2,
                self.at(caller, |at| at == Place::Descriptor(*new))?,
            ),
            Call::CloseRange {
                first,
                last,
                unshare,
            } if !(*unshare && caller.shares_descriptors()) => (
                Cause::CloseRange,
                self.at(
                    caller,
                    |at| matches!(at, Place::Descriptor(fd) if (*first..=*last).contains(&fd)),
                )?,
            ),
            Call::Unmap { spans, .. } => {
                let is_whole = |start, end| {
                    let mut spans = spans.iter();
                    spans.any(|(first, behind)| *first <= start && end <= *behind)
                };
                let mapped = self.walk(caller.tgid, Over::Mappings)?.iter();
                let dropped = mapped
                    .filter(
                        |found| matches!(found.place, Place::Mapping(start, end) if is_whole(start, end)),
                    )
                    .copied()
                    .collect();
                (Cause::Munmap, dropped)
            }
            Call::Exec { .. } => (Cause::Exec, self.by_exec(caller)?),
            _ => return Ok(Released::Nothing),
        };
        Ok(self.last_of(caller, &dropped, cause))
    }

    fn at(
        &mut self,
        caller: Caller,
        is_meant: impl Fn(Place) -> bool,
    ) -> io::Result<Vec<Reference>> {
        let found = self.walk(caller.tgid, Over::Descriptors)?.iter();
        Ok(found
            .filter(|found| is_meant(found.place))
            .copied()
            .collect())
    }

    /// A program that is executed has neither the mappings nor the descriptors that close by
    /// themselves; what others have in common with the process stays theirs.
    fn by_exec(&mut self, caller: Caller) -> io::Result<Vec<Reference>> {
        let mut dropped = self.at(
            caller,
            |at| matches!(at, Place::Descriptor(fd) if caller.closes_on_exec(fd)),
        )?;
        if !caller.shares_memory() {
            dropped.extend_from_slice(self.walk(caller.tgid, Over::Mappings)?);
        }
        Ok(dropped)
    }

    fn walk(&mut self, tgid: u32, over: Over) -> io::Result<&[Reference]> {
        if !self.walked.contains_key(&(tgid, over)) {
            let found = self.watch.references(tgid, over)?;
            self.in_flight.seen(tgid, over, &found);
            self.walked.insert((tgid, over), found);
        }
        Ok(&self.walked[&(tgid, over)])
    }

    /// The first file of which these references are the last. Else they are on their way.
    fn last_of(&mut self, caller: Caller, dropped: &[Reference], cause: Cause) -> Released {
        let mut unsettled = false;
        for found in dropped {
            let Some(breach) = breach(found, cause) else {
                continue;
            };
            let own = dropped.iter().filter(|other| other.file == found.file);
            let own = own.count() as u64;
            let (mut going, mut gone) = self.in_flight.count(found, caller.tgid, dropped);
            if going > 0 && found.references <= own + going {
                self.in_flight.see_who_has_ended(found.file);
                (going, gone) = self.in_flight.count(found, caller.tgid, dropped);
            }
            if found.references <= own + going {
                return Released::Lease(breach);
            }
            unsettled |= found.references <= own + going + gone;
        }
        if unsettled {
            return Released::Unsettled;
        }
        let matter: Vec<_> = dropped
            .iter()
            .filter(|found| found.uncovers != 0)
            .copied()
            .collect();
        self.in_flight.add(caller, &matter);
        Released::Nothing
    }
}

fn breach(found: &Reference, cause: Cause) -> Option<Breach> {
    (found.uncovers != 0).then_some(Breach {
        inode: found.inode,
        owner: found.uncovers,
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(fd: u32) -> Reference {
        Reference {
            place: Place::Descriptor(fd),
            file: 0xffff_8880_0000_1000,
            inode: 7,
            references: 2,
            uncovers: 4711,
        }
    }

    const CALLER: Caller = Caller {
        tid: 4712,
        tgid: 4711,
    };

    #[test]
    fn what_is_about_to_go_counts_until_it_is_gone() {
        let mut going = InFlight::default();
        going.add(CALLER, &[at(3)]);
        assert_eq!(going.count(&at(4), 4711, &[at(4)]), (1, 0));
        assert_eq!(
            going.count(&at(3), 4711, &[at(3)]),
            (0, 0),
            "the same call again"
        );
        assert_eq!(going.count(&at(3), 99, &[at(3)]), (1, 0), "another process");
        going.seen(4711, Over::Mappings, &[]);
        going.seen(99, Over::Descriptors, &[]);
        going.seen(4711, Over::Descriptors, &[at(3), at(4)]);
        assert_eq!(going.count(&at(4), 4711, &[at(4)]), (1, 0));
        let other = Reference { inode: 8, ..at(4) };
        assert_eq!(
            going.count(&other, 4711, &[other]),
            (0, 0),
            "the same address"
        );
        going.done(CALLER.tgid);
        assert!(!going.is_empty());
        going.done(CALLER.tid);
        assert!(going.is_empty());
    }

    /// The file was looked at before the other descriptor was missed.
    #[test]
    fn what_is_just_gone_may_still_be_counted() {
        let mut going = InFlight::default();
        going.add(CALLER, &[at(5)]);
        going.seen(4711, Over::Descriptors, &[at(4)]);
        assert_eq!(going.count(&at(4), 4711, &[at(4)]), (0, 1));
        assert_eq!(
            going.count(&at(5), 4711, &[at(5)]),
            (0, 1),
            "the descriptor is another's by now"
        );
        going.0[0].gone = Instant::now().checked_sub(SETTLING);
        going.seen(4711, Over::Descriptors, &[at(4)]);
        assert!(going.is_empty());
    }

    #[test]
    fn only_pins_make_a_breach() {
        assert_eq!(
            breach(&at(3), Cause::Close),
            Some(Breach {
                inode: 7,
                owner: 4711,
                cause: Cause::Close
            })
        );
        let free = Reference {
            uncovers: 0,
            ..at(3)
        };
        assert_eq!(breach(&free, Cause::Close), None);
    }
}
