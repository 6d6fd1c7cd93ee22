//! Holds the books against the page caches, and against the kernel's lists of leases, for as long as somebody watches.

use std::time::{Duration, Instant};

use crate::{session::Session, tracer::Tracer};

/// How often it is time to look. What is found at looks nine tenths of a second apart is put right: within two seconds
/// after it was missed.
pub const LOOKS: Duration = Duration::from_millis(500);

/// When to look next: a walk takes no more than a part of the time, however long it is.
struct Pace {
    next: Instant,
    /// What the walk under way has taken so far.
    taken: Duration,
    /// From one walk to the next, at least.
    every: Duration,
}

impl Pace {
    const SHARE: u32 = 100;
    /// No walk goes on for longer than this.
    const AT_ONCE: Duration = Duration::from_millis(10);

    fn new(every: Duration) -> Self {
        Self {
            next: Instant::now() + every,
            taken: Duration::ZERO,
            every,
        }
    }

    /// A step that began then has been made; with it the walk came to its end, or is to go on.
    fn stepped(&mut self, begun: Instant, is_whole: bool) {
        self.taken += begun.elapsed();
        if is_whole {
            self.next = begun + self.every.max(self.taken * Self::SHARE);
            self.taken = Duration::ZERO;
        }
    }
}

/// Holds the books against the page caches.
pub struct Proofs(Pace);

impl Default for Proofs {
    fn default() -> Self {
        Self(Pace::new(Duration::ZERO))
    }
}

impl Proofs {
    /// Looks, if it is time and the books have any pins. What stays too high is told, and right from then on.
    pub fn run(&mut self, tracer: &mut Tracer, session: &mut Session) -> anyhow::Result<()> {
        let begun = Instant::now();
        if begun < self.0.next || !tracer.has_pins()? {
            return Ok(());
        }
        let Some(look) = tracer.prove(Pace::AT_ONCE) else {
            return Ok(());
        };
        for correction in &look.corrected {
            session.corrected(correction)?;
        }
        self.0.stepped(begun, look.is_whole);
        Ok(())
    }
}

/// Lets leases end whose end was missed.
pub struct Lapses(Pace);

impl Default for Lapses {
    fn default() -> Self {
        Self(Pace::new(LOOKS))
    }
}

impl Lapses {
    /// Looks, if it is time.
    pub fn run(&mut self, tracer: &mut Tracer) {
        let begun = Instant::now();
        if begun >= self.0.next {
            let is_whole = tracer.upkeep().end_lapsed(Pace::AT_ONCE);
            self.0.stepped(begun, is_whole);
        }
    }
}
