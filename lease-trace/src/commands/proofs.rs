//! Holds the books against the page caches while a monitor runs.

use std::time::{Duration, Instant};

use crate::{kernel::vmstat, session::Session, tracer::Tracer};

/// When to look next.
pub struct Proofs {
    next: Instant,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            next: Instant::now(),
        }
    }
}

impl Proofs {
    /// However long a look takes, it takes no more than this part of the time.
    const SHARE: u32 = 100;

    /// Looks, if it is time and anything is pinned, by the kernel or by the books. What is found wrong twice is
    /// told, and right from then on.
    pub fn run(&mut self, tracer: &mut Tracer, session: &mut Session) -> anyhow::Result<()> {
        let begun = Instant::now();
        if begun < self.next {
            return Ok(());
        }
        if vmstat::held().is_ok_and(|held| held == 0) && !tracer.has_pins()? {
            return Ok(());
        }
        for correction in &tracer.prove()? {
            session.corrected(correction)?;
        }
        self.next = begun + begun.elapsed().max(Duration::from_millis(5)) * Self::SHARE;
        Ok(())
    }
}
