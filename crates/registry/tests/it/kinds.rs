//! The kinds that the scheduler watches: what they get, what they refuse, what stays as it was.

use registry::{Outcome, Status, Target};
use serde_json::{Value, json};

use crate::support::{create, update};

/// Lays `change` over `base`: objects are merged, null takes a field out, anything else replaces.
pub fn with(base: &Value, change: Value) -> Value {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            let mut merged = base.clone();
            for (key, value) in change {
                match value {
                    Value::Null => merged.remove(&key),
                    value => merged.insert(key.clone(), with(base.get(&key).unwrap_or(&Value::Null), value)),
                };
            }
            Value::Object(merged)
        }
        (_, change) => change,
    }
}

/// What a refusal says behind the object's name.
fn why(status: &Status) -> &str {
    status.message.split_once(" is invalid: ").map_or(status.message.as_str(), |(_, why)| why)
}

/// Creating `base` with each change over it answers what stands beside the change; nothing is what a good object answers.
pub fn check_creates(plural: &str, base: &Value, cases: &[(Value, &str)]) {
    for (change, expected) in cases {
        let object = with(base, change.clone());
        let answer = create(plural, object).map(|_| String::new()).unwrap_or_else(|status| why(&status).to_owned());
        assert_eq!(answer, *expected, "{plural} {change}");
    }
}

/// The same for updates of what `base` becomes when it is created.
pub fn check_updates(plural: &str, target: Target, base: &Value, cases: &[(Value, &str)]) {
    let mut old = create(plural, base.clone()).unwrap_or_else(|status| panic!("{plural}: {status}"));
    old["metadata"]["resourceVersion"] = "7".into();
    for (change, expected) in cases {
        let new = with(&old, change.clone());
        let mut stored = old.clone();
        stored["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let outcome = update(plural, target, &stored, new);
        let answer = match outcome {
            Ok(Outcome::Write(_)) => String::new(),
            Ok(other) => format!("{other:?}"),
            Err(status) => why(&status).to_owned(),
        };
        assert_eq!(answer.trim_end(), *expected, "{plural} {change}");
    }
}

fn budget() -> Value {
    json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}})
}

#[test]
fn disruption_budgets() {
    let created = create("poddisruptionbudgets", with(&budget(), json!({"status": {"currentHealthy": 5}}))).unwrap();
    assert_eq!(created["metadata"]["generation"], 1);
    let zeros = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    assert_eq!(created["status"], zeros);
    check_creates(
        "poddisruptionbudgets",
        &budget(),
        &[
            (json!({}), ""),
            (json!({"spec": {"minAvailable": "50%"}}), ""),
            (
                json!({"spec": {"minAvailable": -1}}),
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"spec": {"minAvailable": "101%"}}),
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"spec": {"minAvailable": "half"}}),
                "spec.minAvailable: Invalid value: \"half\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ),
            (
                json!({"spec": {"unhealthyPodEvictionPolicy": "Never"}}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ),
        ],
    );
    check_updates(
        "poddisruptionbudgets",
        Target::Object,
        &budget(),
        &[
            (json!({"spec": {"minAvailable": 2}}), ""),
            (
                json!({"metadata": {"resourceVersion": null}, "spec": {"minAvailable": 2}}),
                "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
            ),
        ],
    );
    check_updates(
        "poddisruptionbudgets",
        Target::Status,
        &budget(),
        &[
            (json!({"status": {"disruptionsAllowed": 3}}), ""),
            (
                json!({"status": {"expectedPods": -1}}),
                "status.expectedPods: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"status": {"conditions": [{"type": "A", "status": "True", "reason": "B C", "lastTransitionTime": "2024-01-01T00:00:00Z", "message": ""}]}}),
                "status.conditions[0].reason: Invalid value: \"B C\": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
            ),
        ],
    );
}

fn claim() -> Value {
    json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }})
}

