//! Recorded breaches held against a policy: which rule would have matched each. By what a record says of a
//! breach, with the code that judges others but for paths, cgroups and consumers, which are compared by name.

use std::path::Path;

use lease_trace_common::{
    COMM_LEN,
    cause::Cause,
    lease::{F_RDLCK, F_WRLCK, Kind},
    policy::{Mode, Rule, RuleFacts, cause_bit, kind_bit, mode_bit, on},
};
use serde::Deserialize;

use super::{comm, compile::Meaning, file::LeaseMode};

/// A breach, as an event tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Breach {
    pub event: String,
    #[serde(default)]
    pub time: String,
    pub pid: u32,
    #[serde(default)]
    pub comm: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    pub path: Option<String>,
    lease: Option<Lease>,
    pub cause: Option<Cause>,
    #[serde(default)]
    pub pins: u64,
    consumer: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Lease {
    kind: Kind,
    mode: LeaseMode,
}

/// A zombie, bare pins, and a release that was denied, so that it came to no zombie.
const BREACHES: [&str; 3] = ["zombie", "bare-pin", "denied"];

/// What one line of a recording is.
#[derive(Debug)]
pub enum Line {
    Breach(Box<Breach>),
    /// Another event.
    Other,
    /// Why it is none.
    Bad(String),
}

impl Line {
    pub fn read(line: &str) -> Self {
        #[derive(Deserialize)]
        struct Named {
            event: String,
        }
        let event = match serde_json::from_str::<Named>(line) {
            Ok(Named { event }) => event,
            Err(error) => return Self::Bad(error.to_string()),
        };
        if !BREACHES.contains(&event.as_str()) {
            return Self::Other;
        }
        match serde_json::from_str(line) {
            Ok(breach) => Self::Breach(Box::new(breach)),
            Err(error) => Self::Bad(error.to_string()),
        }
    }
}

impl Breach {
    pub fn is_bare(&self) -> bool {
        self.event == "bare-pin"
    }

    fn facts(&self) -> RuleFacts {
        let mut comm = [0; COMM_LEN];
        for (to, from) in comm[..COMM_LEN - 1].iter_mut().zip(self.comm.bytes()) {
            *to = from;
        }
        let comm = comm::words(&comm);
        let mode = self.lease.as_ref().map(|lease| match lease.mode {
            LeaseMode::Read => F_RDLCK,
            LeaseMode::Write => F_WRLCK,
        });
        RuleFacts {
            on: if self.is_bare() {
                on::BARE_PIN
            } else {
                on::ZOMBIE
            },
            kind: self.lease.as_ref().map_or(0, |lease| kind_bit(lease.kind)),
            mode: mode.map_or(0, mode_bit),
            // No event says of which user the breaker was.
            cause: self.cause.map_or(0, |cause| cause_bit(cause as u32)),
            pins: self.pins,
            uid: self.uid.unwrap_or(u32::MAX),
            // No event has it.
            gid: u32::MAX,
            comm,
            comm_before: comm,
        }
    }

    /// Whether the rule would have matched it.
    fn is_matched_by(&self, rule: &Rule, meaning: &Meaning, consumers: &[String]) -> bool {
        let below = |what: &Option<String>, place: &Path| {
            what.as_ref()
                .is_some_and(|path| Path::new(path).starts_with(place))
        };
        let number = consumers
            .iter()
            .position(|known| self.consumer.as_ref() == Some(known));
        rule.admits(&self.facts())
            && meaning
                .path
                .as_ref()
                .is_none_or(|place| below(&self.path, &place.path))
            && meaning
                .cgroup
                .as_ref()
                .is_none_or(|cgroup| below(&self.cgroup, &cgroup.path))
            && (rule.consumers == 0
                || number.is_some_and(|number| rule.consumers & 1 << (number + 1) != 0))
    }

    /// The place of the first rule of this mode that would have matched it.
    pub fn first(
        &self,
        mode: Mode,
        rules: &[Rule],
        meanings: &[Meaning],
        consumers: &[String],
    ) -> Option<usize> {
        let mut known = rules.iter().zip(meanings);
        known.position(|(rule, meaning)| {
            rule.mode() == mode && self.is_matched_by(rule, meaning, consumers)
        })
    }
}

/// Whether a rule asks for what no event has, and so would match none of them.
pub const fn asks_for_a_group(rule: &Rule) -> bool {
    rule.gid[0] != 0 || rule.gid[1] != u32::MAX
}
