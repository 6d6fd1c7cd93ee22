//! Whether a call would release a lease with pins left, and whose.
//!
//! The kernel side says of each reference whose pins the end of its lease would leave uncovered;
//! here is decided whether the call ends it. A process has its references in descriptors and
//! mappings; a lease ends with the last reference of all.

use std::{
    collections::{HashMap, HashSet},
    io,
    time::{Duration, Instant},
};

use lease_trace_common::cause::Cause;

use super::{call::Call, process::Caller};
use crate::tracer::{
    Over,
    snapshot::{Place, Reference},
    wakeup::Watch,
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
    /// Which call it is.
    number: u32,
    place: Place,
    since: Instant,
    /// When a walk missed the reference first.
    gone: Option<Instant>,
}

/// A call let go takes no longer than this; it may have failed, too.
const LONGEST: Duration = Duration::from_secs(3);

/// Before this it is not asked whether a thread has done with its call.
const SHORT: Duration = Duration::from_millis(50);

/// What is not found any more may still count: a walk reads a file's references at one moment and misses a
/// descriptor at a later one, and close(2) takes the descriptor out before it drops the reference
/// (fs/open.c, `filp_close`). After so long it does no more, but where the call is still seen to be made.
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

    /// Forgets calls that are known to be done: before a walk, whose counts are right for that.
    fn forget_done(&mut self) {
        self.0.retain(|dropping| {
            let elapsed = dropping.since.elapsed();
            elapsed < SHORT
                || elapsed < LONGEST && !dropping.caller.has_done_with(dropping.number)
                || dropping.caller.is_inside(dropping.number)
        });
    }

    /// Notes what this walk over a process shows to be gone, and forgets what has been for a while.
    fn seen(&mut self, tgid: u32, over: Over, there: &[Reference]) {
        self.0.retain_mut(|dropping| {
            if dropping.is_of(tgid, over) && !there.iter().any(|found| dropping.is_at(found)) {
                dropping.gone.get_or_insert_with(Instant::now);
            }
            let is_settled = dropping.gone.is_some_and(|gone| gone.elapsed() >= SETTLING);
            // munmap(2) and execve(2) take a mapping out first, and clear its pages before they drop the file.
            let is_long = matches!(dropping.place, Place::Mapping(..));
            !is_settled
                || is_long && !dropping.caller.has_done_with(dropping.number)
                || dropping.caller.is_inside(dropping.number)
        });
    }

    /// Which other references the file of `of` has beside those that a call of this process drops. `there` is what
    /// was found in the process: one of these that stays is enough, whatever was counted.
    fn others<'a>(
        &self,
        of: &Reference,
        tgid: u32,
        dropped: &[Reference],
        mut there: impl Iterator<Item = &'a Reference>,
    ) -> Others {
        let is_dropped = |place: Place| dropped.iter().any(|found| found.place == place);
        let own = dropped.iter().filter(|found| found.file == of.file);
        let own = own.count() as u64;
        let (mut going, mut gone) = (0, 0);
        for dropping in &self.0 {
            let is_meant = dropping.caller.tgid == tgid && is_dropped(dropping.place);
            match dropping.gone {
                _ if (dropping.file, dropping.inode) != (of.file, of.inode) => {}
                Some(_) => gone += 1,
                // The same call again.
                None if is_meant => {}
                None => going += 1,
            }
        }
        if of.references > own + going + gone {
            return Others::Some;
        }
        // Whoever lets it go: processes may share their descriptors.
        let is_going = |found: &Reference| {
            let mut all = self.0.iter();
            all.any(|going| going.gone.is_none() && going.is_at(found))
        };
        let stays = |found: &Reference| {
            (found.file, found.inode) == (of.file, of.inode)
                && !is_dropped(found.place)
                && !is_going(found)
        };
        if there.any(stays) {
            Others::Some
        } else if of.references <= own + going {
            Others::None
        } else {
            Others::Unsettled
        }
    }

    /// Which processes are letting go of this file, and where: each once, however many of its threads do.
    fn walks_of(&self, of: &Reference) -> HashSet<(u32, Over)> {
        let these = self.0.iter().filter(|dropping| {
            dropping.gone.is_none() && (dropping.file, dropping.inode) == (of.file, of.inode)
        });
        these
            .map(|dropping| (dropping.caller.tgid, over(dropping.place)))
            .collect()
    }

    /// The call is let go: what it drops is on its way, as far as it matters to pins.
    fn add(&mut self, caller: Caller, number: u32, dropped: &[Reference]) {
        let matter = dropped.iter().filter(|found| found.uncovers != 0);
        self.0.extend(matter.map(|found| Dropping {
            file: found.file,
            inode: found.inode,
            caller,
            number,
            place: found.place,
            since: Instant::now(),
            gone: None,
        }));
    }
}

