//! NDJSON in. It is read tolerantly: members that are not needed are passed over, events of
//! another version and lines that are none are counted, and a last line without its end is what a
//! monitor leaves that was cut off.

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Microseconds since 1970.
pub type Micros = i64;

/// All that one record says, as far as a picture needs it.
#[derive(Debug, Default)]
pub struct Reading {
    pub lines: Vec<Line>,
    /// Events whose name is not known.
    pub unknown: u64,
    /// Lines that are no events.
    pub unreadable: u64,
    /// The last line has no end.
    pub truncated: bool,
}

/// One event and when it was.
#[derive(Debug)]
pub struct Line {
    pub at: Micros,
    pub name: Name,
    pub event: Event,
}

/// The events that a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Start,
    LeaseSet,
    LeaseEnd,
    Zombie,
    AtRest,
    BarePin,
    BarePinEnd,
    OrphanedPin,
    OrphanEnd,
    /// Whatever came of a rule.
    RuleAction(&'static str),
    /// The books were put right.
    Corrected,
    Lost,
    End,
}

impl Name {
    fn of(text: &str) -> Option<Self> {
        const RULE_ACTIONS: [&str; 13] = [
            "reported",
            "denied",
            "held",
            "hold-end",
            "stopped",
            "killed",
            "would-deny",
            "would-hold",
            "would-stop",
            "would-kill",
            "spared",
            "failed",
            "overdue",
        ];
        Some(match text {
            "start" => Self::Start,
            "lease-set" => Self::LeaseSet,
            "lease-end" => Self::LeaseEnd,
            "zombie" => Self::Zombie,
            "at-rest" => Self::AtRest,
            "bare-pin" => Self::BarePin,
            "bare-pin-end" => Self::BarePinEnd,
            "orphaned-pin" => Self::OrphanedPin,
            "orphan-end" => Self::OrphanEnd,
            "corrected" => Self::Corrected,
            "lost" => Self::Lost,
            "end" => Self::End,
            other => Self::RuleAction(
                RULE_ACTIONS
                    .into_iter()
                    .find(|rule_action| *rule_action == other)?,
            ),
        })
    }
}

/// The members in use; docs/output.md says what they mean.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    time: String,
    #[serde(rename = "event")]
    name: String,
    pub pid: u32,
    pub comm: String,
    pub path: Option<String>,
    pub dev: Option<String>,
    pub ino: Option<u64>,
    pub lease: Option<Lease>,
    pub cause: Option<String>,
    pub pins: Option<u64>,
    pub consumer: Option<String>,
    pub releaser: Option<ProcessRef>,
    pub zombie_ms: Option<u64>,
    pub pinned_ms: Option<u64>,
    pub orphaned_ms: Option<u64>,
    pub rule: Option<String>,
    pub kernel: Option<String>,
    pub what: Option<String>,
    pub count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lease {
    pub kind: String,
    pub mode: String,
    pub held_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProcessRef {
    pub pid: u32,
    pub comm: String,
}

/// Reads a whole record.
pub fn read(text: &[u8]) -> Reading {
    let mut reading = Reading::default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.ends_with(b"\n");
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match parse(line) {
            Some((at, event)) => match Name::of(&event.name) {
                Some(name) => reading.lines.push(Line { at, name, event }),
                None => reading.unknown += 1,
            },
            None if whole => reading.unreadable += 1,
            None => reading.truncated = true,
        }
    }
    reading
}

fn parse(line: &[u8]) -> Option<(Micros, Event)> {
    let event: Event = serde_json::from_slice(line).ok()?;
    let time = OffsetDateTime::parse(&event.time, &Rfc3339).ok()?;
    let at = time.unix_timestamp_nanos() / 1_000;
    Some((at as Micros, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZOMBIE: &str =
        r#"{"time":"2026-03-04T08:15:02.001500Z","event":"zombie","pid":5,"new":[1]}"#;

    #[test]
    fn what_is_not_known_is_counted() {
        let text = format!("{ZOMBIE}\n{}\nno JSON\n", ZOMBIE.replace("zombie", "ghost"));
        let reading = read(text.as_bytes());
        assert_eq!(reading.lines.len(), 1);
        assert_eq!(reading.lines[0].at, 1_772_612_102_001_500);
        assert_eq!((reading.unknown, reading.unreadable), (1, 1));
        assert!(!reading.truncated);
    }

    #[test]
    fn a_line_that_was_cut_off_is_no_rubbish() {
        let text = format!("{ZOMBIE}\n{}", &ZOMBIE[..40]);
        let reading = read(text.as_bytes());
        assert_eq!((reading.lines.len(), reading.unreadable), (1, 0));
        assert!(reading.truncated);
        let reading = read(ZOMBIE.as_bytes());
        assert_eq!(reading.lines.len(), 1, "only its newline is missing");
    }

    #[test]
    fn every_event_of_the_monitor_has_a_name_here() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/ndjson.schema.json")).expect("JSON");
        let names = &schema["$defs"]["event"]["properties"]["event"]["enum"];
        for name in names.as_array().expect("a list") {
            let name = name.as_str().expect("a word");
            assert!(Name::of(name).is_some(), "{name}");
        }
    }
}
