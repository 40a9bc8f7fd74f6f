//! Event.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    field::Errors,
    kinds::Strategy,
    names,
    table::{self, Column},
    value::{default, object_mut, set, text},
};

pub(crate) struct Event;

impl Strategy for Event {
    // Nothing is left out of the JSON form of these fields, so that clients need not ask whether they are there.
    fn default(&self, object: &mut Value) {
        object_mut(object, "source");
        for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
            if object[field].is_null() {
                set(object, field, Value::Null);
            }
        }
        for field in ["reportingComponent", "reportingInstance"] {
            default(object, field, "");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate(object, "reportingComponent", errors);
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn field(&self, object: &Value, field: &str) -> String {
        match field {
            "source" => match text(&object["source"], "component") {
                "" => text(object, "reportingComponent").to_owned(),
                component => component.to_owned(),
            },
            field => common::field_by_path(object, field),
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

pub(super) const COLUMNS: &[Column] = &[
            Column::text("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
            Column::text("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
            Column::text("Reason", "This should be a short, machine understandable string that gives the reason for the transition into the object's current status."),
            Column::text("Object", "The object that this event is about."),
            Column::text("Subobject", "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2].").wide(),
            Column::text("Source", "The component reporting this event.").wide(),
            Column::text("Message", "A human-readable description of the status of this operation."),
            Column::text("First Seen", "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)").wide(),
            Column::text("Count", "The number of times this event has occurred.").wide(),
            Column { format: "name", ..Column::text("Name", "Name must be unique within a namespace.") }.wide(),
];

/// An event's row, from the form in which it is stored.
pub(super) fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let involved = &object["involvedObject"];
    let series = &object["series"];
    let first = if object["firstTimestamp"].is_null() { &object["eventTime"] } else { &object["firstTimestamp"] };
    let last = match (series["lastObservedTime"].is_null(), object["lastTimestamp"].is_null()) {
        (false, _) => &series["lastObservedTime"],
        (true, false) => &object["lastTimestamp"],
        (true, true) => first,
    };
    let count = series["count"].as_i64().or(object["count"].as_i64()).unwrap_or(1).max(1);
    let place = match text(involved, "name") {
        "" => text(involved, "kind").to_lowercase(),
        name => format!("{}/{name}", text(involved, "kind").to_lowercase()),
    };
    let source = match (text(&object["source"], "component"), text(&object["source"], "host")) {
        ("", _) => match (text(object, "reportingComponent"), text(object, "reportingInstance")) {
            (component, "") => component.to_owned(),
            (component, instance) => format!("{component}, {instance}"),
        },
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    vec![
        table::age(last, now).into(),
        text(object, "type").into(),
        text(object, "reason").into(),
        place.into(),
        text(involved, "fieldPath").into(),
        source.into(),
        text(object, "message").trim().into(),
        table::age(first, now).into(),
        // A number, although the column says otherwise.
        count.into(),
        common::name(object),
    ]
}

const MAX_WORD_BYTES: usize = 128;
const MAX_NOTE_BYTES: usize = 1024;

/// The rules that hold for events of both groups, about the stored form. `reporter` is what errors call the field.
pub(super) fn validate(object: &Value, reporter: &str, errors: &mut Errors) {
    let involved = text(&object["involvedObject"], "namespace");
    let own = text(&object["metadata"], "namespace");
    let new = object["eventTime"].is_string();
    // Events about cluster-wide objects live in the default namespace.
    let fits = match (new, involved.is_empty()) {
        (false, true) => own == "default",
        (false, false) => own == involved,
        (true, true) => matches!(own, "default" | "kube-system"),
        (true, false) => true,
    };
    if !fits {
        errors.invalid_text(&"involvedObject.namespace", involved, "does not match event.namespace");
    }
    if !new {
        return;
    }
    let component = text(object, "reportingComponent");
    if component.is_empty() {
        errors.required(&reporter, "");
    }
    for why in names::qualified_name(component) {
        errors.invalid_text(&reporter, component, &why);
    }
    for field in ["reportingInstance", "action", "reason"] {
        if text(object, field).is_empty() {
            errors.required(&field, "");
        }
    }
    for (field, max) in [
        ("reportingInstance", MAX_WORD_BYTES),
        ("action", MAX_WORD_BYTES),
        ("reason", MAX_WORD_BYTES),
        ("message", MAX_NOTE_BYTES),
    ] {
        if text(object, field).len() > max {
            errors.invalid_text(&field, "", &format!("can have at most {max} characters"));
        }
    }
}
