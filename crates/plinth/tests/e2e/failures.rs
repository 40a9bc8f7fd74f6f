//! What goes wrong in pods shows the states and events that Kubernetes users know.

use serde_json::Value;
use test_support::{Cluster, until};

use crate::{SOON, cluster, pod, pods::import_busybox};

fn wait_for(cluster: &Cluster, name: &str, what: &str, look: impl Fn(&Value) -> bool) {
    until(&format!("{name}: {what}"), SOON, || {
        let pod = pod(cluster, name);
        if look(&pod["status"]) { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}

fn wait_for_event(cluster: &Cluster, name: &str, reason: &str, message: &str) {
    until(&format!("event {reason} of {name}"), SOON, || {
        let line = format!(
            "get events --field-selector involvedObject.name={name},reason={reason} -o jsonpath={{.items[*].message}}"
        );
        let text = cluster.kubectl.ok(&line);
        if text.contains(message) {
            Ok(())
        } else {
            Err(format!("{text:?}; all: {}", cluster.kubectl.ok("get events")))
        }
    });
}

fn waiting(status: &Value) -> &str {
    status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or("")
}

#[test]
fn failures_look_as_users_know_them() {
    let cluster = cluster();
    import_busybox(&cluster);
    let k = &cluster.kubectl;

    // Nothing listens on port 1: the pull fails at once, without leaving the machine.
    k.ok("run noimage --image=127.0.0.1:1/nothing:1");
    wait_for(&cluster, "noimage", "ErrImagePull, then ImagePullBackOff", |status| {
        waiting(status) == "ImagePullBackOff"
    });
    wait_for_event(&cluster, "noimage", "Failed", "Failed to pull image \"127.0.0.1:1/nothing:1\"");
    wait_for_event(&cluster, "noimage", "Failed", "Error: ErrImagePull");
    wait_for_event(&cluster, "noimage", "BackOff", "Back-off pulling image");

    k.ok("run never --image=example.test/missing:1 --image-pull-policy=Never");
    wait_for(&cluster, "never", "ErrImageNeverPull", |status| waiting(status) == "ErrImageNeverPull");
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: badname}\nspec: {containers: [{name: a, image: 'UPPER:::case'}]}\n");
    wait_for(&cluster, "badname", "InvalidImageName", |status| waiting(status) == "InvalidImageName");

    k.ok("run crash --image=example.test/busybox:1 --command -- sh -c 'exit 3'");
    wait_for(&cluster, "crash", "CrashLoopBackOff", |status| {
        let container = &status["containerStatuses"][0];
        waiting(status) == "CrashLoopBackOff"
            && container["restartCount"].as_i64() >= Some(1)
            && container["lastState"]["terminated"]["exitCode"] == 3
    });
    wait_for_event(&cluster, "crash", "BackOff", "Back-off restarting failed container");
    k.ok("run nothing --image=example.test/busybox:1 --restart=Never --command -- /not/there");
    wait_for(&cluster, "nothing", "StartError", |status| {
        let ended = &status["containerStatuses"][0]["state"]["terminated"];
        ended["reason"] == "StartError" && ended["exitCode"] == 128
    });

    k.apply(PROBES);
    wait_for(&cluster, "unready", "not Ready", |status| {
        status["containerStatuses"][0]["state"]["running"].is_object()
            && status["containerStatuses"][0]["ready"] == false
    });
    wait_for_event(&cluster, "unready", "Unhealthy", "Readiness probe failed");
    wait_for(&cluster, "unlive", "is restarted", |status| {
        status["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)
    });
    wait_for_event(&cluster, "unlive", "Unhealthy", "Liveness probe failed");
    wait_for_event(&cluster, "unlive", "Killing", "failed liveness probe, will be restarted");

    k.apply(MISSING);
    wait_for(&cluster, "missingkey", "CreateContainerConfigError", |status| {
        waiting(status) == "CreateContainerConfigError"
    });
    wait_for_event(&cluster, "missingvolume", "FailedMount", "configmap \"not-there\" not found");

    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: huge}\nspec:\n  containers: [{name: a, image: 'plinth.io/demo:v1', resources: {requests: {cpu: '1000'}}}]\n");
    wait_for_event(&cluster, "huge", "FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu");
    wait_for(&cluster, "huge", "PodScheduled is False", |status| {
        status["conditions"]
            .as_array()
            .is_some_and(|l| l.iter().any(|c| c["type"] == "PodScheduled" && c["reason"] == "Unschedulable"))
    });
    let node = k.ok("get nodes -o name");
    k.ok(&format!("cordon {}", node.trim()));
    k.ok("run late --image=plinth.io/demo:v1");
    wait_for_event(&cluster, "late", "FailedScheduling", "1 node(s) were unschedulable");
    k.ok(&format!("uncordon {}", node.trim()));
    k.ok("wait --for=condition=Ready pod/late --timeout=60s");
}

const PROBES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: unready}
spec:
  containers:
  - name: a
    image: example.test/busybox:1
    command: [sleep, '3600']
    readinessProbe: {tcpSocket: {port: 9}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: unlive}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: a
    image: example.test/busybox:1
    command: [sleep, '3600']
    livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 2}
";

const MISSING: &str = "
apiVersion: v1
kind: Pod
metadata: {name: missingkey}
spec:
  containers:
  - name: a
    image: example.test/busybox:1
    env: [{name: X, valueFrom: {secretKeyRef: {name: not-there, key: x}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: missingvolume}
spec:
  containers:
  - name: a
    image: example.test/busybox:1
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, configMap: {name: not-there}}]
";
