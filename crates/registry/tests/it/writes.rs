//! Create and update: system metadata, preconditions, generations, statuses, immutable fields.

use registry::{Existing, Outcome, Registry, Target};
use serde_json::{Value, json};

use crate::support::{UID, context, create, resource, update, written};

pub fn deployment() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        },
    }})
}

#[test]
fn a_deployment_gets_kubernetes_defaults() {
    let created = create("deployments", deployment()).unwrap();
    assert_eq!(
        created,
        json!({
            "kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {
                "name": "web", "namespace": "default", "uid": UID, "generation": 1,
                "creationTimestamp": "1970-01-12T13:46:40Z",
            },
            "spec": {
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [{
                            "name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                        }],
                        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                        "securityContext": {}, "terminationGracePeriodSeconds": 30,
                    },
                },
            },
            "status": {},
        })
    );
}

#[test]
fn writing_the_same_again_is_no_write() {
    for (plural, object) in [
        ("deployments", deployment()),
        ("configmaps", json!({"metadata": {"name": "a"}, "data": {"k": "v"}})),
        ("namespaces", json!({"metadata": {"name": "a"}})),
        ("pods", json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})),
        ("secrets", json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}})),
        ("leases", json!({"metadata": {"name": "a"}, "spec": {"renewTime": "2024-01-01T00:00:00.5Z"}})),
    ] {
        let created = create(plural, object).unwrap_or_else(|status| panic!("{plural}: {status}"));
        let mut again = created.clone();
        again["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(update(plural, Target::Object, &created, again).unwrap(), Outcome::Unchanged, "{plural}");
    }
}

#[test]
fn the_generation_counts_changes_of_the_spec_only() {
    let old = create("deployments", deployment()).unwrap();
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(written(update("deployments", Target::Object, &old, new.clone()).unwrap())["metadata"]["generation"], 1);
    new["spec"]["replicas"] = 3.into();
    new["status"] = json!({"replicas": 9});
    let scaled = written(update("deployments", Target::Object, &old, new).unwrap());
    assert_eq!(scaled["metadata"]["generation"], 2);
    assert_eq!(scaled["status"], json!({}));
}

#[test]
fn the_status_changes_by_its_own_road() {
    let old = create("deployments", deployment()).unwrap();
    let mut new = old.clone();
    new["spec"]["replicas"] = 9.into();
    new["status"] = json!({"replicas": 1, "observedGeneration": 1});
    let written = written(update("deployments", Target::Status, &old, new).unwrap());
    assert_eq!(written["spec"], old["spec"]);
    assert_eq!(written["status"]["replicas"], 1);
    assert_eq!(written["metadata"]["generation"], 1);
}

#[test]
fn scale_reads_and_writes_replicas() {
    let old = create("deployments", deployment()).unwrap();
    let mut scale = resource("deployments").scale(Existing { object: &old, revision: 7 }).unwrap();
    assert_eq!(scale["status"]["selector"], "app=web");
    assert_eq!(scale["metadata"]["resourceVersion"], "7");
    scale["spec"]["replicas"] = 20.into();
    let scaled = written(update("deployments", Target::Scale, &old, scale).unwrap());
    assert_eq!((&scaled["spec"]["replicas"], &scaled["metadata"]["generation"]), (&json!(20), &json!(2)));
}

#[test]
fn refusals_speak_kubernetes_words() {
    let message = |plural: &str, object: Value| create(plural, object).unwrap_err().message;
    assert_eq!(
        message("configmaps", json!({"metadata": {"name": "X"}})),
        "ConfigMap \"X\" is invalid: metadata.name: Invalid value: \"X\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    );
    assert_eq!(
        message("pods", json!({"metadata": {"name": "p"}, "spec": {"containers": [{"image": ""}]}})),
        "Pod \"p\" is invalid: [spec.containers[0].name: Required value, spec.containers[0].image: Required value]"
    );
    assert_eq!(
        message("configmaps", json!({"metadata": {}})),
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    assert_eq!(
        message(
            "jobs",
            json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}})
        ),
        "Job.batch \"j\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
    );
    let old = create("deployments", deployment()).unwrap();
    let mut new = old.clone();
    for place in ["/spec/selector/matchLabels/app", "/spec/template/metadata/labels/app"] {
        *new.pointer_mut(place).unwrap() = "other".into();
    }
    assert_eq!(
        update("deployments", Target::Object, &old, new).unwrap_err().message,
        "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable"
    );
}

#[test]
fn preconditions_are_checked() {
    let old = create("configmaps", json!({"metadata": {"name": "a"}})).unwrap();
    let mut new = old.clone();
    new["metadata"]["resourceVersion"] = "6".into();
    let status = update("configmaps", Target::Object, &old, new.clone()).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    new["metadata"]["resourceVersion"] = "7".into();
    new["data"] = json!({"k": "v"});
    assert!(
        written(update("configmaps", Target::Object, &old, new.clone()).unwrap())["metadata"]
            .get("resourceVersion")
            .is_none()
    );
    new["metadata"]["uid"] = "other".into();
    assert_eq!(update("configmaps", Target::Object, &old, new).unwrap_err().code, 409);
}

#[test]
fn a_lease_is_never_overwritten_blindly() {
    let old = create("leases", json!({"metadata": {"name": "a"}})).unwrap();
    assert_eq!(
        update("leases", Target::Object, &old, old.clone()).unwrap_err().message,
        "leases.coordination.k8s.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
}

#[test]
fn names_are_generated() {
    let created = create("configmaps", json!({"metadata": {"generateName": "a-"}})).unwrap();
    assert_eq!(created["metadata"]["name"], "a-x7k2p");
}

#[test]
fn jobs_select_by_their_uid() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let created = create("jobs", json!({"metadata": {"name": "j"}, "spec": {"template": template}})).unwrap();
    assert_eq!(created["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": UID}}));
    assert_eq!(created["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!(update("jobs", Target::Object, &created, created.clone()).unwrap(), Outcome::Unchanged);
    let mut new = created.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "other".into();
    assert!(update("jobs", Target::Object, &created, new).unwrap_err().message.contains("field is immutable"));
}

#[test]
fn immutable_configmaps_stay() {
    let old = create("configmaps", json!({"metadata": {"name": "a"}, "immutable": true, "data": {"k": "v"}})).unwrap();
    let mut new = old.clone();
    new["data"]["k"] = "w".into();
    assert_eq!(
        update("configmaps", Target::Object, &old, new).unwrap_err().message,
        "ConfigMap \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
}

#[test]
fn rows_have_a_cell_per_column() {
    for resource in Registry::builtin().resources() {
        let cells = resource.cells(&json!({}), context().now);
        assert_eq!(cells.len(), resource.columns().len(), "{}", resource.kind().kind);
    }
}
