//! Guests that trap, loop, eat memory, lie, and point into nothing: each is cut off, told, and dealt with by its policy.

use serde_json::{Value, json};

use crate::cluster::{Cluster, filter, module, nodes, with};

/// The guest fails so: the pod waits or is bound, as the policy says, and the event says why.
async fn check(inside: &str, args: Value, kind: &str, told: &str) {
    for policy in ["Fail", "Ignore"] {
        let cluster = Cluster::start(&module(inside), with(args.clone(), &json!({"failurePolicy": policy}))).await;
        cluster.node("a", &json!({}));
        cluster.pod("p", &json!({}));
        match policy {
            "Fail" => cluster.waits("p", &format!("plugin \"guest\" failed: it {told}")).await,
            _ => assert_eq!(cluster.bound("p").await, "a", "{inside}"),
        }
        let event = cluster.fault().await;
        let (head, tail) = ("plugin \"guest\" failed in ", format!("(failurePolicy {policy})"));
        assert!(event.starts_with(head) && event.contains(told) && event.ends_with(&tail), "{inside}: {event}");
        let faults = format!("scheduler_wasm_faults_total{{plugin=\"guest\",kind=\"{kind}\"}}");
        assert!(cluster.metrics.encode().contains(&faults), "{inside}: {}", cluster.metrics.encode());
    }
}

fn body(body: &str) -> String {
    format!("(func (export \"filter\") (result i32) {body} (i32.const 0))")
}

