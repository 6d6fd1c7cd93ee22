//! The documented schema, that what a real kernel gave rise to is held to.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::Value;

#[path = "../../../src/schema/validator.rs"]
mod validator;

static EVENT: LazyLock<Validator> = LazyLock::new(|| validator::of("event"));
static REPORT: LazyLock<Validator> = LazyLock::new(|| validator::of("report"));
static PINS: LazyLock<Validator> = LazyLock::new(|| validator::of("pins"));
/// Which members events had that were held to it: the same ones again need not be.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says what is wrong with an event, once for each name and set of members.
pub fn check_event(event: &Value) -> Result<(), String> {
    let Value::Object(members) = event else {
        return Err(format!("{event} is no object"));
    };
    let mut shape = event["event"].to_string();
    for (name, value) in members {
        shape += name;
        // What is in it may differ, too.
        if let Value::Object(inner) = value {
            inner.keys().for_each(|name| shape += name);
        }
    }
    if SEEN.lock().expect("nobody panics with it").insert(shape) {
        check(&EVENT, event)
    } else {
        Ok(())
    }
}

/// Says what is wrong with a report.
pub fn check_report(report: &Value) -> Result<(), String> {
    check(&REPORT, report)
}

/// Says what is wrong with what `pins` says.
pub fn check_pins(pins: &Value) -> Result<(), String> {
    check(&PINS, pins)
}

fn check(validator: &Validator, value: &Value) -> Result<(), String> {
    let errors = validator::errors(validator, value);
    if errors.is_empty() {
        Ok(())
    } else {
        Err(format!("{value} breaks the schema: {}", errors.join("; ")))
    }
}
