//! Rows as `kubectl get -o wide` shows them.

use serde_json::{Value, json};

use crate::support::{context, resource};

/// `expected` holds one cell per column, joined by bars.
fn check(plural: &str, object: Value, expected: &str) {
    let mut object = object;
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "1970-01-12T13:36:40Z".into();
    let show = |cell: Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let cells: Vec<String> = resource(plural).cells(&object, context().now).into_iter().map(show).collect();
    assert_eq!(cells.join(" | "), expected, "{plural}");
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}});
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "Exists"}]});
    let spec = json!({"replicas": 3, "selector": selector, "template": template});
    check(
        "deployments",
        json!({"spec": spec, "status": {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}}),
        "x | 2/3 | 1 | 2 | 10m | a,b | i,j | app=web,t",
    );
    check(
        "replicasets",
        json!({"spec": spec, "status": {"replicas": 2}}),
        "x | 3 | 2 | 0 | 10m | a,b | i,j | app=web,t",
    );
    let done = json!({"type": "Complete", "status": "True"});
    check(
        "jobs",
        json!({"spec": {"completions": 1, "template": template}, "status": {
            "succeeded": 1, "conditions": [done],
            "startTime": "1970-01-12T13:36:40Z", "completionTime": "1970-01-12T13:36:45Z",
        }}),
        "x | Complete | 1/1 | 5s | 10m | a,b | i,j | <none>",
    );
    check("jobs", json!({"spec": {"parallelism": 3}}), "x | Running | 0/1 of 3 |  | 10m |  |  | <none>");
}

#[test]
fn nodes_and_namespaces() {
    let info = json!({
        "kubeletVersion": "v1.36.2", "osImage": "Debian", "kernelVersion": "6.18", "containerRuntimeVersion": "plinth://1",
    });
    check(
        "nodes",
        json!({
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "all"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": info,
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            },
        }),
        "x | Ready,SchedulingDisabled | all,control-plane | 10m | v1.36.2 | 10.0.0.1 | <none> | Debian | 6.18 | plinth://1",
    );
    check("nodes", json!({}), "x | Unknown | <none> | 10m |  | <none> | <none> | <unknown> | <unknown> | <unknown>");
    check("namespaces", json!({"status": {"phase": "Active"}}), "x | Active | 10m");
}

#[test]
fn endpoints_and_slices() {
    let addresses: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    check(
        "endpoints",
        json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}),
        "x | 10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more... | 10m",
    );
    check("endpoints", json!({}), "x | <none> | 10m");
    let endpoints: Vec<Value> = (1..=4).map(|n| json!({"addresses": [format!("10.0.0.{n}")]})).collect();
    check(
        "endpointslices",
        json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints}),
        "x | IPv4 | 80 | 10.0.0.1,10.0.0.2,10.0.0.3 + 1 more... | 10m",
    );
}

#[test]
fn small_kinds() {
    check("configmaps", json!({"data": {"a": "1"}, "binaryData": {"b": ""}}), "x | 2 | 10m");
    check("secrets", json!({"type": "Opaque", "data": {"a": ""}}), "x | Opaque | 1 | 10m");
    check("serviceaccounts", json!({}), "x | 10m");
    check("limitranges", json!({}), "x | 1970-01-12T13:36:40Z");
    check("leases", json!({"spec": {"holderIdentity": "me"}}), "x | me | 10m");
    check("priorityclasses", json!({"value": 7, "preemptionPolicy": "Never"}), "x | 7 | false | 10m | Never");
    check(
        "events",
        json!({
            "type": "Warning", "reason": "BackOff", "message": "no\n", "count": 3, "source": {"component": "kubelet", "host": "n"},
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
            "firstTimestamp": "1970-01-12T13:36:40Z", "lastTimestamp": "1970-01-12T13:46:30Z",
        }),
        "10s | Warning | BackOff | pod/p | spec.containers{c} | kubelet, n | no | 10m | 3 | x",
    );
}