const IMPORTS: &str = r#"
    (import "k8s.io/scheduler" "currentPod" (func $pod (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
    (import "k8s.io/scheduler" "result.node_names" (func $names (param i32 i32)))
    (import "k8s.io/scheduler" "targetPod" (func $target (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "handle.eventrecorder.eventf" (func $event (param i32 i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_traps() {
    check(&body("(unreachable)"), json!({}), "trap", "trapped: wasm `unreachable` instruction executed").await;
    let recursion = format!("(func $f (result i32) (call $f)) {}", body("(drop (call $f))"));
    check(&recursion, json!({}), "trap", "trapped: call stack exhausted").await;
    // What it has printed before is told.
    let print = format!(
        "{IMPORTS} (data (i32.const 64) \"\\48\\00\\00\\00\\0a\\00\\00\\00panic: why\") {}",
        body("(drop (call $write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 128))) (unreachable)")
    );
    check(&print, json!({}), "trap", "trapped: wasm `unreachable` instruction executed: panic: why").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_fails_between_reserve_and_bind() {
    let of = |export: &str, ty: &str, body: &str| {
        format!("(func (export \"{export}\") (result {ty}) {body} ({ty}.const 0))")
    };
    let trap = "trapped: wasm `unreachable` instruction executed";
    check(&of("permit", "i64", "(unreachable)"), json!({}), "trap", trap).await;
    check(&of("prebind", "i32", "(unreachable)"), json!({}), "trap", trap).await;
    let (endless, fuel) = ("(loop $l (br $l))", json!({"fuel": 1000}));
    check(&of("permit", "i64", endless), fuel.clone(), "fuel", "used up its 1000 units of fuel").await;
    check(&of("prebind", "i32", endless), fuel, "fuel", "used up its 1000 units of fuel").await;
    let time = json!({"fuel": i64::MAX, "timeout": "20ms"});
    check(&of("permit", "i64", endless), time, "time", "took longer than 20ms").await;
    let (greedy, memory) = ("(drop (memory.grow (i32.const 300)))", json!({"memoryLimit": "1Mi"}));
    check(&of("prebind", "i32", greedy), memory, "memory", "wanted more than 1048576 bytes of memory").await;
    let permit = |code: i64| format!("(func (export \"permit\") (result i64) (i64.const {}))", code << 32);
    check(&permit(5), json!({}), "status", "answered with the status code 5").await;
    check(&permit(1), json!({}), "error", "reported an error").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_loops() {
    let endless = body("(loop $l (br $l))");
    check(&endless, json!({"fuel": 1000}), "fuel", "used up its 1000 units of fuel").await;
    let fuel = json!({"fuel": i64::MAX, "timeout": "20ms"});
    check(&endless, fuel, "time", "took longer than 20ms").await;
}

/// A guest that holds the only thread that there is.
#[tokio::test]
async fn a_guest_that_loops_where_there_is_one_thread() {
    let cluster =
        Cluster::start(&module(&body("(loop $l (br $l))")), json!({"fuel": i64::MAX, "timeout": "5ms"})).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    cluster.waits("p", "took longer than 5ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_eats_memory() {
    let limit = json!({"memoryLimit": "1Mi"});
    let told = "wanted more than 1048576 bytes of memory";
    check(&body("(drop (memory.grow (i32.const 300)))"), limit.clone(), "memory", told).await;
    // Within the limit it may grow.
    let cluster = Cluster::start(&module(&body("(drop (memory.grow (i32.const 3)))")), limit).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    assert_eq!(cluster.bound("p").await, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_lies() {
    check(&filter(7), json!({}), "status", "answered with the status code 7").await;
    check(&filter(-1), json!({}), "status", "answered with the status code -1").await;
    let score =
        |score: i64, code: i64| format!("(func (export \"score\") (result i64) (i64.const {}))", (score << 32) | code);
    check(&score(101, 0), json!({}), "score", "gave the score 101").await;
    check(&score(-1, 0), json!({}), "score", "gave the score -1").await;
    check(&score(50, 2), json!({}), "status", "answered with the status code 2").await;
    let error = format!(
        "{IMPORTS} (data (i32.const 0) \"no data\") {}",
        body("(call $reason (i32.const 0) (i32.const 7)) (return (i32.const 1))")
    );
    check(&error, json!({}), "error", "reported an error: no data").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_points_into_nothing() {
    let told = |import: &str| format!("pointed at memory that it does not have, in a call of {import}");
    for (call, kind, told) in [
        ("(drop (call $pod (i32.const -8) (i32.const 4096)))", "pointer", told("currentPod")),
        ("(drop (call $pod (i32.const 65530) (i32.const 4096)))", "pointer", told("currentPod")),
        ("(call $reason (i32.const 65535) (i32.const 2))", "pointer", told("result.status_reason")),
        ("(call $reason (i32.const 8) (i32.const -1))", "pointer", told("result.status_reason")),
        ("(call $event (i32.const 0) (i32.const 9))", "garbage", "sent what cannot be read".to_owned()),
        ("(drop (call $write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 0)))", "pointer", told("fd_write")),
        ("(drop (call $target (i32.const 0) (i32.const 0)))", "unsupported", "called targetPod".to_owned()),
        ("(call $exit (i32.const 3))", "exit", "ended itself with the exit code 3".to_owned()),
    ] {
        check(&format!("{IMPORTS} {}", body(call)), json!({}), kind, &told).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_fails_again_and_again_is_suspended_and_tried_again() {
    let api = nodes(["a", "b", "c", "d", "e"].map(|name| (name, json!({}))));
    let cluster = Cluster::start_on(api, &module(&body("(unreachable)")), json!({})).await;
    cluster.pod("p", &json!({}));
    cluster.waits("p", "2 plugin \"guest\" is suspended, because it failed too often").await;
    cluster.figure("scheduler_wasm_faults_total{plugin=\"guest\",kind=\"trap\"} 3").await;
    // One more at the end of each pause.
    cluster.figure("scheduler_wasm_faults_total{plugin=\"guest\",kind=\"trap\"} 5").await;
    // Another module begins with a clean slate.
    cluster.replace(&module(&filter(0)));
    cluster.bound("p").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_fails_at_times_does_not_keep_pods_for_ever() {
    // It traps at its first call, and whoever begins anew begins with that.
    let once = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (func (export "filter") (result i32)
            (drop (call $random (i32.const 0) (i32.const 1)))
            (if (i32.lt_u (i32.load8_u (i32.const 0)) (i32.const 128)) (then (unreachable)))
            (i32.const 0))"#;
    let cluster = Cluster::start(&module(once), json!({})).await;
    cluster.node("a", &json!({}));
    cluster.pod("p", &json!({}));
    assert_eq!(cluster.bound("p").await, "a");
}
