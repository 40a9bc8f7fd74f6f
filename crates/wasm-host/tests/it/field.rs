//! Guests that the SDK of kube-scheduler-wasm-extension has built. `WASM_EXTENSION` names a checkout of that repository; run
//! it with `--release`, since each of them is a megabyte to compile.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cluster::{Cluster, nodes, with};

/// A module of the checkout; without one, this test says that it checks nothing.
fn guest(path: &str) -> Option<Vec<u8>> {
    let Some(folder) = std::env::var_os("WASM_EXTENSION") else {
        eprintln!("WASM_EXTENSION is not set: SKIPPED, guests of kube-scheduler-wasm-extension's SDK are not checked");
        return None;
    };
    let path = PathBuf::from(folder).join(path);
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// What compiling takes of patience, and Go's runtime of time.
fn patient(args: Value) -> Value {
    with(json!({"timeout": "2s", "podTimeout": "10s", "fuel": 1_000_000_000}), &args)
}

async fn start(module: &[u8], args: Value) -> Cluster {
    let names: Vec<String> = (0..10).map(|number| format!("node{number}")).collect();
    let api = nodes(names.iter().map(|name| (name.as_str(), json!({}))));
    Cluster::start_on(api, module, patient(args)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodenumber_prefers_the_node_with_the_pods_digit() {
    let Some(module) = guest("examples/nodenumber/main.wasm") else { return };
    let cluster = start(&module, json!({})).await;
    for digit in [3, 7, 0] {
        let pod = format!("pod{digit}");
        cluster.pod(&pod, &json!({}));
        assert_eq!(cluster.bound(&pod).await, format!("node{digit}"));
    }
    let seen = |event: &Value| event["reason"] == "match lastNumber" && event["involvedObject"]["name"] == "pod3";
    cluster.api.objects.wait("events", "the guest's own event", seen).await;
    let cluster = start(&module, json!({"guestConfig": "{\"reverse\": true}"})).await;
    cluster.pod("pod3", &json!({}));
    assert_ne!(cluster.bound("pod3").await, "node3");
    assert!(!cluster.metrics.encode().contains("scheduler_wasm_faults_total{"), "{}", cluster.metrics.encode());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_own_test_guests_run() {
    for (path, args, expected) in [
        // With this argument it looks at the pod's node selector; without any it takes all.
        ("guest/testdata/filter/main.wasm", json!([]), true),
        ("guest/testdata/cyclestate/main.wasm", json!([]), true),
        ("guest/testdata/score/main.wasm", json!(["test", "score"]), true),
        // It multiplies by a hundred what is nothing.
        ("guest/testdata/score/main.wasm", json!(["test", "scoreExtensions"]), true),
        ("guest/testdata/reserve/main.wasm", json!([]), true),
        ("guest/testdata/permit/main.wasm", json!([]), true),
        ("guest/testdata/bind/main.wasm", json!([]), true),
        ("examples/imagelocality/main.wasm", json!([]), true),
        ("examples/advanced/main.wasm", json!([]), true),
    ] {
        let Some(module) = guest(path) else { return };
        let cluster = start(&module, json!({"args": args})).await;
        cluster.pod("pod1", &json!({}));
        assert!(cluster.bound("pod1").await.starts_with("node") == expected, "{path}");
        assert!(!cluster.metrics.encode().contains("scheduler_wasm_faults_total{"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_own_test_guests_reject_what_is_bad() {
    for (path, args, expected) in [
        ("guest/testdata/permit/main.wasm", json!([]), "permit of node bad: it reported an error: name is bad"),
        (
            "guest/testdata/bind/main.wasm",
            json!(["test", "preBind"]),
            "prebind of node bad: it reported an error: name is bad",
        ),
        ("guest/testdata/bind/main.wasm", json!(["test", "postBind"]), "postbind of node bad: it trapped"),
    ] {
        let Some(module) = guest(path) else { return };
        let api = nodes([("bad", json!({}))]);
        let cluster = Cluster::start_on(api, &module, patient(json!({"args": args}))).await;
        cluster.pod("pod1", &json!({}));
        let told = cluster.fault().await;
        assert!(told.starts_with(&format!("plugin \"guest\" failed in {expected}")), "{told}");
    }
}
