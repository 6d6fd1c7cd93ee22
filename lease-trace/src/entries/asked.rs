//! What may be asked of a snapshot.

use std::str::FromStr;

use clap::ValueEnum;

/// Which entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    Zombies,
    Leases,
    Stakes,
}

impl Subject {
    /// The member of the JSON object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zombies => "zombies",
            Self::Leases => "leases",
            Self::Stakes => "stakes",
        }
    }
}

/// Which leases without any pin make a squatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squatters {
    /// Those that somebody wants broken.
    InTheWay,
    /// Those, and those held for so long.
    Held { ms: u64 },
}

impl FromStr for Squatters {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        if typed.is_empty() {
            return Ok(Self::InTheWay);
        }
        let held = humantime::parse_duration(typed)
            .map_err(|error| format!("{error}; write e.g. 90s, 10min or 1h 30m"))?;
        Ok(Self::Held {
            ms: u64::try_from(held.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
