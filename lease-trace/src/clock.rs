//! Times: the kernel's CLOCK_BOOTTIME nanoseconds as moments that people and parsers read.
//!
//! The distance between the two clocks is sampled again for every batch, so that a step of the
//! wall clock shows up in what comes after it and nowhere else.

use std::mem::MaybeUninit;

use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const NANOS: i128 = 1_000_000_000;

/// RFC 3339 in UTC with microseconds, always of the same width.
const RFC3339: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot_ns: u64,
    wall_ns: i128,
}

impl Clock {
    /// Reads both clocks.
    pub fn sample() -> Self {
        Self {
            boot_ns: read(ClockId::Boottime) as u64,
            wall_ns: read(ClockId::Realtime),
        }
    }

    #[cfg(test)]
    pub const fn fixed(boot_ns: u64, wall_ns: i128) -> Self {
        Self { boot_ns, wall_ns }
    }

    /// Now, on the kernel's clock.
    pub const fn boot_ns(&self) -> u64 {
        self.boot_ns
    }

    /// Now.
    pub const fn now(&self) -> Timestamp {
        Timestamp(self.wall_ns)
    }

    /// When the kernel's clock showed `boot_ns`.
    pub const fn at(&self, boot_ns: u64) -> Timestamp {
        Timestamp(self.wall_ns + boot_ns as i128 - self.boot_ns as i128)
    }
}

fn read(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * NANOS + i128::from(now.tv_nsec)
}

/// A moment, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(i128);

impl Timestamp {
    fn rfc3339(self) -> Option<String> {
        OffsetDateTime::from_unix_timestamp_nanos(self.0)
            .ok()?
            .format(RFC3339)
            .ok()
    }

    /// `HH:MM:SS` in the time zone asked for.
    pub fn time_of_day(self, zone: Zone) -> String {
        let seconds = self.0.div_euclid(NANOS) as i64;
        let local = match zone {
            Zone::Local => seconds + offset_seconds(seconds),
            #[cfg(test)]
            Zone::Utc => seconds,
        };
        let second = local.rem_euclid(86_400);
        format!(
            "{:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self
            .rfc3339()
            .ok_or_else(|| serde::ser::Error::custom("the clock shows no year of our calendar"))?;
        serializer.serialize_str(&text)
    }
}

/// Whose wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Local,
    #[cfg(test)]
    Utc,
}

/// What to add to UTC to get local time at that moment.
fn offset_seconds(at: i64) -> i64 {
    let mut local = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the types the call wants; an all-zero `tm` (its
    // zone pointer null, and not read here) is a value, so reading it back is sound.
    let local = unsafe {
        libc::localtime_r(&raw const at, local.as_mut_ptr());
        local.assume_init()
    };
    local.tm_gmtoff
}

/// The time between two readings of the kernel's clock; zero if they are the wrong way round.
pub const fn elapsed_ms(from_ns: u64, to_ns: u64) -> u64 {
    to_ns.saturating_sub(from_ns) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i128 = 1_767_225_600 * NANOS; // 2026-01-01T00:00:00Z

    #[test]
    fn boot_time_becomes_wall_time() {
        let clock = Clock::fixed(5_000_000_000, WALL);
        let text = serde_json::to_string(&clock.at(3_999_999_000)).expect("serializes");
        assert_eq!(text, "\"2025-12-31T23:59:58.999999Z\"");
        assert_eq!(clock.at(5_000_000_000), clock.now());
    }

    #[test]
    fn time_of_day_wraps_at_midnight() {
        let clock = Clock::fixed(5_000_000_000, WALL);
        assert_eq!(clock.now().time_of_day(Zone::Utc), "00:00:00");
        assert_eq!(clock.at(0).time_of_day(Zone::Utc), "23:59:55");
    }

    #[test]
    fn the_clocks_are_read() {
        let clock = Clock::sample();
        assert!(clock.boot_ns() > 0);
        assert!(clock.now().0 > WALL);
        assert_eq!(clock.now().time_of_day(Zone::Local).len(), 8);
    }

    #[test]
    fn elapsed_never_wraps() {
        assert_eq!(elapsed_ms(1_000_000, 4_000_000), 3);
        assert_eq!(elapsed_ms(4_000_000, 1_000_000), 0);
    }
}
