//! A binding done in a pod's stored bytes gives the bytes that the long way gives, or leaves the pod to it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use registry::{Existing, FieldValidation, PlainBinding, Target, decode_stored, encode};
use serde_json::{Value, json};

use crate::support::{UID, context, create, resource};

const REVISION: u64 = 7;

/// What both ways make of a pod: (in the bytes, by way of the value).
fn both(pod: &Value, binding: &Value) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let stored = encode(pod);
    let body = serde_json::to_vec(binding).unwrap();
    let quick = PlainBinding::parse(&body).and_then(|binding| binding.bind(&context(), &stored, REVISION));
    let decoded = resource("bindings").decode(Target::Object, &body, FieldValidation::Strict).ok();
    let value = decode_stored(&stored).unwrap();
    let existing = Existing { object: &value, revision: REVISION };
    let long = decoded.and_then(|decoded| resource("pods").bind(&context(), existing, &decoded.value).ok());
    (quick.map(|bytes| bytes.to_vec()), long.map(|value| encode(&value).to_vec()))
}

fn pod() -> Value {
    create("pods", json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).unwrap()
}

/// Whether the quick way is taken, in which case both must agree.
fn check(pod: &Value, binding: &Value, quick: bool) {
    let (one, other) = both(pod, binding);
    assert_eq!(one.is_some(), quick, "{binding} on {pod}");
    assert!(one.is_none() || one == other, "{binding} on {pod}");
}

#[test]
fn the_quick_way_is_that_of_ordinary_pods() {
    let target = json!({"kind": "Node", "name": "n1"});
    let named = json!({"metadata": {"name": "p"}, "target": target});
    let go = json!({
        "kind": "Binding", "apiVersion": "v1", "target": {"kind": "Node", "name": "n\"1"},
        "metadata": {"name": "p", "namespace": "default", "uid": UID, "creationTimestamp": null},
    });
    let labelled = json!({"metadata": {"name": "p", "labels": {"z": "1", "a\u{e9}": "\"", "m": ""},
        "annotations": {"a": "1"}, "resourceVersion": "7"}, "target": target});
    for binding in [&named, &go, &labelled] {
        check(&pod(), binding, true);
    }
    let mut with_labels = pod();
    with_labels["metadata"]["labels"] = json!({"m": "old", "n": "kept", "é": "\\"});
    check(&with_labels, &labelled, true);
    for (path, value) in [
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("/spec/nodeName", json!("n2")),
        ("/spec/schedulingGates", json!([{"name": "g"}])),
        ("/status/nominatedNodeName", json!("n3")),
        ("/status/conditions", json!([{"type": "PodScheduled", "status": "False"}])),
    ] {
        let mut pod = pod();
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        check(&pod, &named, false);
    }
    for binding in [
        json!({"metadata": {"name": "p"}, "target": {"name": "n1"}}),
        json!({"metadata": {"name": "p"}, "target": {"kind": "Pod", "name": "n1"}}),
        json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": ""}}),
        json!({"metadata": {"name": "p", "uid": "other"}, "target": target}),
        json!({"metadata": {"name": "p", "resourceVersion": "8"}, "target": target}),
        json!({"metadata": {"name": "p", "unknown": 1}, "target": target}),
        json!({"kind": "Pod", "metadata": {"name": "p"}, "target": target}),
        json!({"metadata": {"name": "p", "labels": {"\"": "1"}}, "target": target}),
    ] {
        check(&pod(), &binding, false);
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-c/\"\\\\é{}:,\n]{0,5}"
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(text(), text(), 0..4)
}

/// Fields that stand before, between and behind those which a binding changes.
fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!({})),
        Just(json!([])),
        map().prop_map(|map| json!([map])),
    ];
    proptest::collection::btree_map(proptest::sample::select(names), value, 0..5).prop_map(|map| json!(map))
}

proptest! {
    #[test]
    fn both_ways_give_the_same_bytes(
        metadata in some_of(&["a", "annotations", "b", "deletionTimestamp", "labels", "name", "uid", "z"]),
        spec in some_of(&["a", "containers", "nodeName", "nodeSelector", "schedulingGates", "z"]),
        status in some_of(&["a", "conditions", "nominatedNodeName", "phase", "z"]),
        labels in proptest::option::of(map()),
        annotations in proptest::option::of(map()),
        given in (map(), map()),
        uid in proptest::option::of(text()),
        node in text(),
    ) {
        let mut pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status});
        for (field, map) in [("labels", labels), ("annotations", annotations)] {
            if let Some(map) = map {
                pod["metadata"][field] = json!(map);
            }
        }
        let mut binding = json!({"metadata": {"name": "p", "labels": given.0, "annotations": given.1},
            "target": {"kind": "Node", "name": node}});
        if let Some(uid) = uid {
            binding["metadata"]["uid"] = uid.into();
        }
        let (quick, long) = both(&pod, &binding);
        if quick.is_some() {
            prop_assert_eq!(quick, long);
        }
    }

    #[test]
    fn any_bytes_are_bound_or_left(body in "[{}\"a:,\\\\]{0,30}", stored in "[{}\"a:,\\\\]{0,60}") {
        let _ = PlainBinding::parse(body.as_bytes());
        let binding = PlainBinding::parse(br#"{"target":{"kind":"Node","name":"n"}}"#).unwrap();
        let _ = binding.bind(&context(), stored.as_bytes(), REVISION);
    }
}
