//! Kinds that are two names for the same stored objects: the events of the core group and those of events.k8s.io.
//!
//! The store has the core group's form, whoever wrote an event, so that both groups serve all events. What this crate
//! decides about a kind, it decides about that kind's own form; the caller turns it at the store's edge.

use bytes::Bytes;
use kube_schema::kinds::Kind;
use serde_json::Value;

use crate::{
    encode::{decode_stored, encode},
    value::{default, object_mut, remove, set, text},
};

/// What events.k8s.io calls a field, and what the core group calls it.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Whether a kind's objects are stored in another's form.
pub(crate) fn converts(kind: &Kind) -> bool {
    kind.kind == "Event" && kind.group == "events.k8s.io"
}

/// An event of events.k8s.io as the core group has it.
pub(crate) fn to_core_event(event: &Value) -> Value {
    let mut core = event.clone();
    for (from, to) in EVENT_FIELDS {
        rename(&mut core, from, to);
    }
    set(&mut core, "apiVersion", "v1");
    object_mut(&mut core, "involvedObject");
    object_mut(&mut core, "source");
    for field in ["reportingComponent", "reportingInstance"] {
        default(&mut core, field, "");
    }
    for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        if core[field].is_null() {
            set(&mut core, field, Value::Null);
        }
    }
    core
}

fn from_core_event(mut event: Value) -> Value {
    for (to, from) in EVENT_FIELDS {
        rename(&mut event, from, to);
    }
    set(&mut event, "apiVersion", "events.k8s.io/v1");
    for field in ["reportingController", "reportingInstance", "note"] {
        if text(&event, field).is_empty() {
            remove(&mut event, field);
        }
    }
    event
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = remove(object, from) {
        set(object, to, value);
    }
}

/// Stored bytes of a kind that converts, in that kind's form. Bytes that are no JSON stay as they are, as elsewhere.
pub(crate) fn from_stored(stored: &Bytes) -> Bytes {
    decode_stored(stored).map_or_else(|_| stored.clone(), |event| encode(&from_core_event(event)))
}

/// The other way.
pub(crate) fn to_stored(encoded: &Bytes) -> Bytes {
    decode_stored(encoded).map_or_else(|_| encoded.clone(), |event| encode(&to_core_event(&event)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_goes_there_and_back() {
        let event = json!({
            "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e", "namespace": "default"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "placed", "reason": "Scheduled", "type": "Normal",
            "action": "Binding", "reportingController": "default-scheduler", "reportingInstance": "x",
            "eventTime": "2024-01-01T00:00:00.000000Z", "deprecatedSource": {}, "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": null,
        });
        let stored = to_stored(&encode(&event));
        let core = decode_stored(&stored).unwrap();
        assert_eq!(core["involvedObject"]["name"], "p");
        assert_eq!((&core["message"], &core["reportingComponent"]), (&json!("placed"), &json!("default-scheduler")));
        assert_eq!((&core["apiVersion"], &core["source"]), (&json!("v1"), &json!({})));
        assert_eq!(decode_stored(&from_stored(&stored)).unwrap(), event);
    }
}