#[test]
fn claims() {
    let source = json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "d"}}});
    let created = create("persistentvolumeclaims", with(&claim(), source)).unwrap();
    assert_eq!(created["spec"]["dataSourceRef"], json!({"kind": "PersistentVolumeClaim", "name": "d"}));
    assert_eq!(
        (&created["spec"]["volumeMode"], &created["status"]),
        (&json!("Filesystem"), &json!({"phase": "Pending"}))
    );
    let odd = json!({"spec": {"dataSource": {"kind": "Pod", "name": "d"}}});
    assert!(create("persistentvolumeclaims", with(&claim(), odd)).unwrap()["spec"]["dataSource"].is_null());
    check_creates(
        "persistentvolumeclaims",
        &claim(),
        &[
            (
                json!({"spec": {"accessModes": []}}),
                "spec.accessModes: Required value: at least 1 access mode is required",
            ),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}}),
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ),
            (
                json!({"spec": {"accessModes": ["Once"]}}),
                "spec.accessModes: Unsupported value: \"Once\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ),
            (json!({"spec": {"resources": null}}), "spec.resources[storage]: Required value"),
            (
                json!({"spec": {"resources": {"requests": {"storage": "0"}}}}),
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                json!({"spec": {"volumeMode": "Tape"}}),
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ),
        ],
    );
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    check_updates(
        "persistentvolumeclaims",
        Target::Object,
        &claim(),
        &[
            (json!({"spec": {"volumeName": "v"}}), ""),
            (json!({"spec": {"storageClassName": "s"}}), ""),
            (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), immutable),
            (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), immutable),
        ],
    );
    check_updates(
        "persistentvolumeclaims",
        Target::Status,
        &claim(),
        &[
            (json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}), ""),
            (
                json!({"status": {"allocatedResourceStatuses": {"cpu": "NodeResizePending"}}}),
                "status.allocatedResourceStatuses: Unsupported value: \"cpu\": supported values: \"storage\"",
            ),
        ],
    );
}

fn volume() -> Value {
    json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
    }})
}

