//! docs/ndjson.schema.json: generated from the types of the output, and what tests hold the output
//! to.

use jsonschema::Validator;
use lease_trace_common::{cause::Cause, lease::Kind, policy::Action};
use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{RecursiveTransform, Transform as _},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    record::{Dev, End, Entry, FilePath, Lost, Name, Start, Transition},
};

/// Where it is, from the crate.
const FILE: &str = "../docs/ndjson.schema.json";

/// What an event about a file has beside what all of them have.
struct Shape {
    names: &'static [Name],
    says: &'static str,
    required: &'static [&'static str],
    absent: &'static [&'static str],
}

/// Members that belong to few events only.
const OF_ORPHANS: [&str; 2] = ["holders", "orphaned_ms"];
const OF_RULES: [&str; 4] = ["rule", "action", "thread", "stack"];

const SHAPES: [Shape; 8] = [
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

    fn schema(&self, transition: &Schema) -> Value {
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

pub fn cause(_: &mut SchemaGenerator) -> Schema {
    words(&Cause::ALL.map(Cause::name))
}

pub fn action(_: &mut SchemaGenerator) -> Schema {
    words(&[
        Action::Report,
        Action::Deny,
        Action::Hold,
        Action::Stop,
        Action::Kill,
    ])
}

pub fn lease_kind(_: &mut SchemaGenerator) -> Schema {
    words(&[Kind::Lease, Kind::Deleg, Kind::Layout])
}

pub fn lease_mode(_: &mut SchemaGenerator) -> Schema {
    words(&["read", "write"])
}

pub fn policy_mode(_: &mut SchemaGenerator) -> Schema {
    words(&["monitor", "enforce"])
}

pub fn state(_: &mut SchemaGenerator) -> Schema {
    words(&["leased", "covered", "zombie", "bare-pin", "orphaned-pin"])
}

const ORPHAN_ENDS: [&str; 2] = ["pins-gone", "covered"];

pub fn orphan_end(_: &mut SchemaGenerator) -> Schema {
    words(&ORPHAN_ENDS)
}

pub fn outcome(_: &mut SchemaGenerator) -> Schema {
    words(&[
        "done",
        "would",
        "handed-over",
        "spared",
        "bystander",
        "ending",
        "failed",
        "too-late",
        "taken-back",
        "gone",
        "pins-gone",
        "limit",
        "verified",
        "pins-remain",
        "covered",
    ])
}

fn words<T: Serialize>(words: &[T]) -> Schema {
    json_schema!({ "enum": words })
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "RFC 3339, UTC, microseconds.",
            "type": "string",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        })
    }
}

impl JsonSchema for Dev {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dev".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Device, MAJOR:MINOR in decimal.",
            "type": "string",
            "pattern": r"^\d+:\d+$",
        })
    }
}

impl JsonSchema for FilePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Path".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["path"],
            "properties": {
                "path": {
                    "description": "Absent: not known. With … in front, its beginning is missing. \
                                    Bytes that are not UTF-8 are replaced.",
                    "type": "string",
                    "pattern": "^(/|…)",
                },
                "deleted": {
                    "description": "The file was already unlinked.",
                    "const": true,
                },
            },
        })
    }
}

/// The whole document.
fn generate() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let time = generator.subschema_for::<Timestamp>();
    let transition = generator.subschema_for::<Transition>();
    let mut events: Vec<_> = SHAPES
        .iter()
        .map(|shape| shape.schema(&transition))
        .collect();
    for (name, schema, says) in [
        (
            Name::Start,
            Start::json_schema(&mut generator),
            "The first event of a run.",
        ),
        (
            Name::Lost,
            Lost::json_schema(&mut generator),
            "Something was lost since the last event of this kind. The maps are right all the same.",
        ),
        (
            Name::End,
            End::json_schema(&mut generator),
            "The last event of a run.",
        ),
    ] {
        events.push(with_event(&schema, name, says));
    }
    let entry = generator.subschema_for::<Entry>();
    let lost = generator.subschema_for::<Lost>();
    let names = names(&Name::json_schema(&mut generator));
    let mut definitions = generator.take_definitions(true);
    for schema in definitions.values_mut().chain(&mut events) {
        let mut tidied = Schema::try_from(schema.take()).expect("a schema");
        RecursiveTransform(tidy).transform(&mut tidied);
        *schema = tidied.to_value();
    }
    // What events about a file have in common; each of them says what it has besides.
    let transition = &mut definitions["Transition"];
    let members = transition.as_object_mut().expect("an object");
    members.remove("additionalProperties");
    for member in ["uid", "dev", "ino"] {
        let required = transition["required"].as_array_mut().expect("some are");
        required.push(json!(member));
    }
    definitions.insert(
        "event".to_owned(),
        json!({
            "type": "object",
            "required": ["time", "event"],
            "properties": { "time": time, "event": { "enum": names } },
            "oneOf": events,
        }),
    );
    definitions.insert("report".to_owned(), report(&entry, &lost));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Output of lease-trace",
        "description": "Each line of `lease-trace monitor -o json` is an event; the whole output of \
                        `lease-trace report -J` is a report. Members that do not apply are absent.",
        "oneOf": [{ "$ref": "#/$defs/event" }, { "$ref": "#/$defs/report" }],
        "$defs": definitions,
    })
}

