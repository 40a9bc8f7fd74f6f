//! Deletion: grace, finalizers, propagation, preconditions.

use registry::{DeleteOptions, DeleteOutcome, Existing, Outcome, Target};
use serde_json::{Value, json};

use crate::support::{context, create, resource, update, written};

fn delete(plural: &str, object: &Value, options: Value) -> DeleteOutcome {
    let options = DeleteOptions::from_value(&options).unwrap();
    resource(plural).delete(&context(), Existing { object, revision: 7 }, &options).unwrap()
}

fn write(outcome: DeleteOutcome) -> Value {
    match outcome {
        DeleteOutcome::Write(object) => object,
        other => panic!("expected a write, got {other:?}"),
    }
}

fn pod(node: Option<&str>) -> Value {
    let mut pod =
        create("pods", json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
            .unwrap();
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

#[test]
fn a_pod_that_runs_nowhere_goes_at_once() {
    assert!(matches!(delete("pods", &pod(None), json!({})), DeleteOutcome::Remove(_)));
    let mut done = pod(Some("n"));
    done["status"]["phase"] = "Succeeded".into();
    assert!(matches!(delete("pods", &done, json!({})), DeleteOutcome::Remove(_)));
}

#[test]
fn a_running_pod_gets_its_grace_and_then_goes() {
    let marked = write(delete("pods", &pod(Some("n")), json!({})));
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(marked["metadata"]["deletionTimestamp"], "1970-01-12T13:47:10Z");
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(delete("pods", &marked, json!({})), DeleteOutcome::Pending);
    assert_eq!(delete("pods", &marked, json!({"gracePeriodSeconds": 60})), DeleteOutcome::Pending);
    let shorter = write(delete("pods", &marked, json!({"gracePeriodSeconds": 5})));
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "1970-01-12T13:46:45Z");
    assert!(matches!(delete("pods", &marked, json!({"gracePeriodSeconds": 0})), DeleteOutcome::Remove(_)));
}

#[test]
fn finalizers_hold_an_object_until_the_last_is_gone() {
    let object = create("configmaps", json!({"metadata": {"name": "a", "finalizers": ["x.io/f"]}})).unwrap();
    let marked = write(delete("configmaps", &object, json!({})));
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(delete("configmaps", &marked, json!({})), DeleteOutcome::Pending);
    let mut new = marked.clone();
    new["metadata"]["finalizers"] = json!(["x.io/f", "x.io/g"]);
    assert!(
        update("configmaps", Target::Object, &marked, new.clone()).unwrap_err().message.contains("no new finalizers")
    );
    new["metadata"]["finalizers"] = json!([]);
    assert!(matches!(update("configmaps", Target::Object, &marked, new).unwrap(), Outcome::Remove(_)));
}

#[test]
fn dependents_are_provided_for() {
    let object = create("replicasets", {
        let mut object = crate::writes::deployment();
        object["metadata"]["name"] = "rs".into();
        object
    })
    .unwrap();
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let marked = write(delete("replicasets", &object, json!({"propagationPolicy": policy})));
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    for options in [json!({}), json!({"propagationPolicy": "Background"}), json!({"orphanDependents": false})] {
        assert!(matches!(delete("replicasets", &object, options), DeleteOutcome::Remove(_)));
    }
}

#[test]
fn a_namespace_waits_for_its_own_finalizer() {
    let object = create("namespaces", json!({"metadata": {"name": "n"}})).unwrap();
    assert_eq!(object["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let marked = write(delete("namespaces", &object, json!({})));
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(delete("namespaces", &marked, json!({})), DeleteOutcome::Pending);
    let mut kept = marked.clone();
    kept["spec"]["finalizers"] = json!([]);
    assert_eq!(update("namespaces", Target::Object, &marked, kept.clone()).unwrap(), Outcome::Unchanged);
    assert!(matches!(update("namespaces", Target::Finalize, &marked, kept).unwrap(), Outcome::Remove(_)));
}

#[test]
fn preconditions_are_checked() {
    let object = create("configmaps", json!({"metadata": {"name": "a"}})).unwrap();
    for (preconditions, good) in [
        (json!({"uid": "other"}), false),
        (json!({"resourceVersion": "6"}), false),
        (json!({"resourceVersion": "7", "uid": crate::support::UID}), true),
    ] {
        let options = DeleteOptions::from_value(&json!({"preconditions": preconditions})).unwrap();
        let outcome = resource("configmaps").delete(&context(), Existing { object: &object, revision: 7 }, &options);
        assert_eq!(outcome.is_ok(), good);
    }
    assert!(DeleteOptions::from_value(&json!({"propagationPolicy": "X"})).is_err());
    assert!(DeleteOptions::from_value(&Value::Null).is_ok());
}

#[test]
fn updates_of_a_marked_pod_do_not_remove_it() {
    let marked = write(delete("pods", &pod(Some("n")), json!({})));
    let mut new = marked.clone();
    new["metadata"]["annotations"] = json!({"a": "b"});
    new["metadata"]["deletionTimestamp"] = Value::Null;
    let written = written(update("pods", Target::Object, &marked, new).unwrap());
    assert_eq!(written["metadata"]["deletionTimestamp"], marked["metadata"]["deletionTimestamp"]);
}
