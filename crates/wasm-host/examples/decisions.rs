//! How long decisions among 5,000 nodes take with a guest that filters and scores: `decisions guest.wasm ...`. Without any, the
//! figures are those of a scheduler whose plugin is not there.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends with a panic")]
#![allow(dead_code, reason = "tests use more of these helpers")]

#[path = "../../scheduler/tests/it/api.rs"]
mod api;
#[path = "../tests/it/cluster.rs"]
mod cluster;

use api::SchedulerApi;
use cluster::{Cluster, filter, module, with};
use serde_json::{Value, json};

const NODES: usize = 5_000;
const PODS: usize = 500;

#[tokio::main]
async fn main() {
    measure("a filter that takes all", &module(&filter(0)), json!({"podIdentity": false})).await;
    for path in std::env::args().skip(1) {
        let module = std::fs::read(&path).unwrap();
        for identity in [false, true] {
            let limits = json!({"timeout": "5s", "podTimeout": "50s", "fuel": i64::MAX});
            measure(&path, &module, with(limits, &json!({"podIdentity": identity}))).await;
        }
    }
}

async fn measure(name: &str, module: &[u8], args: Value) {
    let api = SchedulerApi::default();
    for number in 0..NODES {
        let labels = json!({"kubernetes.io/hostname": format!("node-{number}"), "node.kubernetes.io/instance-type": "m5",
            "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
            "example.com/carbon-intensity": (number % 900).to_string()});
        let allocatable = json!({"cpu": "8", "memory": "8Gi", "pods": "110"});
        let metadata = json!({"name": format!("node-{number}"), "labels": labels});
        api.objects.put("nodes", json!({"metadata": metadata, "status": {"allocatable": allocatable}}));
    }
    let identity = args["podIdentity"].clone();
    let cluster = Cluster::start_on(api, module, args).await;
    println!("{name}, podIdentity {identity}, {NODES} nodes:");
    let (mut before, mut calls) = (figures(&cluster, "scheduler_scheduling_algorithm_duration_seconds"), (0.0, 0.0));
    let mut tell = |what: &str| {
        let now = figures(&cluster, "scheduler_scheduling_algorithm_duration_seconds");
        let called = figures(&cluster, "scheduler_wasm_call_duration_seconds");
        let (decisions, asked) = (now.1 - before.1, called.1 - calls.1);
        println!(
            "  {what}: {:.1} us each, {:.1} calls each of {:.2} us",
            (now.0 - before.0) / decisions * 1e6,
            asked / decisions,
            (called.0 - calls.0) / f64::max(asked, 1.0) * 1e6
        );
        (before, calls) = (now, called);
    };
    for (what, pods) in [("the first pod", 0..1), ("the second of its kind", 1..2), ("the following", 2..PODS)] {
        for number in pods {
            let pod = format!("pod-{number}");
            cluster.pod(&pod, &json!({"app": "web"}));
            cluster.bound(&pod).await;
        }
        tell(what);
    }
}

/// Sum and count of a histogram, over all labels.
fn figures(cluster: &Cluster, name: &str) -> (f64, f64) {
    let text = cluster.metrics.encode();
    let total = |end: &str| {
        let wanted = format!("{name}_{end}");
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(&wanted));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (total("sum"), total("count"))
}
