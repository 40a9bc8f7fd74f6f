//! Guests that compare the scores of all nodes.

use serde_json::{Value, json};

use crate::cluster::{Cluster, module, nodes, with};

/// The last letter of the node's name is its score, of which `a` is 97: without normalization it would be too high from `e` on.
/// Then `body`, which answers with a status code; `text` is at 256.
fn guest(text: &str, body: &str) -> Vec<u8> {
    module(&format!(
        r#"(import "k8s.io/scheduler" "currentNodeName" (func $node (param i32 i32) (result i32)))
        (import "k8s.io/scheduler" "nodeScoreList" (func $scores (param i32 i32) (result i32)))
        (import "k8s.io/scheduler" "result.normalized_score_list" (func $normalized (param i32 i32)))
        (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
        (data (i32.const 256) "{}")
        (func (export "score") (result i64)
            (i64.shl (i64.load8_u (i32.sub (call $node (i32.const 0) (i32.const 64)) (i32.const 1))) (i64.const 32)))
        (func (export "normalizescore") (result i32) {body})"#,
        text.replace('"', "\\\"")
    ))
}

/// Gives this back.
fn gives(text: &str) -> Vec<u8> {
    let len = text.len();
    guest(text, &format!("(call $normalized (i32.const 256) (i32.const {len})) (i32.const 0)"))
}

async fn start(module: &[u8], args: Value) -> Cluster {
    Cluster::start_on(nodes(["node-b", "node-z", "node-f"].map(|name| (name, json!({})))), module, args).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn normalized_scores_count() {
    for identity in [true, false] {
        let guest = gives(r#"{"node-z":0,"node-f":7,"node-b":100}"#);
        let cluster = start(&guest, json!({"podIdentity": identity})).await;
        for pod in ["p1", "p2", "p3"] {
            cluster.pod(pod, &json!({}));
            assert_eq!(cluster.bound(pod).await, "node-b");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sees_the_scores_of_all_nodes_that_fit() {
    let body = "(call $reason (i32.const 512) (call $scores (i32.const 512) (i32.const 256))) (i32.const 1)";
    let cluster = start(&guest("", body), json!({})).await;
    cluster.pod("p", &json!({}));
    cluster.waits("p", r#"0/3 nodes are available: plugin "guest" failed: it reported an error: {"node-b":98,"node-f":102,"node-z":122}."#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scores_that_make_no_sense_are_faults() {
    let check = async |module: &[u8], kind: &str, told: &str| {
        for policy in ["Fail", "Ignore"] {
            let cluster = start(module, with(json!({}), &json!({"failurePolicy": policy}))).await;
            cluster.pod("p", &json!({}));
            match policy {
                "Fail" => cluster.waits("p", &format!("plugin \"guest\" failed: it {told}")).await,
                _ => assert!(cluster.bound("p").await.starts_with("node-")),
            }
            assert!(cluster.fault().await.starts_with("plugin \"guest\" failed in normalizescore: it "));
            let faults = format!("scheduler_wasm_faults_total{{plugin=\"guest\",kind=\"{kind}\"}}");
            assert!(cluster.metrics.encode().contains(&faults), "{}", cluster.metrics.encode());
        }
    };
    check(&gives(r#"{"node-z":0,"node-f":101,"node-b":100}"#), "score", "gave the score 101").await;
    check(&gives(r#"{"node-z":0,"node-f":-1,"node-b":100}"#), "score", "gave the score -1").await;
    let garbage = "sent what cannot be read, in a call of result.normalized_score_list";
    check(&gives(r#"{"node-z":0,"node-b":100}"#), "garbage", garbage).await;
    check(&gives(r#"{"node-z":0,"node-b":1,"other":2}"#), "garbage", garbage).await;
    check(&gives("[1]"), "garbage", garbage).await;
    // It gives none back, so that they stay as they are.
    check(&gives("{}"), "score", "gave the score 1").await;
    check(&guest("", "(i32.const 0)"), "score", "gave the score 1").await;
    check(&guest("", "(unreachable)"), "trap", "trapped").await;
    check(&guest("", "(i32.const 2)"), "status", "answered with the status code 2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_score_is_the_pods_failure() {
    let module = module(
        r#"(import "k8s.io/scheduler" "result.normalized_score_list" (func $normalized (param i32 i32)))
        (func (export "score") (result i64) (unreachable))
        (func (export "normalizescore") (result i32) (i32.const 0))"#,
    );
    let cluster = start(&module, json!({})).await;
    cluster.pod("p", &json!({}));
    cluster.waits("p", "plugin \"guest\" failed: it trapped").await;
    let cluster = start(&module, json!({"failurePolicy": "Ignore"})).await;
    cluster.pod("p", &json!({}));
    cluster.bound("p").await;
}
