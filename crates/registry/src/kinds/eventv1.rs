//! The events of events.k8s.io: those of the core group in newer words, with stricter rules.

use jiff::Timestamp;
use serde_json::Value;

use super::{common, event};
use crate::{
    convert::to_core_event,
    field::Errors,
    kinds::Strategy,
    table::Column,
    value::{object_mut, set, text},
};

pub(crate) struct Event;

/// What stays as it was written, as the stored form calls it.
const FIXED: [&str; 12] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingInstance",
];

impl Strategy for Event {
    // Nothing is left out of the JSON form of these fields, so that clients need not ask whether they are there.
    fn default(&self, object: &mut Value) {
        for field in ["regarding", "deprecatedSource"] {
            object_mut(object, field);
        }
        for field in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"] {
            if object[field].is_null() {
                set(object, field, Value::Null);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        event::validate(&to_core_event(object), "reportingController", errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        validate_series(&object["series"], errors);
        if !object["eventTime"].is_string() {
            errors.required(&"eventTime", "");
        }
        let kind = text(object, "type");
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid_text(&"type", "", &format!("has invalid value: {kind}"));
        }
        let core = to_core_event(object);
        for field in ["firstTimestamp", "lastTimestamp"].into_iter().filter(|field| core[*field].is_string()) {
            errors.invalid_text(&field, "", "needs to be unset");
        }
        if core["count"].as_i64().unwrap_or(0) != 0 {
            errors.invalid_text(&"count", "", "needs to be unset");
        }
        if ["component", "host"].iter().any(|field| !text(&core["source"], field).is_empty()) {
            errors.invalid_text(&"source", "", "needs to be unset");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if new["series"] != old["series"] {
            validate_series(&new["series"], errors);
        }
        let (to, from) = (to_core_event(new), to_core_event(old));
        for field in FIXED.into_iter().filter(|field| to[*field] != from[*field]) {
            errors.invalid(&field, &to[field], "field is immutable");
        }
        if new["reportingController"] != old["reportingController"] {
            errors.invalid(&"reportingController", &new["reportingController"], "field is immutable");
        }
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
        ]
    }

    fn unset_field(&self, _field: &str) -> Option<&'static str> {
        Some("")
    }

    fn field(&self, object: &Value, field: &str) -> String {
        common::field_by_path(object, field)
    }

    fn columns(&self) -> &'static [Column] {
        event::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        event::cells(&to_core_event(object), now)
    }
}

fn validate_series(series: &Value, errors: &mut Errors) {
    if !series.is_object() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.invalid_text(&"series.count", "", "should be at least 2");
    }
    if !series["lastObservedTime"].is_string() {
        errors.required(&"series.lastObservedTime", "");
    }
}
