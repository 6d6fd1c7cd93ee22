//! Holds JSON to docs/ndjson.schema.json. The scenarios have this file, too.

use jsonschema::Validator;
use serde_json::{Value, json};

/// A validator for one definition: `event` or `report`.
pub fn of(definition: &str) -> Validator {
    let text = include_str!("../../../docs/ndjson.schema.json");
    let mut schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    let root = schema.as_object_mut().expect("the schema is an object");
    root.remove("oneOf");
    root.insert("$ref".to_owned(), json!(format!("#/$defs/{definition}")));
    jsonschema::validator_for(&schema).expect("the schema is a schema")
}

/// What is wrong, with its place; nothing if all is right.
pub fn errors(validator: &Validator, value: &Value) -> Vec<String> {
    validator
        .iter_errors(value)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect()
}
