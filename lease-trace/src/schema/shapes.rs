//! What each event about a file has of the members that all of them share.

use schemars::Schema;
use serde::Serialize;
use serde_json::{Value, json};

use super::words::ORPHAN_ENDS;
use crate::record::Name;

/// What an event about a file has beside what all of them have.
pub struct Shape {
    pub names: &'static [Name],
    says: &'static str,
    required: &'static [&'static str],
    absent: &'static [&'static str],
}

/// Members that belong to few events only.
const OF_ORPHANS: [&str; 2] = ["holders", "orphaned_ms"];
const OF_RULES: [&str; 4] = ["rule", "action", "thread", "stack"];

pub const SHAPES: [Shape; 8] = [
    Shape {
        names: &[Name::LeaseSet],
        says: "A lease was set (only with --all-events).",
        required: &["lease"],
        absent: &[
            "cause",
            "pins",
            "releaser",
            "pinned_ms",
            "zombie_ms",
            "outcome",
        ],
    },
    Shape {
        names: &[Name::LeaseEnd],
        says: "A lease ended (only with --all-events).",
        required: &["lease", "cause"],
        absent: &["pins", "pinned_ms", "zombie_ms", "outcome"],
    },
    Shape {
        names: &[Name::Zombie],
        says: "The last lease that covered a process's pins in a file went while they remained.",
        required: &["lease", "cause", "pins", "ends_by_itself"],
        absent: &["zombie_ms", "outcome"],
    },
    Shape {
        names: &[Name::AtRest],
        says: "The last pin of a zombie went. `pins` is the most it had at one time; `releaser` is \
               who dropped the last one. With a `rule`, it had killed for it, and this is what was \
               to come of it.",
        required: &["lease", "cause", "pins", "ends_by_itself", "zombie_ms"],
        absent: &["thread", "stack"],
    },
    Shape {
        names: &[Name::BarePin],
        says: "A process pinned pages of a file that no lease of its own covers.",
        required: &["pins"],
        absent: &[
            "lease",
            "cause",
            "releaser",
            "pinned_ms",
            "zombie_ms",
            "outcome",
        ],
    },
    Shape {
        names: &[Name::OrphanedPin],
        says: "The owner of pins has dropped its own last reference to the leased file, and others \
               keep the lease alive. Found by a walk: one to two seconds late, later where a great \
               many pins are under leases. Ends with a `zombie` or an `orphan-end`.",
        required: &["lease", "pins", "holders"],
        absent: &[
            "cause",
            "releaser",
            "pinned_ms",
            "zombie_ms",
            "outcome",
            "orphaned_ms",
        ],
    },
    Shape {
        names: &[Name::OrphanEnd],
        says: "Pins are orphaned no longer. `pins` is what there was when it began.",
        required: &["lease", "pins", "outcome", "orphaned_ms"],
        absent: &["cause", "releaser", "pinned_ms", "zombie_ms", "holders"],
    },
    Shape {
        names: &[
            Name::Reported,
            Name::Denied,
            Name::Held,
            Name::HoldEnd,
            Name::Stopped,
            Name::Killed,
            Name::WouldDeny,
            Name::WouldHold,
            Name::WouldStop,
            Name::WouldKill,
            Name::Spared,
            Name::Failed,
            Name::Overdue,
        ],
        says: "A rule matched a breach. `reported`: that is all it asks for. `denied`: the release \
               failed with EBUSY. `held`, `hold-end`: the file is kept open, or no longer. \
               `stopped`, `killed`: the signal was sent. `would-...`: enforce mode would have. \
               `spared`: somebody not to be touched. `failed`: it could not be done. `overdue`: an \
               ending process left a zombie for longer than its rule's grace time.",
        required: &["rule", "action", "outcome", "pins"],
        absent: &["pinned_ms", "zombie_ms"],
    },
];

impl Shape {
    fn absent(&self) -> impl Iterator<Item = &'static str> {
        let is_orphan = self
            .names
            .iter()
            .any(|name| matches!(name, Name::OrphanedPin | Name::OrphanEnd));
        let is_rules = self.required.contains(&"rule") || self.names == [Name::AtRest];
        let orphans = OF_ORPHANS.into_iter().filter(move |_| !is_orphan);
        let rules = OF_RULES.into_iter().filter(move |_| !is_rules);
        self.absent.iter().copied().chain(orphans).chain(rules)
    }

    pub fn schema(&self, transition: &Schema) -> Value {
        let mut schema = transition.clone().to_value();
        schema["description"] = json!(self.says);
        schema["required"] = json!(self.required);
        schema["properties"] = json!({ "time": true, "event": one_of(self.names) });
        for member in self.absent() {
            schema["properties"][member] = json!(false);
        }
        match self.names {
            [Name::OrphanEnd] => schema["properties"]["outcome"] = json!({ "enum": ORPHAN_ENDS }),
            [Name::AtRest] => {
                schema["properties"]["outcome"] = json!({ "const": "verified" });
                let together = json!(["rule", "action", "outcome"]);
                schema["dependentRequired"] =
                    json!({ "rule": together, "action": together, "outcome": together });
            }
            _ => {}
        }
        schema["unevaluatedProperties"] = json!(false);
        schema
    }
}

/// Words that stand for themselves.
fn one_of<T: Serialize>(words: &[T]) -> Value {
    match words {
        [word] => json!({ "const": word }),
        words => json!({ "enum": words }),
    }
}
