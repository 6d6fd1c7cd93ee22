//! What userspace does on behalf of a rule, when the kernel side asks for it: holds files, and
//! sends signals where the process meant was not the current one.

mod doubt;
mod hold;
mod orders;
mod process;
mod wanted;

use std::time::Duration;

use lease_trace_common::{
    count::Count,
    event::{Event, EventKind},
    policy::Action,
    verdict::Outcome,
};

use self::{doubt::Doubts, hold::Holds, orders::Orders};
use crate::{
    clock::Clock,
    record::Name,
    service::{Handed, Store},
    tracer::{self, Tracer},
};

/// Something the kernel side asks for.
#[derive(Debug)]
pub struct Request {
    kind: RequestKind,
    event: Event,
    path: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    Hold,
    Release,
    Signal(Action),
    /// A signal that waits until it is known that the pins are the process's, or stay.
    Later,
    /// Pins without a lease: a rule may have ordered something if they stay.
    Bare,
}

impl Request {
    /// The request in a notification, if it is one.
    pub fn of(kind: EventKind, event: &Event, path: &[u8]) -> Option<Self> {
        let kind = match kind {
            EventKind::Hold => RequestKind::Hold,
            EventKind::Unhold => RequestKind::Release,
            EventKind::Action if event.outcome == Outcome::HandedOver as u32 => {
                if event.doubtful != 0 || !event.lease.is_lease() {
                    RequestKind::Later
                } else {
                    RequestKind::Signal(Action::from_raw(event.action))
                }
            }
            EventKind::BarePin => RequestKind::Bare,
            _ => return None,
        };
        Some(Self {
            kind,
            event: *event,
            path: path.to_vec(),
        })
    }

    /// Whether its notification tells of something, too.
    pub fn is_told(&self) -> bool {
        self.kind == RequestKind::Bare
    }
}

/// What was done, to be told.
pub struct ActionTaken {
    pub name: Name,
    pub event: Event,
    pub path: Vec<u8>,
    pub outcome: &'static str,
}

/// Carries requests out.
#[derive(Default)]
pub struct Actions {
    holds: Holds,
    orders: Orders,
    doubts: Doubts,
    /// Some of them wait until what their stakes count is known to be right.
    some_wait: bool,
    /// There are pins without a lease since the stakes were last looked at.
    some_bare: bool,
    /// Notifications lost so far.
    lost: u64,
}

impl Actions {
    /// Carries out one request.
    pub fn carry_out(&mut self, request: Request) -> Option<ActionTaken> {
        let Request { kind, event, path } = request;
        let (name, outcome) = match kind {
            RequestKind::Release
                if self.holds.is_old(&event) && self.holds.was_discarded(&event) =>
            {
                (Name::HoldEnd, "pins-gone")
            }
            RequestKind::Hold | RequestKind::Release if self.holds.is_old(&event) => return None,
            RequestKind::Hold if self.holds.has(&event) => return None,
            RequestKind::Hold => match self.holds.take(&event, &path) {
                Ok(()) => (Name::Held, "done"),
                Err(reason) => {
                    log::warn!(
                        "cannot hold a file of process {}: {reason}",
                        event.owner.tgid
                    );
                    (Name::Failed, "too-late")
                }
            },
            RequestKind::Release => {
                let held = self.holds.let_go(&event)?;
                return Some(held.done(Name::HoldEnd, "pins-gone"));
            }
            RequestKind::Later => {
                self.orders.keep_rule(&event);
                self.some_wait = true;
                return None;
            }
            RequestKind::Bare => {
                self.some_bare = true;
                return None;
            }
            RequestKind::Signal(_) if !self.orders.is_new(&event, Clock::sample().boot_ns()) => {
                return None;
            }
            RequestKind::Signal(action) => signal(&event, action),
        };
        Some(ActionTaken {
            name,
            event,
            path,
            outcome,
        })
    }

    /// Lets go of what was held for longer than `limit_ms` after its process let it go.
    pub fn tick(&mut self, limit_ms: u64) -> Vec<ActionTaken> {
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
    ) -> Result<Vec<ActionTaken>, tracer::Error> {
        self.holds.keep_in(store);
        self.orders.begin(Clock::sample().boot_ns());
        self.reconcile(tracer, handed)
    }

    /// The same once more, and signals that were asked for, if notifications were lost since and anything was ever
    /// asked for, or if some wait for a proof.
    pub fn catch_up(
        &mut self,
        tracer: &Tracer,
        counts: &[u64; Count::LEN],
    ) -> Result<Vec<ActionTaken>, tracer::Error> {
        let lost = counts[Count::LostRing as usize];
        let before = std::mem::replace(&mut self.lost, lost);
        let asked = [Count::HoldRequests, Count::HandedOver].map(|count| counts[count as usize]);
        // Of bare pins the stakes may have orders that nobody was notified of.
        let is_bare =
            (std::mem::take(&mut self.some_bare) || before != lost) && tracer.header()?.bare_pins();
        let is_lost = before != lost && asked != [0, 0];
        if !(self.some_wait || is_bare || is_lost) {
            return Ok(Vec::new());
        }
        self.reconcile(tracer, Vec::new())
    }

    fn reconcile(
        &mut self,
        tracer: &Tracer,
        handed: Vec<Handed>,
    ) -> Result<Vec<ActionTaken>, tracer::Error> {
        // The time first: what is notified later may be in the stakes already, and does no harm.
        let now = Clock::sample().boot_ns();
        let stakes = tracer.stakes()?;
        let wanted = wanted::wanted(&stakes, &tracer.in_force()?, now);
        let mut done = self.holds.reconcile(&wanted, handed, now);
        let outstanding = self.orders.outstanding(&stakes, now);
        self.some_wait = outstanding.some_are_young || !outstanding.waiting.is_empty();
        let settled = self.doubts.settled(outstanding.waiting, now)?;
        let requests = outstanding.requests.into_iter().chain(settled);
        done.extend(requests.filter_map(|order| self.carry_out(order)));
        Ok(done)
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
