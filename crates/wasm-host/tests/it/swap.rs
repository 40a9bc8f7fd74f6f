//! Modules that are replaced while they are used.

use serde_json::json;

use crate::cluster::{Cluster, filter, module};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_module_takes_over_and_a_bad_one_does_not() {
    for identity in [true, false] {
        let cluster = Cluster::start(&module(&filter(3)), json!({"podIdentity": identity})).await;
        cluster.node("a", &json!({}));
        // Two of a kind, so that their plan is kept where it may be.
        for pod in ["p1", "p2"] {
            cluster.pod(pod, &json!({}));
            cluster.waits(pod, "node(s) rejected by plugin \"guest\"").await;
        }
        cluster.replace(&module(&filter(0)));
        for pod in ["p1", "p2"] {
            assert_eq!(cluster.bound(pod).await, "a");
        }
        cluster.loaded(2).await;
        let bad = [
            b"no module".to_vec(),
            module("(func (export \"filter\"))"),
            module(&format!("(func $f (unreachable)) (start $f) {}", filter(0))),
        ];
        for (number, bad) in (1..).zip(bad) {
            cluster.replace(&bad);
            cluster.figure(&format!("scheduler_wasm_loads_total{{plugin=\"guest\",result=\"failed\"}} {number}")).await;
            let pod = format!("after-{number}");
            cluster.pod(&pod, &json!({}));
            assert_eq!(cluster.bound(&pod).await, "a");
        }
        // Plans that were made with it are gone: the third rejects what the second took.
        cluster.replace(&module(&filter(3)));
        cluster.loaded(3).await;
        cluster.pod("p3", &json!({}));
        cluster.waits("p3", "node(s) rejected by plugin \"guest\"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_a_module_is_there_the_policy_applies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later.wasm");
    let args = |policy: &str| json!({"guestURL": format!("file://{}", path.display()), "pollInterval": "20ms", "failurePolicy": policy});
    let cluster = Cluster::with_args(&args("Ignore"));
    cluster.pod("p", &json!({}));
    assert_eq!(cluster.bound("p").await, "a");
    let cluster = Cluster::with_args(&args("Fail"));
    cluster.pod("p", &json!({}));
    cluster.waits("p", "0/1 nodes are available: plugin \"guest\" is not loaded yet").await;
    std::fs::write(&path, module(&filter(0))).unwrap();
    assert_eq!(cluster.bound("p").await, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_is_too_large_is_not_loaded() {
    let large = module(&format!("{} (data (i32.const 0) \"{}\")", filter(0), "x".repeat(2000)));
    let cluster = Cluster::start(&module(&filter(0)), json!({"moduleSizeLimit": 1000})).await;
    cluster.replace(&large);
    cluster.figure("scheduler_wasm_loads_total{plugin=\"guest\",result=\"failed\"} 1").await;
}
