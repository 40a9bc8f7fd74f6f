//! The list as tests: whole clusters from the real binary, the real kernel, real containers, the real kubectl.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod agentless;
mod bad_input;
mod crash;
mod example;
mod failures;
mod metrics;
mod pods;
mod registries;
mod storage;
mod verbs;

use std::time::Duration;

use test_support::{Cluster, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_plinth");
/// For a state that takes milliseconds on a quiet machine.
const SOON: Duration = Duration::from_secs(60);

fn cluster() -> Cluster {
    Cluster::start(BINARY, Setup::default())
}

fn example() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/web.yaml")).unwrap()
}

/// Applies the example and waits for its rollout.
fn apply_example(cluster: &Cluster) {
    cluster.kubectl.apply(&example());
    cluster.kubectl.ok("rollout status deployment/web --timeout=60s");
}

/// The names of the pods with label app=web that are ready and not going away.
fn web_pods(cluster: &Cluster) -> Vec<String> {
    let list = cluster.kubectl.json("get pods -l app=web");
    let mut names: Vec<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(|pod| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        })
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Waits until exactly `count` web pods are ready, and returns their names.
fn wait_for_web_pods(cluster: &Cluster, count: usize) -> Vec<String> {
    until(&format!("{count} web pods"), SOON, || {
        let pods = web_pods(cluster);
        if pods.len() == count { Ok(pods) } else { Err(format!("{pods:?}")) }
    })
}

/// The status of one pod, as JSON.
fn pod(cluster: &Cluster, name: &str) -> serde_json::Value {
    cluster.kubectl.json(&format!("get pod {name}"))
}
