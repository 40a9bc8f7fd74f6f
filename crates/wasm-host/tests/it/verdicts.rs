//! What guests say counts.

use serde_json::{Value, json};

use crate::cluster::{Cluster, filter, module, nodes};

const IMPORTS: &str = r#"
    (import "k8s.io/scheduler" "currentNodeName" (func $node_name (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "currentPod" (func $pod (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
    (import "k8s.io/scheduler" "result.node_names" (func $names (param i32 i32)))
    (import "k8s.io/api" "node" (func $node (param i32 i32 i32 i32) (result i32)))
    (import "k8s.io/api" "nodeList" (func $nodes (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "filteredNodeList" (func $filtered (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "get_config" (func $config (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "handle.eventrecorder.eventf" (func $event (param i32 i32)))
    (import "k8s.io/klog" "log" (func $log (param i32 i32 i32)))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_rejects_with_its_reason() {
    let check = async |code: i32, expected: &str| {
        let inside = format!(
            "{IMPORTS} (data (i32.const 0) \"too dark\")
            (func (export \"filter\") (result i32)
                (call $reason (i32.const 0) (i32.const 8)) (i32.const {code}))"
        );
        let cluster = Cluster::start(&module(&inside), json!({})).await;
        cluster.node("a", &json!({}));
        cluster.node("b", &json!({}));
        cluster.pod("p", &json!({}));
        cluster.waits("p", expected).await;
    };
    let helpless = "2 Preemption is not helpful for scheduling";
    check(3, &format!("0/2 nodes are available: 2 too dark. no new claims to deallocate, preemption: 0/2 nodes are available: {helpless}.")).await;
    check(2, "0/2 nodes are available: 2 too dark. no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_score_decides() {
    // The last letter of the node's name, of which `a` is 97.
    let inside = format!(
        "{IMPORTS}
        (func (export \"score\") (result i64)
            (local $len i32)
            (local.set $len (call $node_name (i32.const 0) (i32.const 64)))
            (i64.shl
                (i64.sub (i64.load8_u (i32.sub (local.get $len) (i32.const 1))) (i64.const 97))
                (i64.const 32)))"
    );
    let api = nodes(["node-b", "node-z", "node-f"].map(|name| (name, json!({}))));
    let cluster = Cluster::start_on(api, &module(&inside), json!({})).await;
    for pod in ["p1", "p2", "p3"] {
        cluster.pod(pod, &json!({}));
        assert_eq!(cluster.bound(pod).await, "node-z");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pre_filter_names_nodes_or_rejects_the_pod() {
    let inside = format!(
        "{IMPORTS} (data (i32.const 0) \"b\\00c\\00\")
        (func (export \"prefilter\") (result i32) (call $names (i32.const 0) (i32.const 4)) (i32.const 0))"
    );
    let cluster = Cluster::start(&module(&inside), json!({})).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    cluster.waits("p", "1 node(s) didn't satisfy plugin(s) [guest]").await;
    cluster.node("c", &json!({}));
    assert_eq!(cluster.bound("p").await, "c");
    let cluster = Cluster::start(&module("(func (export \"prefilter\") (result i32) (i32.const 3))"), json!({})).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    cluster.waits("p", "0/1 nodes are available: node(s) rejected by plugin \"guest\"").await;
}

/// A filter that rejects with what it reads as its reason.
fn echo(read: &str) -> Vec<u8> {
    let inside = format!(
        "{IMPORTS}
        (func (export \"filter\") (result i32)
            (call $reason (i32.const 0) {read})
            (i32.const 3))"
    );
    module(&inside)
}

async fn echoed(read: &str, args: Value) -> String {
    let cluster = Cluster::start(&echo(read), args).await;
    cluster.node("node-a", &json!({"zone": "north"}));
    cluster.pod("pod-p", &json!({"app": "web"}));
    let message = |pod: &Value| pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
    let pod = cluster.api.pod("pod-p", |pod| message(pod).contains("preemption")).await;
    message(&pod)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_reads_pods_nodes_and_its_configuration() {
    let room = "(i32.const 0) (i32.const 256)";
    let check = async |read: String, args: Value, contains: &[&str], lacks: &[&str]| {
        let told = echoed(&read, args).await;
        contains.iter().for_each(|text| assert!(told.contains(text), "{read}: {text:?} is not in {told:?}"));
        lacks.iter().for_each(|text| assert!(!told.contains(text), "{read}: {text:?} is in {told:?}"));
    };
    check(format!("(call $config {room})"), json!({"guestConfig": "{\"a\": 1}"}), &["{\"a\": 1}"], &[]).await;
    check(format!("(call $pod {room})"), json!({}), &["pod-p", "default", "uid-pod-p", "app", "web"], &[]).await;
    let anonymous = json!({"podIdentity": false});
    check(format!("(call $pod {room})"), anonymous, &["default", "app", "web"], &["pod-p", "uid-"]).await;
    let name = "(i32.const 512) (call $node_name (i32.const 512) (i32.const 64))";
    check(format!("(call $node {name} {room})"), json!({}), &["node-a", "zone", "north", "8Gi", "110"], &[]).await;
    check(format!("(call $nodes {room})"), json!({}), &["node-a", "north"], &[]).await;
    check(format!("(call $filtered {room})"), json!({}), &["[\"node-a\"]"], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_records_events_about_its_pod() {
    let event = r#"{\"Eventtype\":\"Normal\",\"Reason\":\"Seen\",\"Note\":\"by a guest\"}"#;
    let inside = format!(
        "{IMPORTS} (data (i32.const 0) \"{event}\")
        (func (export \"prefilter\") (result i32)
            (call $event (i32.const 0) (i32.const {})) (i32.const 0))",
        event.replace('\\', "").len()
    );
    let cluster = Cluster::start(&module(&inside), json!({})).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    let event = cluster.api.event("Seen").await;
    assert_eq!((&event["message"], &event["type"]), (&json!("by a guest"), &json!("Normal")));
    assert_eq!(event["involvedObject"]["name"], "p");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_may_be_refused() {
    let inside = format!("{} (func (export \"reserve\") (result i32) (i32.const 2))", filter(0));
    let cluster = Cluster::start(&module(&inside), json!({})).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    cluster.waits("p", "1 node(s) rejected by plugin \"guest\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_make_no_sense_refuse_the_start() {
    let refusal = Cluster::refusal(&json!({"guestURL": "file:///p.wasm", "fuel": 0}));
    assert!(refusal.contains("plugin \"guest\": fuel: 0 is not within"), "{refusal}");
}