impl Dropping {
    fn is_of(&self, tgid: u32, over_what: Over) -> bool {
        self.caller.tgid == tgid && over(self.place) == over_what
    }

    fn is_at(&self, found: &Reference) -> bool {
        (found.file, found.inode, found.place) == (self.file, self.inode, self.place)
    }
}

/// The walk that finds what is at this place.
const fn over(place: Place) -> Over {
    match place {
        Place::Descriptor(_) => Over::Descriptors,
        Place::Mapping(..) => Over::Mappings,
    }
}

/// The references to a file that a call does not drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// There are some.
    Some,
    /// There are none, or they are about to go.
    None,
    /// There are none but what may be gone already.
    Unsettled,
}

/// One look at the processes: each is walked over once, however many of its threads ask.
pub struct Look<'a> {
    watch: &'a Watch,
    in_flight: &'a mut InFlight,
    walked: HashMap<(u32, Over), Vec<Reference>>,
}

impl<'a> Look<'a> {
    pub fn new(watch: &'a Watch, in_flight: &'a mut InFlight) -> Self {
        in_flight.forget_done();
        Self {
            watch,
            in_flight,
            walked: HashMap::new(),
        }
    }

    /// What a call with this number would release. If that is unsettled and nobody is patient any more, others have
    /// come and gone all the time: there were some at each look.
    pub fn released(
        &mut self,
        call: &Call,
        number: u32,
        caller: Caller,
        is_patient: bool,
    ) -> io::Result<Released> {
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
        let released = match self.last_of(caller, &dropped, cause)? {
            Released::Unsettled if !is_patient => Released::Nothing,
            released => released,
        };
        if released == Released::Nothing {
            self.in_flight.add(caller, number, &dropped);
        }
        Ok(released)
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

    /// The call is not made after all.
    pub fn forget(&mut self, tid: u32) {
        self.in_flight.done(tid);
    }

    fn walk(&mut self, tgid: u32, over: Over) -> io::Result<&[Reference]> {
        if !self.walked.contains_key(&(tgid, over)) {
            let found = self.watch.references(tgid, over)?;
            self.in_flight.seen(tgid, over, &found);
            self.walked.insert((tgid, over), found);
        }
        Ok(&self.walked[&(tgid, over)])
    }

    /// The first file of which these references are the last.
    fn last_of(
        &mut self,
        caller: Caller,
        dropped: &[Reference],
        cause: Cause,
    ) -> io::Result<Released> {
        let mut unsettled = false;
        for found in dropped {
            let Some(breach) = breach(found, cause) else {
                continue;
            };
            if self.others(found, caller, dropped) == Others::None {
                // Some may be gone by now, or from processes that were not looked at. What is found after the
                // count was read was in it.
                for (tgid, over) in self.in_flight.walks_of(found) {
                    self.walked.remove(&(tgid, over));
                    self.walk(tgid, over)?;
                }
            }
            match self.others(found, caller, dropped) {
                Others::Some => {}
                Others::None => return Ok(Released::Lease(breach)),
                Others::Unsettled => unsettled = true,
            }
        }
        Ok(if unsettled {
            Released::Unsettled
        } else {
            Released::Nothing
        })
    }

    fn others(&self, found: &Reference, caller: Caller, dropped: &[Reference]) -> Others {
        let walks = [Over::Descriptors, Over::Mappings].map(|over| (caller.tgid, over));
        let there = walks.iter().filter_map(|walk| self.walked.get(walk));
        self.in_flight
            .others(found, caller.tgid, dropped, there.flatten())
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

    const CLOSE: u32 = libc::SYS_close as u32;

    /// What closing descriptor 4 of two leaves, where these are found.
    fn others(going: &InFlight, tgid: u32, there: &[Reference]) -> Others {
        going.others(&at(4), tgid, &[at(4)], there.iter())
    }

    #[test]
    fn what_is_about_to_go_counts_until_it_is_gone() {
        let mut going = InFlight::default();
        assert_eq!(others(&going, 4711, &[at(4)]), Others::Some, "elsewhere");
        going.add(CALLER, CLOSE, &[at(3)]);
        assert_eq!(others(&going, 4711, &[at(3), at(4)]), Others::None);
        assert_eq!(
            others(&going, 99, &[at(4)]),
            Others::None,
            "another process"
        );
        assert_eq!(
            going.others(&at(3), 4711, &[at(3)], [at(3)].iter()),
            Others::Some,
            "the same call again"
        );
        going.seen(4711, Over::Mappings, &[]);
        going.seen(99, Over::Descriptors, &[]);
        going.seen(4711, Over::Descriptors, &[at(3), at(4)]);
        assert_eq!(others(&going, 4711, &[at(3), at(4)]), Others::None);
        let other = Reference { inode: 8, ..at(4) };
        assert_eq!(
            going.others(&other, 4711, &[other], [other].iter()),
            Others::Some,
            "the same address"
        );
        going.done(CALLER.tgid);
        assert!(!going.0.is_empty());
        going.done(CALLER.tid);
        assert!(going.0.is_empty());
    }

    /// The file was looked at before the other descriptor was missed.
    #[test]
    fn what_is_just_gone_may_still_be_counted() {
        let mut going = InFlight::default();
        going.add(CALLER, CLOSE, &[at(5)]);
        going.seen(4711, Over::Descriptors, &[at(4)]);
        assert_eq!(others(&going, 4711, &[at(4)]), Others::Unsettled);
        let three = Reference {
            references: 3,
            ..at(4)
        };
        assert_eq!(
            going.others(&three, 4711, &[three], [three].iter()),
            Others::Some,
            "more than can be gone"
        );
        going.0[0].gone = Instant::now().checked_sub(SETTLING);
        going.seen(4711, Over::Descriptors, &[at(4)]);
        assert!(going.0.is_empty());
    }

    /// What is found, and not on its way, is enough, whatever else is said to go.
    #[test]
    fn a_reference_that_stays_is_one() {
        let mut going = InFlight::default();
        going.add(CALLER, CLOSE, &[at(5)]);
        assert_eq!(others(&going, 4711, &[at(3), at(4)]), Others::Some);
        going.seen(4711, Over::Descriptors, &[at(3), at(4)]);
        assert_eq!(others(&going, 4711, &[at(3), at(4)]), Others::Some);
        assert_eq!(others(&going, 4711, &[at(4)]), Others::Unsettled);
    }

    #[test]
    fn other_processes_that_let_go_are_looked_at() {
        let mut going = InFlight::default();
        going.add(CALLER, CLOSE, &[at(5)]);
        going.add(CALLER, CLOSE, &[at(6)]);
        let once = HashSet::from([(4711, Over::Descriptors)]);
        assert_eq!(going.walks_of(&at(4)), once);
        going.seen(4711, Over::Descriptors, &[]);
        assert_eq!(going.walks_of(&at(4)), HashSet::new());
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
