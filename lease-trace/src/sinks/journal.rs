//! The journal of the host: a sentence for people, and a field for each member of the NDJSON, so
//! that `journalctl LEASE_TRACE_EVENT=zombie` finds what `jq` would. The native protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry, which needs no library.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{Sink, WriteError, sentence};
use crate::record::{Lost, Name, Record};

const SOCKET: &str = "/run/systemd/journal/socket";
/// Members whose own members are named by data: they stay one value.
const MAPS: [&str; 2] = ["by_event", "rules"];
/// A journal that takes nothing for this long must not hold up what the monitor does.
const PATIENCE: Duration = Duration::from_secs(1);

/// No journal to write to.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reach the journal at {}: {reason}; run it where systemd-journald runs, or leave \
     `-o journal` out",
    at.display()
)]
pub struct NoJournal {
    at: PathBuf,
    reason: io::Error,
}

/// Writes to the socket of journald.
pub struct Journal {
    socket: UnixDatagram,
    at: PathBuf,
    /// Entries that it did not take and that this was not said of yet.
    lost: u64,
}

impl Journal {
    pub fn connect() -> Result<Self, NoJournal> {
        Self::connect_to(Path::new(SOCKET))
    }

    fn connect_to(at: &Path) -> Result<Self, NoJournal> {
        let no = |reason| NoJournal {
            at: at.to_owned(),
            reason,
        };
        let socket = UnixDatagram::unbound().map_err(no)?;
        // Only to see that somebody is there: entries are sent by name, so that a journal which is
        // started again gets them.
        UnixDatagram::unbound()
            .and_then(|trial| trial.connect(at))
            .map_err(no)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(no)?;
        Ok(Self {
            socket,
            at: at.to_owned(),
            lost: 0,
        })
    }

    fn send(&self, entry: &[u8]) -> bool {
        self.socket.send_to(entry, &self.at).is_ok()
    }
}

impl Sink for Journal {
    /// A journal that is away for a moment does not end the monitor: what it missed is counted, and
    /// said as soon as it takes entries again.
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        if self.lost > 0 {
            let lost = Lost {
                what: "entries were not taken by the journal",
                count: self.lost,
            };
            let told = Record {
                time: record.time,
                event: Name::Lost,
                detail: crate::record::Detail::Lost(lost),
            };
            if self.send(&entry(&told)?) {
                self.lost = 0;
            }
        }
        if !self.send(&entry(record)?) {
            self.lost += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// The bytes of one entry.
fn entry(record: &Record) -> Result<Vec<u8>, WriteError> {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: &str| push(&mut fields, name, value);
    field("MESSAGE", &sentence::of(record));
    field("PRIORITY", priority(record.event));
    field("SYSLOG_IDENTIFIER", "lease-trace");
    let members = serde_json::to_value(record).map_err(io::Error::from)?;
    flatten("LEASE_TRACE", &members, &mut field);
    Ok(fields)
}

/// As syslog(3) numbers them.
const fn priority(event: Name) -> &'static str {
    match event {
        Name::Failed | Name::Overdue => "3",
        Name::Zombie
        | Name::OrphanedPin
        | Name::Killed
        | Name::Stopped
        | Name::Corrected
        | Name::Lost => "4",
        Name::Denied
        | Name::Held
        | Name::WouldDeny
        | Name::WouldHold
        | Name::WouldStop
        | Name::WouldKill => "5",
        _ => "6",
    }
}

/// A field for each member, a member of a member behind the name of the outer one; a list is its
/// field once for each entry.
fn flatten(name: &str, value: &Value, field: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let inner = format!("{name}_{}", member.to_ascii_uppercase().replace('-', "_"));
                if MAPS.contains(&member.as_str()) && value.is_object() {
                    field(&inner, &value.to_string());
                } else {
                    flatten(&inner, value, field);
                }
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                flatten(name, entry, field);
            }
        }
        Value::String(text) => field(name, text),
        other => field(name, &other.to_string()),
    }
}

