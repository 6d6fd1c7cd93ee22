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
    /// Of the [`SPECIAL`] ones.
    optional: &'static [&'static str],
}

/// Members that not all events about a file can have; each lists its own.
const SPECIAL: [&str; 13] = [
    "lease",
    "cause",
    "releaser",
    "pins",
    "pinned_ms",
    "zombie_ms",
    "outcome",
    "holders",
    "orphaned_ms",
    "rule",
    "action",
    "thread",
    "stack",
];

pub const SHAPES: [Shape; 9] = [
    Shape {
        names: &[Name::LeaseSet],
        says: "A lease was set (only with --all-events).",
        required: &["lease"],
        optional: &[],
    },
    Shape {
        names: &[Name::LeaseEnd],
        says: "A lease ended (only with --all-events).",
        required: &["lease", "cause"],
        optional: &["releaser"],
    },
    Shape {
        names: &[Name::Zombie],
        says: "The last lease that covered a process's pins in a file went while they remained.",
        required: &["lease", "cause", "pins", "ends_by_itself"],
        optional: &["releaser", "pinned_ms"],
    },
    Shape {
        names: &[Name::AtRest],
        says: "The last pin of a zombie went. `pins` is the most it had at one time; `releaser` is \
               who dropped the last one. With a `rule`, it had killed for it, and this is what was \
               to come of it.",
        required: &["lease", "cause", "pins", "ends_by_itself", "zombie_ms"],
        optional: &["releaser", "pinned_ms", "rule", "action", "outcome"],
    },
    Shape {
        names: &[Name::BarePin],
        says: "A process pinned pages of a file that no lease of its own covers.",
        required: &["pins"],
        optional: &[],
    },
    Shape {
        names: &[Name::BarePinEnd],
        says: "The last of pins went that had been told of as bare. `pins` is the most there were; \
               `releaser` is who dropped the last one; `lease` has come to cover them meanwhile. Of \
               bare pins that become a zombie's `at-rest` is the end.",
        required: &["pins"],
        optional: &["pinned_ms", "releaser", "lease"],
    },
    Shape {
        names: &[Name::OrphanedPin],
        says: "The owner of pins has dropped its own last reference to the leased file, and others \
               keep the lease alive. Found by a walk: one to two seconds late, later where a great \
               many pins are under leases. Ends with a `zombie` or an `orphan-end`. Without a `lease` \
               if it is one that was set while the pins of a zombie were there.",
        required: &["pins", "holders"],
        optional: &["lease"],
    },
    Shape {
        names: &[Name::OrphanEnd],
        says: "Pins are orphaned no longer. `pins` is what there was when it began.",
        required: &["pins", "outcome", "orphaned_ms"],
        optional: &["lease"],
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
        optional: &["lease", "cause", "releaser", "thread", "stack"],
    },
];

impl Shape {
    fn absent(&self) -> impl Iterator<Item = &'static str> {
        let has = |member: &&str| self.required.contains(member) || self.optional.contains(member);
        SPECIAL.into_iter().filter(move |member| !has(member))
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
