//! Pods: admission, binding, what they get.

use registry::{
    Existing, Status, Target,
    admission::{Needs, Neighbours, admit_create, needs},
};
use serde_json::{Value, json};

use crate::support::{context, create, resource, update, written};

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn admit(mut object: Value, account: Option<&Value>, classes: &[Value]) -> Result<Value, Status> {
    let namespace = json!({"status": {"phase": "Active"}});
    let neighbours = Neighbours { namespace: Some(&namespace), service_account: account, priority_classes: classes };
    admit_create(resource("pods"), &context(), "default", &mut object, neighbours)?;
    Ok(object)
}

#[test]
fn a_pod_gets_its_account_its_token_and_its_tolerations() {
    let account = json!({"imagePullSecrets": [{"name": "s"}]});
    let admitted = admit(pod(json!({})), Some(&account), &[]).unwrap();
    let created = create("pods", admitted).unwrap();
    let spec = &created["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["imagePullSecrets"], account["imagePullSecrets"]);
    assert_eq!(spec["volumes"][0]["name"], "kube-api-access-x7k2p");
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{
            "name": "kube-api-access-x7k2p", "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }])
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
}

#[test]
fn neighbours_that_are_missing_are_told() {
    let needed = needs(resource("pods"), "default", &pod(json!({"serviceAccountName": "web"})));
    let expected = Needs {
        namespace: Some("default".to_owned()),
        service_account: Some("web".to_owned()),
        priority_classes: true,
    };
    assert_eq!(needed, expected);
    assert_eq!(
        admit(pod(json!({})), None, &[]).unwrap_err().message,
        "pods \"p\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
    );
    assert_eq!(
        admit(pod(json!({"priorityClassName": "no"})), Some(&json!({})), &[]).unwrap_err().message,
        "pods \"p\" is forbidden: no PriorityClass with name no was found"
    );
    let mut object = json!({"metadata": {"name": "x"}});
    let gone = Neighbours::default();
    let status = admit_create(resource("configmaps"), &context(), "n", &mut object, gone).unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (404, "namespaces \"n\" not found"));
    let terminating = json!({"status": {"phase": "Terminating"}});
    let neighbours = Neighbours { namespace: Some(&terminating), ..gone };
    let status = admit_create(resource("configmaps"), &context(), "n", &mut object, neighbours).unwrap_err();
    assert_eq!(
        status.message,
        "configmaps \"x\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
}

#[test]
fn priorities_come_from_classes() {
    let classes = [
        json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
        json!({"metadata": {"name": "usual"}, "value": 10, "globalDefault": true}),
    ];
    for (class, expected) in [
        (json!({}), 10),
        (json!({"priorityClassName": "high"}), 1000),
        (json!({"priorityClassName": "system-node-critical"}), 2_000_001_000i64),
    ] {
        let admitted = admit(pod(class), Some(&json!({})), &classes).unwrap();
        assert_eq!(admitted["spec"]["priority"], expected);
    }
    assert!(admit(pod(json!({"priority": 5})), Some(&json!({})), &classes).is_err());
}

#[test]
fn a_binding_sets_the_node_once() {
    let old = create("pods", pod(json!({}))).unwrap();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = resource("pods").bind(&context(), Existing { object: &old, revision: 7 }, &binding).unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let again = resource("pods").bind(&context(), Existing { object: &bound, revision: 8 }, &binding).unwrap_err();
    assert_eq!(again.message, "Operation cannot be fulfilled on pods \"p\": pod p is already assigned to node \"n1\"");
}

#[test]
fn a_pods_status_is_completed() {
    let old = create("pods", pod(json!({}))).unwrap();
    let mut new = old.clone();
    new["status"] = json!({"phase": "Running", "podIP": "10.42.0.5"});
    let written = written(update("pods", Target::Status, &old, new).unwrap());
    assert_eq!(written["status"]["podIPs"], json!([{"ip": "10.42.0.5"}]));
    assert_eq!(written["status"]["qosClass"], "BestEffort");
}
