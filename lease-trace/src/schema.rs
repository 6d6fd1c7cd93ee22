//! The documented schema, for tests to hold the output to.

use jsonschema::Validator;
use serde_json::{Value, json};

/// A validator for one definition of docs/ndjson.schema.json: `event` or `report`.
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
