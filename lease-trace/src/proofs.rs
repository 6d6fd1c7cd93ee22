//! Holds the books against the page caches, and against the kernel's lists of leases, for as long as somebody watches.

use std::time::{Duration, Instant};

use crate::{session::Session, tracer::Tracer};

/// When to look next.
pub struct Proofs {
    next: Instant,
    /// What the walk under way has taken so far.
    taken: Duration,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            next: Instant::now(),
            taken: Duration::ZERO,
        }
    }
}

impl Proofs {
    /// A walk takes no more than this part of the time, however long it is, and never so long at once.
    const SHARE: u32 = 100;
    const AT_ONCE: Duration = Duration::from_millis(10);

    /// Looks, if it is time and the books have any pins. What stays too high is told, and right from then on.
    pub fn run(&mut self, tracer: &mut Tracer, session: &mut Session) -> anyhow::Result<()> {
        let begun = Instant::now();
        if begun < self.next || !tracer.has_pins()? {
            return Ok(());
        }
        let Some(look) = tracer.prove(Self::AT_ONCE) else {
            return Ok(());
        };
        for correction in &look.corrected {
            session.corrected(correction)?;
        }
        self.taken += begun.elapsed();
        if look.is_whole {
            self.next = begun + self.taken * Self::SHARE;
            self.taken = Duration::ZERO;
        }
        Ok(())
    }
}

/// When to look next for leases whose end was missed.
pub struct Lapses {
    next: Instant,
    /// What the look under way has taken so far.
    taken: Duration,
}

impl Default for Lapses {
    fn default() -> Self {
        Self {
            next: Instant::now() + Self::EVERY,
            taken: Duration::ZERO,
        }
    }
}

impl Lapses {
    const EVERY: Duration = Duration::from_secs(1);

    /// As [`Proofs::run`] does.
    pub fn run(&mut self, tracer: &mut Tracer) {
        let begun = Instant::now();
        if begun < self.next {
            return;
        }
        let is_whole = tracer.end_lapsed(Proofs::AT_ONCE);
        self.taken += begun.elapsed();
        if is_whole {
            self.next = begun + Self::EVERY.max(self.taken * Proofs::SHARE);
            self.taken = Duration::ZERO;
        }
    }
}