fn push(fields: &mut Vec<u8>, name: &str, value: &str) {
    fields.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        fields.push(b'\n');
        fields.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        fields.push(b'=');
    }
    fields.extend_from_slice(value.as_bytes());
    fields.push(b'\n');
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::fixtures;

    fn of_event(name: Name) -> Record {
        let mut records = fixtures::records().into_iter();
        records
            .find(|record| record.event == name)
            .expect("a record of this event")
    }

    fn shown(name: Name) -> String {
        String::from_utf8(entry(&of_event(name)).expect("an entry")).expect("UTF-8")
    }

    #[test]
    fn each_member_is_a_field() {
        assert_snapshot!(shown(Name::Zombie), @r"
        MESSAGE=zombie: rdma-client[4711] has 256 pins on /srv/database/segments/000017.hot.db through rdma_rxe (15 uverbs0) and no lease any more (unlock)
        PRIORITY=4
        SYSLOG_IDENTIFIER=lease-trace
        LEASE_TRACE_CAUSE=unlock
        LEASE_TRACE_CGROUP=/system.slice/db.service
        LEASE_TRACE_COMM=rdma-client
        LEASE_TRACE_CONSUMER=rdma_rxe
        LEASE_TRACE_CONTEXT=/dev/infiniband/uverbs0
        LEASE_TRACE_CONTEXT_FD=15
        LEASE_TRACE_DEV=0:45
        LEASE_TRACE_DEVICE=rxe0
        LEASE_TRACE_ENDS_BY_ITSELF=false
        LEASE_TRACE_EVENT=zombie
        LEASE_TRACE_INO=131090
        LEASE_TRACE_LEASE_HELD_MS=10000
        LEASE_TRACE_LEASE_KIND=lease
        LEASE_TRACE_LEASE_MODE=write
        LEASE_TRACE_PATH=/srv/database/segments/000017.hot.db
        LEASE_TRACE_PID=4711
        LEASE_TRACE_PINS=256
        LEASE_TRACE_RELEASER_COMM=rdma-client
        LEASE_TRACE_RELEASER_PID=4711
        LEASE_TRACE_TIME=2026-03-04T08:15:02.001500Z
        LEASE_TRACE_UID=1000
        LEASE_TRACE_UNIT=db.service
        ");
        let denied = shown(Name::Denied);
        assert!(
            denied.contains("\nLEASE_TRACE_RULE=rdma-exports\n"),
            "{denied}"
        );
    }

    #[test]
    fn lists_are_told_entry_by_entry_and_maps_as_one() {
        let start = shown(Name::Start);
        let attach: Vec<_> = start
            .lines()
            .filter_map(|line| line.strip_prefix("LEASE_TRACE_ATTACH="))
            .collect();
        assert_eq!(attach.len(), 5);
        assert_eq!(attach[1], "lease_modify: fentry");
        assert_snapshot!(shown(Name::End), @r#"
        MESSAGE=ended after 20.0s: 5 events, 3 lost, 1 zombie left
        PRIORITY=6
        SYSLOG_IDENTIFIER=lease-trace
        LEASE_TRACE_BY_EVENT={"at-rest":1,"bare-pin":1,"zombie":3}
        LEASE_TRACE_CROSS_CHECK_DROPPED=644
        LEASE_TRACE_CROSS_CHECK_ESCAPED=3
        LEASE_TRACE_CROSS_CHECK_KERNEL_DROPPED=644
        LEASE_TRACE_CROSS_CHECK_KERNEL_TAKEN=903
        LEASE_TRACE_CROSS_CHECK_TAKEN=900
        LEASE_TRACE_EVENT=end
        LEASE_TRACE_EVENTS=5
        LEASE_TRACE_LOST=3
        LEASE_TRACE_RULES={"rdma-exports":{"denied":1,"would-kill":1}}
        LEASE_TRACE_TIME=2026-03-04T08:15:20.001500Z
        LEASE_TRACE_ZOMBIES=1
        "#);
    }

    #[test]
    fn a_value_of_several_lines_has_its_length_before_it() {
        let mut bytes = Vec::new();
        push(&mut bytes, "LEASE_TRACE_PATH", "/tmp/a\nb");
        assert_eq!(bytes, b"LEASE_TRACE_PATH\n\x08\0\0\0\0\0\0\0/tmp/a\nb\n");
    }

    #[test]
    fn names_of_fields_are_those_that_a_journal_takes() {
        for record in fixtures::records() {
            let members = serde_json::to_value(&record).expect("JSON");
            flatten("LEASE_TRACE", &members, &mut |name, _| {
                let allowed = |byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
                assert!(name.len() <= 64 && name.bytes().all(allowed), "{name}");
            });
        }
    }

    #[test]
    fn what_the_journal_missed_is_said_when_it_is_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("socket");
        let first = UnixDatagram::bind(&at).expect("a journal");
        let mut journal = Journal::connect_to(&at).expect("it is there");
        drop(first);
        std::fs::remove_file(&at).expect("it goes");
        let zombie = of_event(Name::Zombie);
        journal.write(&zombie).expect("no reason to end");
        let second = UnixDatagram::bind(&at).expect("another journal");
        journal.write(&zombie).expect("taken");
        let mut bytes = [0; 4096];
        let mut receive = || {
            let len = second.recv(&mut bytes).expect("an entry");
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        assert!(receive().contains("LEASE_TRACE_COUNT=1\n"));
        assert!(receive().contains("LEASE_TRACE_EVENT=zombie\n"));
    }

    #[test]
    fn without_a_journal_it_says_what_to_do() {
        let error = Journal::connect_to(Path::new("/nonexistent/socket"))
            .err()
            .expect("nobody is there");
        assert_snapshot!(error, @"cannot reach the journal at /nonexistent/socket: No such file or directory (os error 2); run it where systemd-journald runs, or leave `-o journal` out");
    }
}
