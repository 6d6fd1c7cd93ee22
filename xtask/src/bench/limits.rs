//! What rows over their goal are held to instead: what was measured when the limits were recorded. So
//! a goal that is missed is shown as missed, and nothing gets worse unnoticed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::rows::Row;
use crate::guest::programs;

/// By key of the row.
pub type OfKernel = BTreeMap<String, f64>;

/// By name of the kernel.
pub struct Limits(BTreeMap<String, OfKernel>);

/// What a figure may be above the one recorded before it counts as worse.
const SLACK: f64 = 1.05;

impl Limits {
    pub fn read() -> Result<Self> {
        let path = path();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("reading limits from {}", path.display()))?;
        serde_json::from_str(&text)
            .map(Self)
            .with_context(|| format!("reading limits from {}", path.display()))
    }

    pub fn write(&self) -> Result<()> {
        let path = path();
        let text = serde_json::to_string_pretty(&self.0).context("writing limits as JSON")?;
        fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }

    /// Those of one kernel; of one that nothing was recorded for there are none.
    pub fn of(&self, kernel: &str) -> &OfKernel {
        static NONE: OfKernel = BTreeMap::new();
        self.0.get(kernel).unwrap_or(&NONE)
    }

    /// Takes over what is over its goal, and drops what no longer is.
    pub fn record(&mut self, kernel: &str, rows: &[Row]) {
        let of_kernel = self.0.entry(kernel.to_owned()).or_default();
        for row in rows {
            let value = row.held.value();
            if row.goal.is_some_and(|goal| value > goal) {
                // Two decimals are enough, rounded up.
                of_kernel.insert(row.key.to_owned(), (value * SLACK * 100.0).ceil() / 100.0);
            } else {
                of_kernel.remove(row.key);
            }
        }
    }
}

fn path() -> PathBuf {
    programs::workspace().join("xtask/src/bench/limits.json")
}

#[cfg(test)]
mod tests {
    use super::{super::rows::Held, *};

    #[test]
    fn only_what_is_over_its_goal_has_a_limit() {
        let row = |value, goal| Row {
            what: "work",
            key: "work",
            base: None,
            ours: value,
            bpftrace: None,
            held: Held::Times(value),
            goal: Some(goal),
        };
        let mut limits = Limits(BTreeMap::new());
        limits.record("6.12", &[row(3.0, 2.0)]);
        assert!((3.15..3.17).contains(&limits.of("6.12")["work"]));
        limits.record("6.12", &[row(1.9, 2.0)]);
        assert!(limits.of("6.12").is_empty());
        assert!(limits.of("6.1").is_empty());
    }
}
