//! A pod made of a remembered spec is the pod that the long way makes, or is left to it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use registry::{
    Context, FieldValidation, PodBody, RememberedSpec, Target,
    admission::{Neighbours, admit_create},
    encode,
};
use serde_json::{Value, json};

use crate::support::resource;

/// What the long way stores; none if it refuses or warns.
fn long(body: &[u8], context: &Context) -> Option<Bytes> {
    let pods = resource("pods");
    let decoded = pods.decode(Target::Object, body, FieldValidation::Warn).ok()?;
    let mut object = Some(decoded.value).filter(|_| decoded.warnings.is_empty())?;
    let (namespace, account) = (json!({"status": {"phase": "Active"}}), json!({"metadata": {"name": "default"}}));
    let class = json!({"metadata": {"name": "high"}, "value": 7, "globalDefault": true});
    let classes = [Arc::new(class)];
    let neighbours = Neighbours {
        namespace: Some(&namespace),
        service_account: Some(&account),
        priority_classes: &classes,
        ..Neighbours::default()
    };
    admit_create(pods, context, "default", &mut object, neighbours).ok()?;
    Some(encode(&pods.create(context, "default", object).ok()?))
}

fn context(random: u8) -> Context {
    Context::new(Timestamp::from_second(1_000_000 + i64::from(random)).unwrap(), [random; 32])
}

/// A second pod with the spec of the first, by way of what was remembered: (whether it was, what the long way stores).
fn both(first: &Value, second: &[u8]) -> (Option<Bytes>, Option<Bytes>) {
    let pods = resource("pods");
    let first = serde_json::to_vec(first).unwrap();
    let quick = || {
        let stored = long(&first, &context(1))?;
        let learnt = RememberedSpec::learn(PodBody::parse(&first)?.spec(), &stored)?;
        assert_eq!(learnt.service_account(), "default");
        let body = PodBody::parse(second)?;
        assert_eq!(body.spec(), PodBody::parse(&first)?.spec());
        Some(learnt.create(pods, &context(2), "default", (&body, FieldValidation::Warn))?.1)
    };
    (quick(), long(second, &context(2)))
}

/// Whether the quick way is taken for such metadata and spec, in which case both must agree.
fn check(metadata: Value, spec: Value, quick: bool) {
    let pod = |metadata: &Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let second = serde_json::to_vec(&pod(&metadata)).unwrap();
    let (one, other) = both(&pod(&json!({"name": "first"})), &second);
    assert_eq!(one.is_some(), quick, "{metadata} {spec}");
    assert!(one.is_none() || one == other, "{metadata} {spec}: {one:?} is not {other:?}");
}

fn spec(extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1000m"}}}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

#[test]
fn pods_of_one_template_differ_in_their_metadata() {
    let plain = || spec(json!({}));
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]);
    for (metadata, quick) in [
        (json!({"name": "p"}), true),
        (json!({"generateName": "p-", "creationTimestamp": null}), true),
        (json!({"name": "p", "namespace": "default", "labels": {"a": "\"é\n"}, "annotations": {"b": "\"é\n"}}), false),
        (json!({"name": "p", "namespace": "default", "labels": {"a": "b"}, "annotations": {"b": "\"é\n"}}), true),
        (json!({"generateName": "p-", "ownerReferences": owner, "finalizers": ["a.b/c"]}), true),
        (json!({"name": "p", "uid": "mine", "generation": 7, "managedFields": [{"manager": "m"}]}), true),
        (json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z", "selfLink": "/p"}), true),
        (json!({"name": "P"}), false),
        (json!({}), false),
        (json!({"name": "p", "namespace": "other"}), false),
        (json!({"name": "p", "resourceVersion": "1"}), false),
        (json!({"name": "p", "unknown": 1}), false),
        (json!({"name": 1}), false),
        (json!({"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}), false),
        (Value::Null, false),
    ] {
        check(metadata, plain(), quick);
    }
}

#[test]
fn specs_that_depend_on_more_than_their_bytes_are_not_remembered() {
    let term = json!({"topologyKey": "z", "labelSelector": {}, "matchLabelKeys": ["a"]});
    for (extra, quick) in [
        (json!({"automountServiceAccountToken": false}), true),
        (json!({"priorityClassName": "high", "tolerations": [{"operator": "Exists"}], "hostNetwork": true}), true),
        (json!({"volumes": [{"name": "v"}], "initContainers": [{"name": "i", "image": "i"}]}), true),
        (json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}), false),
        (json!({"nodeName": "n"}), false),
        (json!({"schedulingGates": [{"name": "g"}]}), false),
        (json!({"volumes": [{"name": "kube-api-access-abcde", "emptyDir": {}}]}), false),
        (json!({"hostname": "a\u{1}"}), false),
        (json!({"unknown": 1}), false),
        (json!({"priorityClassName": "none"}), false),
    ] {
        check(json!({"name": "p", "labels": {"a": "b"}}), spec(extra), quick);
    }
}

#[test]
fn bodies_are_taken_as_they_are_written() {
    let pod = json!({"metadata": {"name": "p"}, "spec": spec(json!({}))});
    let text = pod.to_string();
    let inner = &text[1..text.len() - 1];
    for (body, quick) in [
        (text.clone(), true),
        (format!("{text}\n"), true),
        (format!(r#"{{{inner},"status":{{}}}}"#), true),
        (format!(r#"{{"kind":"Pod","apiVersion":"v1",{inner}}}"#), true),
        (format!(r#"{{"kind":"Node","apiVersion":"v1",{inner}}}"#), false),
        (format!(r#"{{{inner},"status":{{"phase":"Failed"}}}}"#), false),
        (format!(r#"{{{inner},"more":1}}"#), false),
        (format!(r#"{{{inner},{inner}}}"#), false),
        (format!("{text}}}"), false),
        (text[..text.len() - 1].to_owned(), false),
    ] {
        let found = PodBody::parse(body.as_bytes()).is_some();
        assert_eq!(found, quick, "{body}");
        if quick {
            let (one, other) = both(&pod, body.as_bytes());
            assert!(one.is_some() && one == other, "{body}");
        }
    }
}

proptest! {
    #[test]
    fn any_body_is_read_or_left(body in "[\"\\\\{}\\[\\]:,a1. ]{0,60}") {
        let _ = PodBody::parse(body.as_bytes());
    }

    #[test]
    fn both_ways_agree_about_metadata(name in "[a-zA-Z0-9.-]{0,8}", base in "[a-z.-]{0,70}", key in "[a-z/.]{0,6}", value in "\\PC{0,6}") {
        let metadata = json!({"name": name, "generateName": base, "labels": {&key: &value}, "annotations": {&key: &value}});
        let pod = json!({"metadata": metadata, "spec": spec(json!({}))});
        let (one, other) = both(&json!({"metadata": {"name": "first"}, "spec": pod["spec"]}), pod.to_string().as_bytes());
        prop_assert_eq!(one, other);
    }
}