/// The names of all events, each of which has one schema.
fn names(schema: &Schema) -> Vec<Value> {
    let variants = schema.as_value()["oneOf"]
        .as_array()
        .expect("some have a description");
    let words = variants.iter().flat_map(|variant| match &variant["const"] {
        Value::Null => variant["enum"]
            .as_array()
            .expect("others have none")
            .clone(),
        word => vec![word.clone()],
    });
    let names: Vec<_> = words.collect();
    let alone = [Name::Start, Name::Lost, Name::End];
    let shaped = SHAPES.iter().flat_map(|shape| shape.names).chain(&alone);
    let mut shaped: Vec<_> = shaped.map(|name| json!(name).to_string()).collect();
    let mut all: Vec<_> = names.iter().map(Value::to_string).collect();
    shaped.sort_unstable();
    all.sort_unstable();
    assert_eq!(shaped, all, "each name has one schema");
    names
}

/// The members of a record beside its time and its name.
fn with_event(schema: &Schema, name: Name, says: &str) -> Value {
    let mut schema = schema.clone().to_value();
    schema["description"] = json!(says);
    schema["properties"]["time"] = json!(true);
    schema["properties"]["event"] = json!({ "const": name });
    schema
}

fn report(entry: &Schema, lost: &Schema) -> Value {
    let entries = |required: &[&str]| {
        json!({
            "type": "array",
            "items": { "allOf": [entry], "required": required },
        })
    };
    json!({
        "type": "object",
        "description": "One of `zombies`, `leases` and `stakes`, as asked for.",
        "required": ["monitor", "enforcement", "lost"],
        "oneOf": [
            { "required": ["zombies"] },
            { "required": ["leases"] },
            { "required": ["stakes"] },
        ],
        "properties": {
            "zombies": entries(&["lease", "cause", "pins", "state", "ends_by_itself"]),
            "leases": entries(&["lease"]),
            "stakes": entries(&["leases"]),
            "monitor": {
                "description": "Pid of the monitor whose stakes these are; null if none runs, and \
                                pins are then not known.",
                "type": ["integer", "null"],
                "minimum": 0,
            },
            "enforcement": {
                "description": "The stakes are those of the enforcement in place, without a monitor.",
                "type": "boolean",
            },
            "lost": {
                "description": "What the monitor has lost since it started; empty if nothing.",
                "type": "array",
                "items": lost,
            },
        },
        "additionalProperties": false,
    })
}

/// What the types cannot say: a member that does not apply is absent and never null, and there are
/// no others than these.
fn tidy(schema: &mut Schema) {
    let Some(members) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            members.remove("anyOf");
            members.extend(only);
        }
    }
    if let Some(Value::String(says)) = members.get_mut("description") {
        *says = says.replace('\n', " ");
    }
    let whole = !members.contains_key("unevaluatedProperties");
    if members.contains_key("properties") && whole {
        members.insert("additionalProperties".to_owned(), json!(false));
    }
}

/// A validator for one definition: `event` or `report`.
pub fn validator(definition: &str) -> Validator {
    let text = include_str!("../../docs/ndjson.schema.json");
    let mut schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    let root = schema.as_object_mut().expect("the schema is an object");
    root.remove("oneOf");
    root.insert("$ref".to_owned(), json!(format!("#/$defs/{definition}")));
    jsonschema::validator_for(&schema).expect("the schema is a schema")
}

pub fn assert_valid(validator: &Validator, text: &str) {
    let value: Value = serde_json::from_str(text).expect("JSON");
    let errors: Vec<_> = validator
        .iter_errors(&value)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{text}\n{}", errors.join("\n"));
}

/// With `SCHEMA=write` in the environment it is written instead.
#[test]
fn the_schema_is_that_of_the_types() {
    let generated = serde_json::to_string_pretty(&generate()).expect("JSON") + "\n";
    if std::env::var_os("SCHEMA").is_some_and(|what| what == "write") {
        std::fs::write(FILE, &generated).expect("writes the schema");
    }
    let there = std::fs::read_to_string(FILE).expect("reads the schema");
    assert!(
        there == generated,
        "docs/ndjson.schema.json is not that of the types: run `SCHEMA=write cargo test -p \
         lease-trace schema` and look at the difference"
    );
}

#[test]
fn what_is_not_in_the_types_is_refused() {
    let zombie = json!({
        "time": "2026-03-04T08:15:04.001500Z", "event": "zombie", "pid": 7, "comm": "db", "uid": 0,
        "dev": "0:45", "ino": 3, "lease": { "kind": "lease", "mode": "write" }, "cause": "unlock",
        "pins": 8, "ends_by_itself": false,
    });
    let validator = validator("event");
    assert!(validator.is_valid(&zombie));
    for (member, value) in [
        ("more", json!(1)),
        ("pins", json!(null)),
        ("pins", json!(-1)),
        ("cause", json!("boredom")),
        ("zombie_ms", json!(5)),
        ("rule", json!("r")),
        ("time", json!("yesterday")),
        ("event", json!("ghost")),
        (
            "lease",
            json!({ "kind": "lease", "mode": "write", "more": 1 }),
        ),
    ] {
        let mut wrong = zombie.clone();
        wrong[member] = value;
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
    let without = |whole: &Value, member: &str| {
        let mut wrong = whole.clone();
        wrong.as_object_mut().expect("an object").remove(member);
        wrong
    };
    for member in ["pid", "ino", "lease", "pins"] {
        assert!(!validator.is_valid(&without(&zombie, member)), "{member}");
    }
    let mut rest = zombie.clone();
    rest["event"] = json!("at-rest");
    rest["zombie_ms"] = json!(5);
    assert!(validator.is_valid(&rest));
    for (member, value) in [("rule", "r"), ("action", "kill"), ("outcome", "verified")] {
        rest[member] = json!(value);
    }
    assert!(validator.is_valid(&rest));
    for member in ["rule", "action", "outcome", "zombie_ms"] {
        assert!(!validator.is_valid(&without(&rest, member)), "{member}");
    }
}
