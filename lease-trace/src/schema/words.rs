//! Members whose types do not say what may be in them.

use lease_trace_common::{cause::Cause, lease::Kind, policy::Action};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::{
    clock::Timestamp,
    record::{Dev, FilePath},
};

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
    words(&[
        "leased",
        "covered",
        "zombie",
        "bare-pin",
        "orphaned-pin",
        "pinned",
    ])
}

pub const ORPHAN_ENDS: [&str; 2] = ["pins-gone", "covered"];

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
