//! Words that become the values of a label: so many and no more, whatever the machine brings up.

use std::collections::BTreeSet;

use crate::enrich::consumer;

/// Stands for all words beyond the limit.
pub const OTHER: &str = "other";
/// Stands for what is not known.
pub const UNKNOWN: &str = "unknown";

/// The words of one label.
pub struct Words {
    known: BTreeSet<String>,
    /// How many more are taken in.
    room: usize,
}

impl Words {
    /// Modules that no list has, and kernel functions where no module is known.
    const MORE_CONSUMERS: usize = 32;
    /// As many as there are rules in two policies: the one in force and the one before it.
    const RULES: usize = 2 * lease_trace_common::policy::RULES as usize;

    /// The consumers that are known by name, and the first others.
    pub fn of_consumers() -> Self {
        Self {
            known: consumer::known().into_iter().map(str::to_owned).collect(),
            room: Self::MORE_CONSUMERS,
        }
    }

    pub const fn of_rules() -> Self {
        Self {
            known: BTreeSet::new(),
            room: Self::RULES,
        }
    }

    /// The word itself while there is room for it.
    pub fn admit(&mut self, word: Option<&str>) -> String {
        let Some(word) = word else {
            return UNKNOWN.to_owned();
        };
        if !self.known.contains(word) {
            if self.room == 0 {
                return OTHER.to_owned();
            }
            self.room -= 1;
            self.known.insert(word.to_owned());
        }
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_all_are_one() {
        let mut rules = Words::of_rules();
        for number in 0..Words::RULES {
            let rule = format!("rule-{number}");
            assert_eq!(rules.admit(Some(&rule)), rule);
        }
        assert_eq!(rules.admit(Some("one-more")), OTHER);
        assert_eq!(rules.admit(Some("rule-0")), "rule-0", "known before");
        assert_eq!(rules.admit(None), UNKNOWN);
    }

    #[test]
    fn known_consumers_take_no_room() {
        let mut consumers = Words::of_consumers();
        for number in 0..Words::MORE_CONSUMERS {
            consumers.admit(Some(&format!("module-{number}")));
        }
        assert_eq!(consumers.admit(Some("io_uring")), "io_uring");
        assert_eq!(consumers.admit(Some("late")), OTHER);
    }
}
