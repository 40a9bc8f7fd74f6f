//! Nodes that fall silent, and pods that nobody looks after.

use std::time::Duration;

use client::kube::{Api, api::PostParams};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::cluster::Cluster;

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .map(|taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_loses_its_pods() {
    let cluster = Cluster::start_with(|options| options.node_monitor_grace_period = Duration::from_millis(700)).await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {
        "taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}))
    .unwrap();
    let mut node = nodes.create(&PostParams::default(), &node).await.unwrap();
    node.status = serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True",
        "reason": "KubeletReady", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
    .unwrap();
    loop {
        // The controller may write at the same time.
        match nodes.replace_status("n", &PostParams::default(), &node).await {
            Ok(_) => break,
            Err(_) => node.metadata.resource_version = nodes.get("n").await.unwrap().metadata.resource_version,
        }
    }
    cluster.until::<Node>("the first taint goes", |all| all.iter().any(|n| taints(n).is_empty())).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}],
        "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]}});
    cluster.create::<Pod>(pod).await;
    cluster
        .until::<Node>("it is unknown", |all| {
            let unknown = all.iter().flat_map(|n| n.status.iter().flat_map(|s| s.conditions.iter().flatten()));
            let mut unknown = unknown.filter(|c| c.type_ == "Ready" && c.status == "Unknown");
            unknown.any(|c| c.message.as_deref() == Some("Kubelet stopped posting node status."))
                && taints(&all[0]) == ["unreachable:NoSchedule", "unreachable:NoExecute"]
        })
        .await;
    cluster
        .until::<Pod>("its pod has to go", |pods| pods.iter().all(|p| p.metadata.deletion_timestamp.is_some()))
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_node_that_is_gone_are_collected() {
    let cluster = Cluster::start_with(|options| options.orphan_quarantine = Duration::from_millis(50)).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i"}]}});
    cluster.create::<Pod>(pod).await;
    cluster.until::<Pod>("it is gone", |pods| pods.is_empty()).await;
    cluster.stop().await;
}
