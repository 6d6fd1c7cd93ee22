//! What userspace does in the name of a rule, when the kernel side asks for it: holds files, and
//! sends signals where the process meant was not the current one.

mod doubts;
mod hold;
mod process;
mod wanted;

use std::time::Duration;

use lease_trace_common::{
    count::Count,
    event::{Event, EventKind},
    policy::Action,
    verdict::Outcome,
};

use self::{doubts::Doubts, hold::Holds};
use crate::{
    clock::Clock,
    record::Name,
    service::{Handed, Store},
    tracer::{self, Tracer},
};

/// Something the kernel side asks for.
#[derive(Debug)]
pub struct Order {
    what: What,
    event: Event,
    path: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Hold,
    LetGo,
    Signal(Action),
    /// The signal of this action, if that is proved.
    Doubt(Action),
}

impl Order {
    /// The order in a notification, if it is one.
    pub fn of(kind: EventKind, event: &Event, path: &[u8]) -> Option<Self> {
        let what = match kind {
            EventKind::Hold => What::Hold,
            EventKind::Unhold => What::LetGo,
            EventKind::Action if event.outcome == Outcome::HandedOver as u32 => {
                What::Signal(Action::from_raw(event.action))
            }
            EventKind::Action if event.outcome == Outcome::Doubtful as u32 => {
                match Action::from_raw(event.action) {
                    action @ (Action::Stop | Action::Kill) => What::Doubt(action),
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(Self {
            what,
            event: *event,
            path: path.to_vec(),
        })
    }
}

/// What was done, to be told.
pub struct Done {
    pub name: Name,
    pub event: Event,
    pub path: Vec<u8>,
    pub outcome: &'static str,
}

/// Carries orders out.
#[derive(Default)]
pub struct Acting {
    holds: Holds,
    doubts: Doubts,
    /// Notifications lost so far.
    lost: u64,
}

impl Acting {
    /// Carries out one order.
    pub fn carry_out(&mut self, order: Order) -> Option<Done> {
        let Order { what, event, path } = order;
        let (name, outcome) = match what {
            What::LetGo if self.holds.is_old(&event) && self.holds.was_discarded(&event) => {
                (Name::HoldEnd, "pins-gone")
            }
            What::Hold | What::LetGo if self.holds.is_old(&event) => return None,
            What::Hold if self.holds.has(&event) => return None,
            What::Hold => match self.holds.take(&event, &path) {
                Ok(()) => (Name::Held, "done"),
                Err(reason) => {
                    log::warn!(
                        "cannot hold a file of process {}: {reason}",
                        event.owner.tgid
                    );
                    (Name::Failed, "too-late")
                }
            },
            What::LetGo => {
                let held = self.holds.let_go(&event)?;
                return Some(held.done(Name::HoldEnd, "pins-gone"));
            }
            What::Signal(action) => signal(&event, action),
            What::Doubt(action) => {
                self.doubts.add(action, &event, path);
                return None;
            }
        };
        Some(Done {
            name,
            event,
            path,
            outcome,
        })
    }

    /// Judges again what was let go on doubt, now that the books of these inodes, by their ids, were found
    /// right; `is_whole`: the walk that found it has ended.
    pub fn proved(
        &mut self,
        right: &[u64],
        is_whole: bool,
        tracer: &Tracer,
    ) -> Result<Vec<Done>, tracer::Error> {
        if self.doubts.is_empty() {
            return Ok(Vec::new());
        }
        let judged = self.doubts.proved(right, tracer)?;
        if is_whole {
            self.doubts.walk_ended();
        }
        let done = |(action, event, path)| {
            let (name, outcome) = signal(&event, action);
            Done {
                name,
                event,
                path,
                outcome,
            }
        };
        Ok(judged.into_iter().map(done).collect())
    }

    /// Lets go of what was held for longer than `limit_ms` after its process let it go.
    pub fn tick(&mut self, limit_ms: u64) -> Vec<Done> {
        self.holds
            .expire(Duration::from_millis(limit_ms))
            .into_iter()
            .map(|held| held.done(Name::HoldEnd, "limit"))
            .collect()
    }

    /// Holds what the stakes ask for, whatever was notified of it, and of what was handed over
    /// only that. From here on, what is held is given into `store`, too.
    pub fn take_over(
        &mut self,
        tracer: &Tracer,
        store: Store,
        handed: Vec<Handed>,
    ) -> Result<Vec<Done>, tracer::Error> {
        self.holds.keep_in(store);
        self.settle(tracer, handed)
    }

    /// The same once more, if notifications were lost since and any file was ever to be held.
    pub fn catch_up(
        &mut self,
        tracer: &Tracer,
        counts: &[u64; Count::LEN],
    ) -> Result<Vec<Done>, tracer::Error> {
        let lost = counts[Count::LostRing as usize];
        let before = std::mem::replace(&mut self.lost, lost);
        if before == lost || counts[Count::HoldRequests as usize] == 0 {
            return Ok(Vec::new());
        }
        self.settle(tracer, Vec::new())
    }

    fn settle(&mut self, tracer: &Tracer, handed: Vec<Handed>) -> Result<Vec<Done>, tracer::Error> {
        // The time first: what is notified later may be in the stakes already, and does no harm.
        let now = Clock::sample().boot_ns();
        let wanted = wanted::wanted(&tracer.stakes()?, &tracer.in_force()?, now);
        Ok(self.holds.settle(&wanted, handed, now))
    }

    /// Whether the files held now are held when this process has ended.
    pub fn outlives_this(&self) -> bool {
        self.holds.store().keeps()
    }

    /// Files held now.
    pub fn held(&self) -> usize {
        self.holds.len()
    }
}

/// Sends the signal of an action to the owner of a stake, if it is still the same process.
fn signal(event: &Event, action: Action) -> (Name, &'static str) {
    let (name, signal) = match action {
        Action::Stop => (Name::Stopped, rustix::process::Signal::STOP),
        _ => (Name::Killed, rustix::process::Signal::KILL),
    };
    let sent = process::open(event.owner.tgid, event.started_ns).and_then(|process| {
        rustix::process::pidfd_send_signal(process, signal).map_err(std::io::Error::from)
    });
    match sent {
        Ok(()) => (name, "done"),
        Err(error) => {
            log::warn!("cannot signal process {}: {error}", event.owner.tgid);
            (Name::Failed, "gone")
        }
    }
}
