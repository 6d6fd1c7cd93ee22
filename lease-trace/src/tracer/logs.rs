//! What the programs log of losses, doubts and corrections, in words: what a counter cannot say. Only where
//! `LEASE_TRACE_LOG` asks for it; the programs have nothing of it else.

use std::fmt::Write as _;

use aya_log::EbpfLogger;
use lease_trace_common::logged::Logged;
use log::{Level, Log, Metadata, Record};

use super::hooks::Hooks;

/// What `LEASE_TRACE_LOG` calls it: `debug`, or `lease_trace::programs=debug` alone.
const TARGET: &str = "lease_trace::programs";

/// Bytes of the ring, a page: what finds no room is not logged, and counted all the same.
pub const RING: u32 = 4096;
/// The map, as aya-log names it.
pub const MAP: &str = "AYA_LOGS";
/// The function that logs.
pub const FUNCTION: &str = "loss_log";

/// Whether somebody asked for it.
pub fn are_wanted() -> bool {
    log::log_enabled!(target: TARGET, Level::Debug)
}

/// The ring, where there is one to be read.
pub struct Logs(Option<EbpfLogger<InWords>>);

impl Logs {
    /// That of the programs in place, if they were loaded to log.
    pub fn of(hooks: &Hooks) -> Self {
        let ring = are_wanted().then(|| {
            let mut programs = hooks.programs();
            programs.find_map(|id| EbpfLogger::init_from_id_with_logger(id, InWords).ok())
        });
        Self(ring.flatten())
    }

    /// Logs what there is.
    pub fn flush(&mut self) {
        if let Some(ring) = &mut self.0 {
            ring.flush();
        }
    }
}

/// Puts the numbers of a message into words.
struct InWords;

impl Log for InWords {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        are_wanted()
    }

    fn log(&self, record: &Record<'_>) {
        let mut numbers = String::new();
        if write!(numbers, "{}", record.args()).is_ok() {
            let words = in_words(&numbers).unwrap_or(numbers);
            log::debug!(target: TARGET, "{words}");
        }
    }

    fn flush(&self) {}
}

/// What a message means: what, how many, about what (in hexadecimal), and the thread (its group in the upper half).
fn in_words(numbers: &str) -> Option<String> {
    let mut numbers = numbers.split(' ');
    let (what, subject_is) = Logged::words(numbers.next()?.parse().ok()?)?;
    let n = numbers.next()?;
    let subject = numbers.next()?;
    let thread: u64 = numbers.next()?.parse().ok()?;
    let (process, thread) = (thread >> 32, thread as u32);
    Some(format!(
        "{n}: {what}: {subject_is} 0x{subject}, thread {thread} of process {process}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_words() {
        let thread = (4236_u64 << 32) + 4693;
        let words = in_words(&format!("8 2 ffffea0000001000 {thread}"));
        assert_eq!(
            words.as_deref(),
            Some(
                "2: pinned pages could not be read: page or array 0xffffea0000001000, \
                 thread 4693 of process 4236"
            )
        );
        assert_eq!(in_words("999 1 0 0"), None);
        assert_eq!(in_words("8"), None);
    }
}
