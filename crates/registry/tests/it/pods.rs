//! Pods: admission, binding, what they get.

use registry::{
    Existing, Status, Target,
    admission::{Needs, Neighbours, admit_create, needs},
};
use std::sync::Arc;

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
    let classes: Vec<_> = classes.iter().cloned().map(Arc::new).collect();
    let neighbours = Neighbours {
        namespace: Some(&namespace),
        service_account: account,
        priority_classes: &classes,
        ..Neighbours::default()
    };
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
        storage_classes: false,
        node: None,
        workload: None,
        limit_ranges: true,
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
    assert_eq!(
        again.message,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
}

#[test]
fn a_binding_brings_metadata_and_ends_the_nomination() {
    let mut old = create("pods", pod(json!({}))).unwrap();
    old["status"]["nominatedNodeName"] = "n0".into();
    let existing = Existing { object: &old, revision: 7 };
    let bind = |metadata: Value| {
        let binding = json!({"metadata": metadata, "target": {"kind": "Node", "name": "n1"}});
        resource("pods").bind(&context(), existing, &binding)
    };
    let bound = bind(json!({"name": "p", "annotations": {"a": "1"}, "labels": {"b": "2"}})).unwrap();
    assert_eq!(
        (&bound["metadata"]["annotations"], &bound["metadata"]["labels"]),
        (&json!({"a": "1"}), &json!({"b": "2"}))
    );
    assert!(bound["status"]["nominatedNodeName"].is_null());
    for (metadata, expected) in [
        (
            json!({"name": "p", "uid": "other"}),
            "Operation cannot be fulfilled on pods \"p\": Precondition failed: UID in precondition: other, UID in object meta: 00000000-0000-4000-8000-000000000000",
        ),
        (
            json!({"name": "p", "resourceVersion": "6"}),
            "Operation cannot be fulfilled on pods \"p\": Precondition failed: ResourceVersion in precondition: 6, ResourceVersion in object meta: 7",
        ),
    ] {
        assert_eq!(bind(metadata).unwrap_err().message, expected);
    }
}

#[test]
fn the_pods_own_labels_go_into_its_selectors() {
    let term = json!({"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["app"], "mismatchLabelKeys": ["tenant", "no"]});
    let constraint = json!({
        "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["app"],
    });
    let mut object = pod(json!({
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
        "topologySpreadConstraints": [constraint],
    }));
    object["metadata"]["labels"] = json!({"app": "web", "tenant": "t"});
    let created = create("pods", object).unwrap();
    let wanted = json!({"key": "app", "operator": "In", "values": ["web"]});
    let unwanted = json!({"key": "tenant", "operator": "NotIn", "values": ["t"]});
    let terms = &created["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(terms[0]["labelSelector"], json!({"matchExpressions": [wanted, unwanted]}));
    let selector = &created["spec"]["topologySpreadConstraints"][0]["labelSelector"];
    assert_eq!(selector["matchExpressions"], json!([wanted]));
}

#[test]
fn what_places_a_pod_is_checked() {
    let spread = json!({"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"});
    let weighted = json!({"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}});
    for (spec, expected) in [
        (json!({"schedulingGroup": {"podGroupName": "g"}}), ""),
        (
            json!({"schedulingGroup": {}}),
            "spec.schedulingGroup.podGroupName: Invalid value: null: must specify one of: `podGroupName`",
        ),
        (json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]}), "spec.schedulingGates[1]: Duplicate value: \"a\""),
        (
            json!({"resourceClaims": [{"name": "c"}]}),
            "spec.resourceClaims[0]: Invalid value: {\"Name\":\"c\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        (
            json!({"topologySpreadConstraints": [spread, spread]}),
            "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, ScheduleAnyway}\"",
        ),
        (
            json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}}}),
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
        ),
    ] {
        let answer = create("pods", pod(spec.clone())).map(|_| String::new());
        let answer = answer.unwrap_or_else(|status| status.message.replace("Pod \"p\" is invalid: ", ""));
        assert_eq!(answer, expected, "{spec}");
    }
}

#[test]
fn a_pods_status_is_checked() {
    let mut old = create("pods", pod(json!({"resourceClaims": [{"name": "c", "resourceClaimName": "x"}]}))).unwrap();
    let status = |change: Value| {
        let mut status = json!({"phase": "Pending", "qosClass": "BestEffort"});
        for (key, value) in change.as_object().unwrap() {
            status[key] = value.clone();
        }
        status
    };
    let check = |old: &Value, change: Value, expected: &str| {
        let mut new = old.clone();
        new["status"] = status(change.clone());
        let answer = update("pods", Target::Status, old, new).map(|_| String::new());
        let answer = answer.unwrap_or_else(|status| status.message.replace("Pod \"p\" is invalid: ", ""));
        assert_eq!(answer, expected, "{change}");
    };
    check(&old, json!({"nominatedNodeName": "n1"}), "");
    check(&old, json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "x"}]}), "");
    check(
        &old,
        json!({"resourceClaimStatuses": [{"name": "d"}]}),
        "status.resourceClaimStatuses[0].name: Invalid value: \"d\": must match the name of an entry in `spec.resourceClaims`",
    );
    check(&old, json!({"qosClass": "Burstable"}), "status.qosClass: Invalid value: \"Burstable\": field is immutable");
    old["spec"]["nodeName"] = "n0".into();
    check(
        &old,
        json!({"nominatedNodeName": "n1"}),
        "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
    );
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
