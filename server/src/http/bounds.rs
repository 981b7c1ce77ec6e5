//! The bounds of what requests say, for the API's document.
//!
//! A type says what a field is; how long, how many and from where to where is what the checks of `core` and of the handlers know. This
//! is the same once more, in the words of JSON schema, so that a client can check before it sends.

use promptfield_core::experiment::MOST_LABELS;
use promptfield_core::names::LONGEST_NAME;
use promptfield_core::wire::access::TokenRequest;
use promptfield_core::wire::api::overview::MOST_SELECTED;
use promptfield_core::wire::api::usage::MOST_DEVICES;
use promptfield_core::wire::api::{MOST_FINDINGS, MOST_REPORTS};
use serde_json::{Value, json};

use super::{leases, workers};

/// What [`promptfield_core::names::shown_name`] takes: nothing that a terminal acts on, and something besides spaces.
const SHOWN: &str = r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*[^\s\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069][^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$";
const LABEL: &str = "^[A-Za-z0-9_.=-]{1,100}$";
const SHA256: &str = "^[0-9a-f]{64}$";
/// A name that becomes a part of a path.
const SEGMENT: &str = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$";
const CURSOR: &str = "^a[0-9]{1,19}$";
const KEY: &str = "^[!-~]{1,255}$";

/// The identifiers, which are signed where they are stored.
const IDENTIFIERS: [&str; 8] =
    ["ExperimentId", "FencingToken", "JobId", "LeaseId", "PilotId", "Sequence", "TokenId", "WorkerId"];

/// Bounds by schema, and by the place in it.
fn bounds() -> Vec<(&'static str, &'static str, Value)> {
    let name = || json!({ "minLength": 1, "maxLength": LONGEST_NAME, "pattern": SHOWN });
    let label = || json!({ "pattern": LABEL });
    let some = || json!({ "minItems": 1, "uniqueItems": true });
    let from_to = |least: u64, most: u64| json!({ "minimum": least, "maximum": most });
    let per_cent = || json!({ "minimum": 0, "maximum": 100 });
    let mut bounds = vec![
        ("ExperimentDocument", "/properties/name", name()),
        ("ExperimentDocument", "/properties/backbone", name()),
        ("ExperimentDocument", "/properties/methods", some()),
        ("ExperimentDocument", "/properties/seeds", some()),
        ("ExperimentDocument", "/properties/seeds/items", from_to(0, u64::MAX)),
        ("ExperimentDocument", "/properties/shots", some()),
        ("ExperimentDocument", "/properties/shots/items", json!({ "minimum": 1 })),
        ("ExperimentDocument", "/properties/max_running", json!({ "minimum": 1 })),
        ("ExperimentDocument", "/properties/labels", json!({ "maxItems": MOST_LABELS })),
        ("ExperimentDocument", "/properties/labels/items", label()),
        ("ExperimentDocument", "/properties/sweep/additionalProperties", some()),
        ("Datasets", "/oneOf/0", json!({ "enum": ["all"] })),
        ("Datasets", "/oneOf/1", some()),
        ("WorkerDescription", "/properties/name", name()),
        ("WorkerDescription", "/properties/host", name()),
        ("WorkerDescription", "/properties/version", name()),
        ("WorkerDescription", "/properties/slots", from_to(1, workers::MOST_SLOTS as u64)),
        ("WorkerDescription", "/properties/devices", json!({ "maxItems": workers::MOST_DEVICES })),
        ("WorkerDescription", "/properties/devices/items", name()),
        ("WorkerDescription", "/properties/backbones", json!({ "minItems": 1, "maxItems": workers::MOST_NAMES })),
        ("WorkerDescription", "/properties/backbones/items", name()),
        ("WorkerDescription", "/properties/backbone_sha256", json!({ "maxProperties": workers::MOST_NAMES })),
        ("WorkerDescription", "/properties/backbone_sha256/propertyNames", name()),
        ("WorkerDescription", "/properties/labels", json!({ "maxItems": workers::MOST_NAMES })),
        ("WorkerDescription", "/properties/labels/items", label()),
        ("WorkerDescription", "/properties/time_left_ms", json!({ "minimum": 0 })),
        ("TokenRequest", "/properties/name", name()),
        ("TokenRequest", "/properties/scopes", json!({ "minItems": 1 })),
        ("TokenRequest", "/properties/expires_in_s", from_to(1, TokenRequest::LONGEST_S)),
        ("PinnedBackbone", "/properties/backbone", name()),
        ("Findings", "/properties/findings", json!({ "maxItems": MOST_FINDINGS })),
        ("Selection", "/properties/jobs", json!({ "maxItems": MOST_SELECTED })),
        ("Reports", "/properties/reports", json!({ "maxItems": MOST_REPORTS })),
        ("LoadReport", "/properties/devices", json!({ "maxItems": MOST_DEVICES })),
        ("DeviceLoad", "/properties/device", name()),
        ("DeviceLoad", "/properties/busy_percent", per_cent()),
        ("DeviceLoad", "/properties/memory_mib", from_to(0, leases::MOST_MIB.into())),
        ("DeviceLoad", "/properties/memory_total_mib", from_to(0, leases::MOST_MIB.into())),
        ("LogChunk", "/properties/first_line", from_to(0, leases::MOST)),
        ("MetricPoint", "/properties/step", from_to(0, leases::MOST)),
        ("MetricPoint", "/properties/values", json!({ "maxProperties": leases::MOST_NAMES })),
        ("MetricPoint", "/properties/values/propertyNames", json!({ "maxLength": leases::LONGEST_NAME })),
        ("CompletionReport", "/properties/memory_mib", from_to(1, leases::MOST_MIB.into())),
        ("ReleaseReport", "/properties/unfinished", json!({ "pattern": SHA256 })),
        ("TestResult", "/properties/total", json!({ "minimum": 1 })),
        ("TestResult", "/properties/accuracy", per_cent()),
        ("TestResult", "/properties/error", per_cent()),
        ("TestResult", "/properties/macro_f1", per_cent()),
        ("TestResult", "/properties/calibration_error", per_cent()),
        ("PoolSettings", "/properties/max", from_to(1, 1000)),
        ("PoolSettings", "/properties/min", from_to(0, 1000)),
        ("PoolSettings", "/properties/idle_s", from_to(1, 7 * 86_400)),
        ("PoolSettings", "/properties/slots_per_gpu", from_to(1, 64)),
        ("PoolSettings", "/properties/submit_every_s", from_to(1, 3600)),
        ("PoolSettings", "/properties/lead_s", from_to(30, 3600)),
        ("PoolSettings", "/properties/time_s", from_to(90, 366 * 86_400)),
        ("PoolSettings", "/properties/labels/items", label()),
    ];
    bounds.extend(IDENTIFIERS.map(|identifier| (identifier, "", json!({ "maximum": i64::MAX }))));
    bounds
}

/// Bounds of parameters, by their names.
fn of_parameter(name: &str, path: &str) -> Option<Value> {
    match name {
        "sha256" => Some(json!({ "pattern": SHA256 })),
        "Idempotency-Key" => Some(json!({ "pattern": KEY })),
        "most" => Some(json!({ "maximum": u64::MAX })),
        "cursor" => Some(json!({ "pattern": CURSOR })),
        // A job's result is computed again whether it's stale or not.
        "stale" if path.contains("/jobs/") => Some(json!({ "enum": [false] })),
        "name" if path.contains("/pools/") => Some(json!({ "maxLength": 40, "pattern": SEGMENT })),
        _ => None,
    }
}

/// Adds the bounds to the document; gives back the places that aren't there.
pub(super) fn add(document: &mut Value) -> Vec<String> {
    let mut lost = Vec::new();
    for (schema, place, bound) in bounds() {
        let pointer = format!("/components/schemas/{schema}{place}");
        match document.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            Some(found) => found.extend(bound.as_object().cloned().unwrap_or_default()),
            None => lost.push(pointer),
        }
    }
    let paths = document.pointer_mut("/paths").and_then(Value::as_object_mut);
    for (path, operations) in paths.into_iter().flatten() {
        let operations = operations.as_object_mut().into_iter().flatten().map(|(_, operation)| operation);
        let parameters = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
        for parameter in parameters {
            let bound = parameter["name"].as_str().and_then(|name| of_parameter(name, path));
            let schema = parameter.get_mut("schema").and_then(Value::as_object_mut);
            if let (Some(Value::Object(bound)), Some(schema)) = (bound, schema) {
                schema.extend(bound);
            }
        }
    }
    lost
}
