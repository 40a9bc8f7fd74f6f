//! Pods with claims to devices, on the API server that validates what is written.

use runtime::{Clock, Tasks};
use serde_json::{Value, json};

use crate::{
    api::Api,
    devices::{self, CLAIMS, CLASSES, SLICES},
};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";

/// A node with one device, and a scheduler.
async fn start(api: &Api) -> Tasks {
    api.make("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    for class in devices::classes() {
        api.make(CLASSES, class).await;
    }
    let mut node = api.send("POST", NODES, json!({"metadata": {"name": "n"}})).await;
    node["status"] = json!({"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}});
    api.send("PUT", &format!("{NODES}/n/status"), node).await;
    api.send("POST", SLICES, devices::slice("n", vec![devices::device(0, "small", 8)])).await;
    let tasks = Tasks::root();
    let options = scheduler::Options::new(api.client(), Clock::system(), tasks.clone(), telemetry::Metrics::default());
    scheduler::start(options).unwrap().lead();
    tasks
}

/// A pod and the claim of its own.
async fn user(api: &Api, name: &str) {
    api.send("POST", CLAIMS, devices::claim(name, json!([devices::exactly("any", 1, None)]))).await;
    let spec = json!({"containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": name}]});
    api.send("POST", PODS, json!({"metadata": {"name": name}, "spec": spec})).await;
}

fn waits(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let message = "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are \
        available: 1 Preemption is not helpful for scheduling.";
    conditions.into_iter().any(|condition| condition["type"] == "PodScheduled" && condition["message"] == message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_goes_from_pod_to_pod() {
    let api = Api::start().await;
    let tasks = start(&api).await;
    let bound = |pod: &Value| pod["spec"]["nodeName"] == "n";
    user(&api, "first").await;
    let first = api.wait(&format!("{PODS}/first"), "the first pod's binding", bound).await;
    let mut claim = api.get(&format!("{CLAIMS}/first")).await;
    assert_eq!(claim["metadata"]["finalizers"], json!(["resource.kubernetes.io/delete-protection"]));
    assert_eq!(claim["status"]["allocation"]["devices"]["results"][0]["device"], "gpu-0");
    assert_eq!(claim["status"]["reservedFor"][0]["uid"], first["metadata"]["uid"]);
    user(&api, "second").await;
    api.wait(&format!("{PODS}/second"), "the second pod's message", waits).await;
    api.delete(&format!("{PODS}/first")).await;
    // The part of the claims' controller.
    claim["status"] = json!({});
    api.send("PUT", &format!("{CLAIMS}/first/status"), claim).await;
    api.wait(&format!("{PODS}/second"), "the second pod's binding", bound).await;
    tasks.stop();
}
