//! docs/ndjson.schema.json: generated from the types of the output, and what tests hold the output
//! to.

mod shapes;
mod validator;
mod words;

use jsonschema::Validator;
use schemars::{
    JsonSchema as _, Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::{Value, json};

use self::shapes::SHAPES;
pub use self::validator::of as validator;
pub use self::words::{
    action, cause, lease_kind, lease_mode, orphan_end, outcome, policy_mode, state,
};
use crate::{
    clock::Timestamp,
    record::{Corrected, End, Entry, Lost, Name, Start, Transition},
    sinks::pins::Pins,
};

/// Where it is, from the crate.
const FILE: &str = "../docs/ndjson.schema.json";

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
            Name::Corrected,
            Corrected::json_schema(&mut generator),
            "More pins were counted in a file than the kernel has there: the hook on a drop was \
             missed. They are as found now.",
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
    let pins = generator.subschema_for::<Pins>();
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
    definitions.insert("pins".to_owned(), pins.to_value());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Output of lease-trace",
        "description": "Each line of `lease-trace monitor -o json` is an event; the whole output of \
                        `lease-trace report -J` is a report, that of `lease-trace pins -J` is pins. Members \
                        that do not apply are absent.",
        "oneOf": [
            { "$ref": "#/$defs/event" },
            { "$ref": "#/$defs/report" },
            { "$ref": "#/$defs/pins" },
        ],
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
    let alone = [Name::Start, Name::Corrected, Name::Lost, Name::End];
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
        "required": ["monitor", "enforcement", "surveyed", "lost"],
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
                "description": "Pid of the monitor whose stakes these are; null if none runs.",
                "type": ["integer", "null"],
                "minimum": 0,
            },
            "enforcement": {
                "description": "The stakes are those of the enforcement in place, without a monitor.",
                "type": "boolean",
            },
            "surveyed": {
                "description": "Nobody watched: pins are those that were found now (`pins`). Where \
                                neither is so, they are not known.",
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

pub fn assert_valid(validator: &Validator, text: &str) {
    let value: Value = serde_json::from_str(text).expect("JSON");
    let errors = validator::errors(validator, &value);
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