#[test]
fn volumes() {
    let created = create("persistentvolumes", volume()).unwrap();
    assert_eq!(created["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(created["spec"]["hostPath"], json!({"path": "/data", "type": ""}));
    assert_eq!(created["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": "1970-01-12T13:46:40Z"}));
    check_creates(
        "persistentvolumes",
        &volume(),
        &[
            (json!({"spec": {"hostPath": null}}), "spec: Required value: must specify a volume type"),
            (
                json!({"spec": {"local": {"path": "/a"}, "hostPath": null}}),
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ),
            (
                json!({"spec": {"csi": {"driver": "d", "volumeHandle": "h"}}}),
                "spec.csi: Forbidden: may not specify more than 1 volume type",
            ),
            (
                json!({"spec": {"hostPath": {"path": "/a/../b"}}}),
                "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                json!({"spec": {"persistentVolumeReclaimPolicy": "Burn"}}),
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ),
            (
                json!({"spec": {"nodeAffinity": {}}}),
                "spec.nodeAffinity.required: Required value: must specify required node constraints",
            ),
        ],
    );
    check_updates(
        "persistentvolumes",
        Target::Object,
        &volume(),
        &[
            (json!({"spec": {"claimRef": {"name": "c", "namespace": "default"}}}), ""),
            (
                json!({"spec": {"hostPath": {"path": "/other"}}}),
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
            ),
        ],
    );
    check_updates("persistentvolumes", Target::Status, &volume(), &[(json!({"status": {"phase": "Available"}}), "")]);
}

#[test]
fn storage() {
    let class = json!({"metadata": {"name": "s"}, "provisioner": "Example.com/disk"});
    let created = create("storageclasses", class.clone()).unwrap();
    assert_eq!((&created["reclaimPolicy"], &created["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    check_creates(
        "storageclasses",
        &class,
        &[
            (json!({"provisioner": ""}), "provisioner: Required value"),
            (
                json!({"reclaimPolicy": "Recycle"}),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
        ],
    );
    check_updates(
        "storageclasses",
        Target::Object,
        &class,
        &[
            (json!({"allowVolumeExpansion": true}), ""),
            (
                json!({"volumeBindingMode": "WaitForFirstConsumer"}),
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ),
        ],
    );
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d", "nodeID": "i", "topologyKeys": ["a/b"]}]}});
    check_creates(
        "csinodes",
        &node,
        &[
            (json!({}), ""),
            (json!({"spec": {"drivers": [{"name": "d", "nodeID": ""}]}}), "spec.drivers[0].nodeID: Required value"),
            (
                json!({"spec": {"drivers": [{"name": "d", "nodeID": "i"}, {"name": "d", "nodeID": "j"}]}}),
                "spec.drivers[1].name: Duplicate value: \"d\"",
            ),
        ],
    );
    check_updates(
        "csinodes",
        Target::Object,
        &node,
        &[
            (
                json!({"spec": {"drivers": [{"name": "d", "nodeID": "i", "topologyKeys": ["a/b"], "allocatable": {"count": 5}}]}}),
                "",
            ),
            (
                json!({"spec": {"drivers": [{"name": "d", "nodeID": "k"}]}}),
                "spec.drivers: Invalid value: {\"Name\":\"d\",\"NodeID\":\"k\",\"TopologyKeys\":null,\"Allocatable\":null}: field is immutable",
            ),
        ],
    );
    let driver = create("csidrivers", json!({"metadata": {"name": "d"}, "spec": {}})).unwrap();
    assert_eq!(
        driver["spec"],
        json!({
            "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
            "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
        })
    );
    let attachment = json!({"metadata": {"name": "a"}, "spec": {
        "attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"},
    }});
    check_creates(
        "volumeattachments",
        &attachment,
        &[
            (json!({}), ""),
            (
                json!({"spec": {"source": {"persistentVolumeName": null}}}),
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
        ],
    );
    check_updates("volumeattachments", Target::Status, &attachment, &[(json!({"status": {"attached": true}}), "")]);
    let capacity = json!({"metadata": {"name": "c"}, "storageClassName": "s", "capacity": "1Gi"});
    check_updates(
        "csistoragecapacities",
        Target::Object,
        &capacity,
        &[
            (json!({"capacity": "2Gi"}), ""),
            (json!({"storageClassName": "t"}), "storageClassName: Invalid value: \"t\": field is immutable"),
        ],
    );
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

#[test]
fn sets() {
    let controller = json!({"metadata": {"name": "r"}, "spec": {"template": template()}});
    let created = create("replicationcontrollers", controller.clone()).unwrap();
    assert_eq!((&created["spec"]["selector"], &created["spec"]["replicas"]), (&json!({"app": "web"}), &json!(1)));
    assert_eq!(created["metadata"]["labels"], json!({"app": "web"}));
    check_creates(
        "replicationcontrollers",
        &controller,
        &[
            (
                json!({"spec": {"selector": {"app": "other"}}}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (json!({"spec": {"replicas": -1}}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ],
    );
    let mounted = json!([{"name": "data", "mountPath": "/data"}]);
    let claims = json!([{"metadata": {"name": "data"}, "spec": claim()["spec"]}]);
    let mut set = json!({"metadata": {"name": "s"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "serviceName": "s", "template": template(),
        "volumeClaimTemplates": claims,
    }});
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = mounted;
    let created = create("statefulsets", set.clone()).unwrap();
    assert_eq!(created["spec"]["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    assert_eq!(created["spec"]["volumeClaimTemplates"][0]["kind"], "PersistentVolumeClaim");
    assert_eq!(created["status"], json!({"replicas": 0, "availableReplicas": 0}));
    check_creates(
        "statefulsets",
        &set,
        &[
            (
                json!({"spec": {"podManagementPolicy": "Slow"}}),
                "spec.podManagementPolicy: Invalid value: \"Slow\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                json!({"spec": {"volumeClaimTemplates": null}}),
                "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
            ),
        ],
    );
    let fixed = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    check_updates(
        "statefulsets",
        Target::Object,
        &set,
        &[(json!({"spec": {"replicas": 3}}), ""), (json!({"spec": {"serviceName": "t"}}), fixed)],
    );
}

#[test]
fn groups() {
    let group = json!({"metadata": {"name": "g"}, "spec": {
        "podGroupTemplateRef": {"workload": {"workloadName": "w", "podGroupTemplateName": "t"}},
        "schedulingPolicy": {"gang": {"minCount": 3}},
    }});
    check_creates(
        "podgroups",
        &group,
        &[
            (json!({}), ""),
            (json!({"spec": {"schedulingPolicy": {"gang": null, "basic": {}}}}), ""),
            (
                json!({"spec": {"schedulingPolicy": {"gang": null}}}),
                "spec.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`",
            ),
            (
                json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 0}}}}),
                "spec.schedulingPolicy.gang.minCount: Required value",
            ),
            (
                json!({"spec": {"schedulingPolicy": {"gang": {"minCount": -1}}}}),
                "spec.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1",
            ),
        ],
    );
    check_updates(
        "podgroups",
        Target::Object,
        &group,
        &[(
            json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 4}}}}),
            "spec.schedulingPolicy: Invalid value: null: field is immutable",
        )],
    );
    let workload = json!({"metadata": {"name": "w"}, "spec": {
        "podGroupTemplates": [{"name": "t", "schedulingPolicy": {"gang": {"minCount": 3}}}],
    }});
    check_creates(
        "workloads",
        &workload,
        &[(json!({}), ""), (json!({"spec": {"podGroupTemplates": []}}), "spec.podGroupTemplates: Required value")],
    );
}

#[test]
fn devices() {
    let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [
        {"name": "gpu", "exactly": {"deviceClassName": "gpus"}},
    ]}}});
    let created = create("resourceclaims", claim.clone()).unwrap();
    let request = json!({"deviceClassName": "gpus", "allocationMode": "ExactCount", "count": 1});
    assert_eq!(created["spec"]["devices"]["requests"][0]["exactly"], request);
    check_creates(
        "resourceclaims",
        &claim,
        &[
            (
                json!({"spec": {"devices": {"requests": [{"name": "gpu"}]}}}),
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            ),
            (
                json!({"spec": {"devices": {"constraints": [{"requests": ["cpu"], "matchAttribute": "a/b"}]}}}),
                "spec.devices.constraints[0].requests[0]: Invalid value: \"cpu\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            ),
        ],
    );
    let result = json!({"request": "gpu", "driver": "d", "pool": "p", "device": "x"});
    let allocation = json!({"devices": {"results": [result]}});
    let user = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
    check_updates(
        "resourceclaims",
        Target::Status,
        &claim,
        &[
            (json!({"status": {"allocation": allocation, "reservedFor": user}}), ""),
            (
                json!({"status": {"reservedFor": user}}),
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ),
        ],
    );
    let slice = json!({"metadata": {"name": "s"}, "spec": {
        "driver": "d", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1, "generation": 1},
        "devices": [{"name": "x", "attributes": {"model": {"string": "m"}}, "capacity": {"memory": {"value": "1Gi"}}}],
    }});
    check_creates(
        "resourceslices",
        &slice,
        &[
            (json!({}), ""),
            (
                json!({"spec": {"pool": {"resourceSliceCount": 0}}}),
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            ),
            (
                json!({"spec": {"allNodes": true}}),
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ),
        ],
    );
    check_creates(
        "deviceclasses",
        &json!({"metadata": {"name": "gpus"}, "spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
        &[(json!({}), ""), (json!({"spec": {"selectors": [{}]}}), "spec.selectors[0].cel: Required value")],
    );
}
