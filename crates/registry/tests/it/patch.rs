//! Patches of all three kinds.

use kube_schema::{Schema, Shape};
use proptest::prelude::*;
use registry::{
    Existing, FieldValidation, Status, Target,
    patch::{PatchKind, strategic_merge},
};
use serde_json::{Value, json};

use crate::support::{create, resource};

fn apply(kind: PatchKind, object: &Value, body: &Value) -> Result<Value, Status> {
    let existing = Existing { object, revision: 7 };
    let body = body.to_string();
    let validation = FieldValidation::Strict;
    resource("pods").patch(Target::Object, existing, kind, body.as_bytes(), validation).map(|decoded| decoded.value)
}

fn spec(containers: Value) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"containers": containers}})
}

/// A strategic patch of the spec.
fn check(live: Value, patch: Value, expected: Value) {
    let mut object = spec(json!([]));
    object["spec"] = live;
    let patched = apply(PatchKind::Strategic, &object, &json!({"spec": patch})).unwrap();
    assert_eq!(patched["spec"], expected, "{patch}");
}

#[test]
fn lists_merge_by_their_key() {
    let live = || json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]});
    check(
        live(),
        json!({"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4"}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c", "image": "4"}]}),
    );
    check(
        live(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b", "image": "2"}]}),
    );
    check(
        live(),
        json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
        json!({"containers": [{"name": "z"}]}),
    );
    check(
        live(),
        json!({
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            "containers": [{"name": "c"}],
        }),
        json!({"containers": [{"name": "c"}, {"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}),
    );
}

#[test]
fn directives_do_what_they_say() {
    let live = || json!({"containers": [{"name": "a"}], "nodeSelector": {"x": "1", "y": "2"}});
    check(
        live(),
        json!({"nodeSelector": {"x": null}}),
        json!({"containers": [{"name": "a"}], "nodeSelector": {"y": "2"}}),
    );
    check(
        live(),
        json!({"nodeSelector": {"$patch": "replace", "z": "3"}}),
        json!({"containers": [{"name": "a"}], "nodeSelector": {"z": "3"}}),
    );
    check(live(), json!({"nodeSelector": {"$patch": "delete"}}), json!({"containers": [{"name": "a"}]}));
    check(
        json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}]}),
        json!({"containers": [], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
    );
    // A list that does not merge is replaced.
    check(
        json!({"containers": [{"name": "a", "args": ["1", "2"]}]}),
        json!({"containers": [{"name": "a", "args": ["3"]}]}),
        json!({"containers": [{"name": "a", "args": ["3"]}]}),
    );
}

#[test]
fn primitive_lists_lose_and_gain() {
    let mut object = spec(json!([]));
    object["metadata"]["finalizers"] = json!(["a.io/1", "a.io/2"]);
    let patch = json!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["a.io/1"], "finalizers": ["a.io/2", "a.io/3"],
    }});
    let patched = apply(PatchKind::Strategic, &object, &patch).unwrap();
    assert_eq!(patched["metadata"]["finalizers"], json!(["a.io/2", "a.io/3"]));
}

#[test]
fn json_and_merge_patches() {
    let object = spec(json!([{"name": "a", "image": "1"}]));
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": "2"},
    ]);
    assert_eq!(apply(PatchKind::Json, &object, &patch).unwrap()["spec"]["containers"][0]["image"], "2");
    let merged = apply(
        PatchKind::Merge,
        &object,
        &json!({"spec": {"containers": [{"name": "z"}]}, "metadata": {"labels": {"a": null, "b": "c"}}}),
    );
    let merged = merged.unwrap();
    assert_eq!(merged["spec"]["containers"], json!([{"name": "z"}]));
    assert_eq!(merged["metadata"]["labels"], json!({"b": "c"}));
}

#[test]
fn refusals_speak_kubernetes_words() {
    let object = spec(json!([]));
    let refuse = |kind, patch: Value| apply(kind, &object, &patch).unwrap_err();
    let status = refuse(PatchKind::Json, json!([{"op": "remove", "path": "/nothing"}]));
    assert_eq!(
        (status.code, status.message.as_str()),
        (422, "the server rejected our request due to an error in our request")
    );
    assert_eq!(refuse(PatchKind::Json, json!({})).code, 400);
    assert_eq!(refuse(PatchKind::Merge, json!([])).code, 400);
    let status = refuse(PatchKind::Strategic, json!({"spec": {"foo": 1}}));
    assert_eq!(
        status.message,
        r#" "" is invalid: patch: Invalid value: "{\"spec\":{\"foo\":1}}": strict decoding error: unknown field "spec.foo""#
    );
    let status = refuse(PatchKind::Strategic, json!({"spec": {"containers": [{"image": "x"}]}}));
    assert_eq!(status.message, r#"map: {"image":"x"} does not contain declared merge key: name"#);
    let status = refuse(PatchKind::Merge, json!({"spec": {"hostNetwork": "x"}}));
    assert_eq!(
        status.message,
        r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"#
    );
}

#[test]
fn kubectl_apply_on_a_service_merges_ports() {
    let ports = json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]);
    let object = create("services", json!({"metadata": {"name": "s"}, "spec": {"ports": ports}})).unwrap();
    let patch = json!({"spec": {
        "$setElementOrder/ports": [{"port": 81}, {"port": 82}],
        "ports": [{"$patch": "delete", "port": 80}, {"name": "c", "port": 82}],
    }});
    let body = patch.to_string();
    let existing = Existing { object: &object, revision: 1 };
    let patched = resource("services")
        .patch(Target::Object, existing, PatchKind::Strategic, body.as_bytes(), FieldValidation::Strict)
        .unwrap();
    let names: Vec<&Value> = patched.value["spec"]["ports"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["b", "c"]);
}

fn small_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..3i64).prop_map(Value::from), "[ab]".prop_map(Value::from)];
    let names = prop_oneof![
        Just("name"),
        Just("spec"),
        Just("containers"),
        Just("volumes"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$setElementOrder/containers"),
        Just("$deleteFromPrimitiveList/args"),
        Just("args"),
        Just("metadata"),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn strategic_patches_never_panic(live in small_json(), patch in small_json()) {
        let schema = Schema::builtin();
        let shape = Shape::Object(schema.find("io.k8s.api.core.v1.Pod").unwrap());
        let mut live = live;
        let _ = strategic_merge(schema, &shape, &mut live, patch);
    }

    #[test]
    fn a_merge_patch_twice_is_a_merge_patch_once(patch in small_json()) {
        let object = spec(json!([{"name": "a"}]));
        if let Ok(once) = apply(PatchKind::Merge, &object, &patch) {
            let mut stored = once.clone();
            stored["metadata"].as_object_mut().map(|m| m.remove("resourceVersion"));
            if stored["metadata"].is_object() {
                prop_assert_eq!(apply(PatchKind::Merge, &stored, &patch).unwrap(), once);
            }
        }
    }
}
