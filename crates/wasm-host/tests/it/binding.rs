//! What guests say between the reservation and the binding: whether a pod may go on, waits, or has to have another node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, module, nodes};

/// Milliseconds that no test waits for.
const LONG: i64 = 600_000;

/// A function that answers first so, then so.
fn first_then(export: &str, ty: &str, first: i64, then: i64) -> String {
    format!(
        "(global $asked (mut i32) (i32.const 0))
        (func (export \"{export}\") (result {ty})
            (if (result {ty}) (global.get $asked)
                (then ({ty}.const {then}))
                (else (global.set $asked (i32.const 1)) ({ty}.const {first}))))"
    )
}

/// `permit`'s answer: a status code, and how long to wait.
fn permit(code: i64, millis: i64) -> i64 {
    (code << 32) | millis
}

async fn cluster(inside: &str) -> Cluster {
    Cluster::start_on(nodes([("a", json!({}))]), &module(inside), json!({})).await
}

/// How often an export was called by now, at least.
async fn called(cluster: &Cluster, export: &str, times: usize) {
    let figure = format!("scheduler_wasm_call_duration_seconds_count{{plugin=\"guest\",export=\"{export}\"}}");
    cluster.reaches(&figure, times).await;
}

/// Waits until an event says that a pod could not be placed for this reason.
async fn failed(cluster: &Cluster, pod: &str, reason: &str) {
    let says = |event: &Value| {
        event["reason"] == "FailedScheduling"
            && event["involvedObject"]["name"] == pod
            && event["message"].as_str().is_some_and(|message| message.contains(reason))
    };
    cluster.api.objects.wait("events", reason, says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_until_the_guest_lets_it_go() {
    let cluster = cluster(&first_then("permit", "i64", permit(4, LONG), 0)).await;
    cluster.pod("p", &json!({}));
    called(&cluster, "permit", 1).await;
    let pod = cluster.api.pod("p", |_| true).await;
    assert!(pod["spec"]["nodeName"].is_null(), "{pod}");
    // Something has changed: it is asked again.
    cluster.node("b", &json!({}));
    assert_eq!(cluster.bound("p").await, "a");
    called(&cluster, "permit", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_does_not_wait_longer_than_the_guest_has_said() {
    let cluster = cluster(&first_then("permit", "i64", permit(4, 50), 0)).await;
    cluster.pod("p", &json!({}));
    failed(&cluster, "p", "rejected due to timeout after waiting 50ms").await;
    // After its pause it is tried again, and the guest has changed its mind.
    assert_eq!(cluster.bound("p").await, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_rejects_a_pod_before_it_is_bound() {
    for (export, ty, code) in [("permit", "i64", permit(2, 0)), ("prebind", "i32", 2)] {
        let cluster = cluster(&first_then(export, ty, code, 0)).await;
        cluster.pod("p", &json!({}));
        cluster.waits("p", "0/1 nodes are available: 1 node(s) rejected by plugin \"guest\".").await;
        // Its node is free again: it goes there when something has changed.
        cluster.node("a", &json!({"label": "new"}));
        assert_eq!(cluster.bound("p").await, "a", "{export}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_rejects_a_pod_that_waits() {
    let cluster = cluster(&first_then("permit", "i64", permit(4, LONG), permit(3, 0))).await;
    cluster.pod("p", &json!({}));
    called(&cluster, "permit", 1).await;
    cluster.node("b", &json!({}));
    failed(&cluster, "p", "rejected while it waited: node(s) rejected by plugin \"guest\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_rejects_a_pod_that_waits_while_it_is_asked_about_another() {
    // Each pod waits; whenever a node is filtered, the first has to go, if it waits. What it answers is the reason.
    let inside = format!(
        "(import \"k8s.io/scheduler\" \"handle.reject_waiting_pod\" (func $reject (param i32 i32 i32 i32)))
        (import \"k8s.io/scheduler\" \"handle.get_waiting_pod\" (func $get (param i32 i32 i32 i32)))
        (data (i32.const 0) \"uid-first\")
        (func (export \"filter\") (result i32)
            (call $reject (i32.const 0) (i32.const 9) (i32.const 64) (i32.const 8))
            (call $get (i32.const 0) (i32.const 9) (i32.const 128) (i32.const 1024))
            ;; There is a pod if there is one to reject, and not otherwise.
            (if (i32.ne (i64.eqz (i64.load (i32.const 64))) (i64.eqz (i64.load (i32.const 128)))) (then (unreachable)))
            (i32.const 0))
        (func (export \"permit\") (result i64) (i64.const {}))",
        permit(4, LONG)
    );
    let cluster = cluster(&inside).await;
    cluster.pod("first", &json!({}));
    called(&cluster, "permit", 1).await;
    cluster.pod("second", &json!({}));
    failed(&cluster, "first", "rejected by plugin \"guest\" while it waited").await;
    assert!(!cluster.metrics.encode().contains("scheduler_wasm_faults_total{"), "{}", cluster.metrics.encode());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_hears_of_bindings() {
    let event = r#"{\"Eventtype\":\"Normal\",\"Reason\":\"Welcome\",\"Note\":\"on a node\"}"#;
    let inside = format!(
        "(import \"k8s.io/scheduler\" \"handle.eventrecorder.eventf\" (func $event (param i32 i32)))
        (data (i32.const 0) \"{event}\")
        (func (export \"prebind\") (result i32) (i32.const 0))
        (func (export \"postbind\") (call $event (i32.const 0) (i32.const {})))",
        event.replace('\\', "").len()
    );
    for identity in [true, false] {
        let api = nodes([("a", json!({}))]);
        let cluster = Cluster::start_on(api, &module(&inside), json!({"podIdentity": identity})).await;
        cluster.pod("p", &json!({}));
        assert_eq!(cluster.bound("p").await, "a");
        assert_eq!(cluster.api.event("Welcome").await["involvedObject"]["name"], "p");
        called(&cluster, "prebind", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_fails_afterwards_does_not_take_the_binding_back() {
    let cluster = cluster("(func (export \"postbind\") (unreachable))").await;
    cluster.pod("p", &json!({}));
    assert_eq!(cluster.bound("p").await, "a");
    let told = cluster.fault().await;
    assert!(told.starts_with("plugin \"guest\" failed in postbind of node a: it trapped"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_by_a_guest_goes_together() {
    // It counts the pods that it was asked about, each once, and lets them go when there are three.
    let inside = format!(
        "(import \"k8s.io/scheduler\" \"currentPod\" (func $pod (param i32 i32) (result i32)))
        (global $seen (mut i32) (i32.const 0))
        (func (export \"reserve\") (result i32)
            (global.set $seen (i32.add (global.get $seen) (i32.const 1))) (i32.const 0))
        (func (export \"unreserve\") (global.set $seen (i32.sub (global.get $seen) (i32.const 1))))
        (func (export \"permit\") (result i64)
            (select (i64.const 0) (i64.const {}) (i32.ge_s (global.get $seen) (i32.const 3))))",
        permit(4, LONG)
    );
    let cluster = cluster(&inside).await;
    for pod in ["p1", "p2"] {
        cluster.pod(pod, &json!({}));
    }
    called(&cluster, "reserve", 2).await;
    tokio::time::timeout(Duration::from_millis(1), cluster.bound("p1")).await.unwrap_err();
    cluster.pod("p3", &json!({}));
    for pod in ["p1", "p2", "p3"] {
        assert_eq!(cluster.bound(pod).await, "a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_has_a_pod_bound_or_leaves_it_to_the_next() {
    let first = |code: i32| format!("(func (export \"bind\") (result i32) (i32.const {code}))");
    // It is asked before the one that binds every pod, or in its stead.
    let alone = json!({"bind": {"enabled": [{"name": "guest"}], "disabled": [{"name": "DefaultBinder"}]}});
    let before = json!({"bind": {"enabled": [{"name": "guest"}]}});
    for (code, points, is_bound) in [(0, &alone, true), (5, &before, true), (5, &alone, false)] {
        let api = nodes([("a", json!({}))]);
        let cluster = Cluster::start_at(points.clone(), api, &module(&first(code)), json!({})).await;
        cluster.pod("p", &json!({}));
        if is_bound {
            assert_eq!(cluster.bound("p").await, "a", "{code}");
        } else {
            cluster.waits("p", "no Bind plugin binds the pod").await;
        }
        called(&cluster, "bind", 1).await;
    }
    // A refusal gives the node back, and the pod waits.
    let refusing = module(&first_then("bind", "i32", 2, 0));
    let cluster = Cluster::start_at(alone, nodes([("a", json!({}))]), &refusing, json!({})).await;
    cluster.pod("p", &json!({}));
    cluster.waits("p", "0/1 nodes are available: 1 node(s) rejected by plugin \"guest\".").await;
    cluster.node("a", &json!({"label": "new"}));
    assert_eq!(cluster.bound("p").await, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_keeps_a_node_for_a_pod_that_none_takes() {
    // It rejects node a for good and b for now, and must be told just that; then it names a node.
    let inside = |name: &str, mode: i64| {
        let expected = r#"{"a":3,"b":2}"#;
        let (text, len) = (expected.replace('"', "\\\""), expected.len());
        format!(
            "(import \"k8s.io/scheduler\" \"nodeToStatusMap\" (func $statuses (param i32 i32) (result i32)))
            (import \"k8s.io/scheduler\" \"result.nominated_node_name\" (func $nominate (param i32 i32)))
            (import \"k8s.io/scheduler\" \"currentNodeName\" (func $name (param i32 i32) (result i32)))
            (data (i32.const 0) \"{text}\")
            (data (i32.const 512) \"{name}\")
            (func (export \"filter\") (result i32)
                (drop (call $name (i32.const 900) (i32.const 8)))
                (if (result i32) (i32.eq (i32.load8_u (i32.const 900)) (i32.const 97))
                    (then (i32.const 3)) (else (i32.const 2))))
            (func (export \"postfilter\") (result i64)
                (local $at i32)
                (if (i32.ne (call $statuses (i32.const 1024) (i32.const 64)) (i32.const {len})) (then (unreachable)))
                (loop $next
                    (if (i32.ne (i32.load8_u (local.get $at))
                            (i32.load8_u (i32.add (i32.const 1024) (local.get $at))))
                        (then (unreachable)))
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (br_if $next (i32.lt_u (local.get $at) (i32.const {len}))))
                (call $nominate (i32.const 512) (i32.const {}))
                (i64.const {}))",
            name.len(),
            mode << 32
        )
    };
    let two = || nodes([("a", json!({})), ("b", json!({}))]);
    for (name, mode, expected) in [("b", 1, json!("b")), ("b", 0, json!(null)), ("nowhere", 1, json!(null))] {
        let cluster = Cluster::start_on(two(), &module(&inside(name, mode)), json!({})).await;
        cluster.pod("p", &json!({}));
        cluster.waits("p", "0/2 nodes are available").await;
        called(&cluster, "postfilter", 1).await;
        let pod = cluster.api.pod("p", |_| true).await;
        assert_eq!(pod["status"]["nominatedNodeName"], expected, "{name} {mode}");
        assert!(!cluster.metrics.encode().contains("scheduler_wasm_faults_total{"), "{}", cluster.metrics.encode());
    }
}
