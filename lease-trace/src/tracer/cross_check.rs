//! Pins counted twice: by the hooks, and by the kernel. What passes none of the hooks shows as a
//! difference that stays.

use std::{borrow::Borrow, collections::VecDeque, thread, time::Duration};

use aya::maps::{Array, MapData};
use lease_trace_common::count::{Count, PerCpu};
use serde::Serialize;

use super::{
    AttachMode, Options, Tracer,
    attach::{self, Attachment},
    error::Error,
    maps,
    object::{self, Purpose},
    raw::Link,
};
use crate::kernel::{
    points::Group,
    vmstat::{self, Flow},
};

/// FOLL_PIN references of any kind, as the hooks and as the kernel count them.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CrossCheck {
    /// Taken, as the hooks have it.
    pub taken: u64,
    /// Dropped, as the hooks have it.
    pub dropped: u64,
    /// The same by /proc/vmstat.
    pub kernel_taken: u64,
    /// The same by /proc/vmstat.
    pub kernel_dropped: u64,
    /// Held by the kernel's count and not by that of the hooks; below zero the other way round.
    pub escaped: i64,
}

/// Looks in a row of which one must find nothing under way.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Both counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both {
    pub hooks: Flow,
    pub kernel: Flow,
}

impl Both {
    /// Both counts of `counts` and of the kernel, if nothing was under way meanwhile.
    pub fn read(counts: impl Fn() -> Result<Flow, Error>) -> Result<Option<Self>, Error> {
        for _ in 0..LOOKS {
            let hooks = counts()?;
            let kernel = vmstat::pins().map_err(Error::Vmstat)?;
            if counts()? == hooks {
                return Ok(Some(Self { hooks, kernel }));
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        Ok(None)
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            hooks: self.hooks.since(earlier.hooks),
            kernel: self.kernel.since(earlier.kernel),
        }
    }

    /// References that the kernel has and the hooks have not seen; below zero the other way round.
    pub const fn escaped(self) -> i64 {
        self.kernel.held() - self.hooks.held()
    }
}

/// What the hooks have counted. Nothing else is read: with kprobes the kernel skips a program on a
/// CPU where somebody is inside bpf(2) on a map.
fn flow<T: Borrow<MapData>>(map: &Array<T, PerCpu>) -> Result<Flow, Error> {
    let counts = maps::counts(map)?;
    Ok(Flow {
        taken: counts[Count::AllTaken as usize],
        dropped: counts[Count::AllDropped as usize],
    })
}

/// The hooks that see pins, and what they count. Dropping it detaches them.
pub struct Hooks {
    counts: Array<MapData, PerCpu>,
    _links: Vec<Link>,
}

impl Hooks {
    pub fn start(attach: AttachMode) -> Result<Self, Error> {
        let options = Options {
            cross_check: true,
            ..Options::default()
        };
        let mut object = object::load(options, Purpose::default())?;
        let groups = [Group::PinsDropped, Group::PinsTaken];
        let attachments = attach::attach_groups(&mut object, attach, None, &groups)?;
        attach::require(&attachments)?;
        for loss in attachments.iter().filter_map(Attachment::loss) {
            log::warn!("{loss}");
        }
        let counts = object.maps.take(PerCpu::MAP)?;
        let counts = Array::try_from(counts)
            .map_err(|error| Error::maps("cannot open the map", PerCpu::MAP, error))?;
        Ok(Self {
            counts,
            _links: object.links,
        })
    }

    pub fn read(&self) -> Result<Option<Both>, Error> {
        Both::read(|| flow(&self.counts))
    }
}

/// A difference must last for so many looks: a call under way is in one count before the other.
const LASTING: usize = 3;

/// The cross-check of a running monitor, look by look.
pub struct CrossChecker {
    first: Both,
    looks: VecDeque<Both>,
}

impl CrossChecker {
    pub fn start(tracer: &Tracer) -> Result<Self, Error> {
        if tracer.is_in_place() {
            return Err(Error::CrossCheckInPlace);
        }
        Ok(Self {
            first: both(tracer)?.ok_or(Error::Busy)?,
            looks: VecDeque::from([Both::default(); LASTING - 1]),
        })
    }

    /// What has come together since the start.
    pub fn look(&mut self, tracer: &Tracer) -> Result<CrossCheck, Error> {
        if let Some(both) = both(tracer)? {
            self.looks.push_back(both.since(self.first));
            if self.looks.len() > LASTING {
                self.looks.pop_front();
            }
        }
        Ok(lasting(self.looks.make_contiguous()))
    }
}

fn both(tracer: &Tracer) -> Result<Option<Both>, Error> {
    Both::read(|| flow(&tracer.maps.counts))
}

/// The last look, with the difference that lasted through all of them. A call under way only ever
/// adds to it: pins are counted by the hooks when the kernel has taken them, and before it drops
/// them.
pub fn lasting(looks: &[Both]) -> CrossCheck {
    let Both { hooks, kernel } = looks.last().copied().unwrap_or_default();
    let escaped = looks.iter().map(|both| both.escaped());
    CrossCheck {
        taken: hooks.taken,
        dropped: hooks.dropped,
        kernel_taken: kernel.taken,
        kernel_dropped: kernel.dropped,
        escaped: escaped.min().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(hooks: (u64, u64), kernel: (u64, u64)) -> Both {
        let flow = |(taken, dropped)| Flow { taken, dropped };
        Both {
            hooks: flow(hooks),
            kernel: flow(kernel),
        }
    }

    #[test]
    fn what_was_there_before_is_nobodys_escape() {
        let first = both((0, 0), (500, 100));
        let later = both((30, 10), (530, 110)).since(first);
        assert_eq!(later, both((30, 10), (30, 10)));
        assert_eq!(later.escaped(), 0);
    }

    #[test]
    fn only_what_lasts_has_escaped() {
        let look = |taken| both((10, 2), (taken, 2));
        assert_eq!(lasting(&[look(14), look(10), look(12)]).escaped, 0);
        assert_eq!(lasting(&[look(14), look(13), look(15)]).escaped, 3);
        assert_eq!(lasting(&[look(9), look(6), look(7)]).escaped, -4);
    }

    #[test]
    fn a_pin_that_no_hook_saw_has_escaped() {
        let first = both((0, 0), (500, 100));
        assert_eq!(both((30, 10), (533, 110)).since(first).escaped(), 3);
        assert_eq!(both((30, 10), (530, 112)).since(first).escaped(), -2);
    }
}
