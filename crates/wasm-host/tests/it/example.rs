//! The example of `examples/scheduler-plugin`, built as its README says.

use std::{path::Path, process::Command};

use serde_json::json;

use crate::cluster::{Cluster, nodes};

fn build() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scheduler-plugin");
    let out = tempfile::tempdir().unwrap();
    let module = out.path().join("plugin.wasm");
    let built = Command::new(folder.join("build.sh")).arg(&module).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(module).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_avoids_maintenance_and_prefers_green_nodes() {
    let labels = |maintenance: &str, carbon: &str| json!({"example.com/maintenance": maintenance, "example.com/carbon-intensity": carbon});
    let api = nodes([
        ("dirty", labels("none", "700")),
        ("green", labels("none", "40")),
        ("greenest-but-serviced", labels("soon", "5")),
    ]);
    let cluster = Cluster::start_on(api, &build(), json!({"podIdentity": false})).await;
    for pod in ["p1", "p2", "p3"] {
        cluster.pod(pod, &json!({}));
        assert_eq!(cluster.bound(pod).await, "green");
    }
    // Short work may go there still.
    cluster.pod("short", &json!({"example.com/short": "true"}));
    assert_eq!(cluster.bound("short").await, "greenest-but-serviced");
    // Without another node, it says why.
    cluster.api.objects.delete("nodes", "dirty");
    cluster.api.objects.delete("nodes", "green");
    // Pods come by another way than nodes, and must not come first.
    cluster.figure("scheduler_cache_size{type=\"nodes\"} 1").await;
    cluster.pod("long", &json!({}));
    cluster.waits("long", "0/1 nodes are available: 1 node(s) are about to be serviced.").await;
    // The label has gone, the node has changed: it is asked about anew.
    cluster.node("greenest-but-serviced", &json!({"example.com/maintenance": "none"}));
    assert_eq!(cluster.bound("long").await, "greenest-but-serviced");
    // Another key by configuration.
    let api = nodes([("dear", json!({"price": "900"})), ("cheap", json!({"price": "10"})), ("unknown", json!({}))]);
    let cluster = Cluster::start_on(api, &build(), json!({"guestConfig": "price"})).await;
    cluster.pod("p", &json!({}));
    assert_eq!(cluster.bound("p").await, "cheap");
}
