//! The time axis: where its marks are and what stands at them.

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::read::Micros;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
const HOUR: Micros = 60 * MINUTE;
const DAY: Micros = 24 * HOUR;

/// Steps between marks that people count in.
const STEPS: [Micros; 33] = [
    10,
    100,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    30 * DAY,
    365 * DAY,
    36_500 * DAY,
];

/// Marks from `begin` to `end`, no more than `most`: when, and what it is called.
pub fn marks(begin: Micros, end: Micros, most: i64) -> Vec<(Micros, String)> {
    let step = step(end - begin, most);
    let first = begin.div_euclid(step) * step;
    (0..=most + 1)
        .map(|mark| first + mark * step)
        .filter(|at| (begin..=end).contains(at))
        .map(|at| (at, label(at, step)))
        .collect()
}

fn step(span: Micros, most: i64) -> Micros {
    let mut steps = STEPS.into_iter();
    steps
        .find(|step| span / step < most)
        .unwrap_or(100_000 * DAY)
}

fn label(at: Micros, step: Micros) -> String {
    if step >= DAY {
        return format(at, format_description!("[year]-[month]-[day]"));
    }
    if step >= MINUTE {
        return format(at, format_description!("[hour]:[minute]"));
    }
    if step >= SECOND {
        return format(at, format_description!("[hour]:[minute]:[second]"));
    }
    if step >= 100_000 {
        let one = format_description!("[hour]:[minute]:[second].[subsecond digits:1]");
        return format(at, one);
    }
    if step >= 1_000 {
        return clock(at);
    }
    let six = format_description!("[hour]:[minute]:[second].[subsecond digits:6]");
    format(at, six)
}

/// `HH:MM:SS.mmm`
pub fn clock(at: Micros) -> String {
    let three = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    format(at, three)
}

/// `YYYY-MM-DD`
pub fn date(at: Micros) -> String {
    format(at, format_description!("[year]-[month]-[day]"))
}

/// Times that no calendar has become `?`.
fn format(at: Micros, how: &[BorrowedFormatItem<'_>]) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000)
        .ok()
        .and_then(|time| time.format(how).ok())
        .unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Micros = 1_772_612_102_001_500;

    #[test]
    fn marks_are_where_people_count() {
        let labels = |span| -> Vec<String> {
            let marks = marks(AT, AT + span, 8);
            marks.into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(
            labels(18 * SECOND),
            ["08:15:05", "08:15:10", "08:15:15", "08:15:20"]
        );
        assert_eq!(
            labels(700_000),
            [
                "08:15:02.1",
                "08:15:02.2",
                "08:15:02.3",
                "08:15:02.4",
                "08:15:02.5",
                "08:15:02.6",
                "08:15:02.7"
            ]
        );
        assert_eq!(labels(3 * HOUR)[0], "08:30");
        assert_eq!(labels(90 * DAY)[0], "2026-03-08");
    }

    #[test]
    fn there_are_never_too_many() {
        for span in [0, 1, 999, SECOND, 59 * MINUTE, 400 * DAY, 4_000_000 * DAY] {
            assert!(marks(AT, AT + span, 8).len() <= 9, "{span}");
        }
    }
}
