//! PodDisruptionBudgets: what they allow follows their pods, and evictions go by it.

use std::sync::Arc;

use client::kube::{
    self,
    api::{EvictParams, Patch, PatchParams},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod},
    policy::v1::PodDisruptionBudget,
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, deployment};

fn budget(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    json!({"metadata": {"name": "web"}, "spec": spec})
}

/// Waits until a budget says (expected, healthy, desired, allowed), of its newest form.
async fn says(cluster: &Cluster, expected: [i32; 4], reason: &str) {
    let what = format!("{expected:?} {reason}");
    let holds = |budgets: &[Arc<PodDisruptionBudget>]| {
        budgets.iter().any(|budget| {
            let status = budget.status.clone().unwrap_or_default();
            let counts =
                [status.expected_pods, status.current_healthy, status.desired_healthy, status.disruptions_allowed];
            let why = status.conditions.unwrap_or_default().first().map(|condition| condition.reason.clone());
            counts.map(|count| count.unwrap_or(0)) == expected
                && why.as_deref() == Some(reason)
                && status.disrupted_pods.unwrap_or_default().is_empty()
                && status.observed_generation == budget.metadata.generation
        })
    };
    cluster.until(&what, holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_lets_go_of_as_many_pods_as_it_can_spare() {
    let cluster = Cluster::start().await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 3, "one")).await;
    cluster.create::<PodDisruptionBudget>(budget(json!({"minAvailable": 3}))).await;
    says(&cluster, [3, 3, 3, 0], "InsufficientPods").await;
    let pods = cluster.until::<Pod>("three pods", |pods| pods.len() == 3).await;
    let (api, first) = (cluster.api::<Pod>(), pods[0].metadata.name.clone().unwrap());
    let refused = api.evict(&first, &EvictParams::default()).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 429), "{refused:?}");

    // A fourth pod is one to spare; the share counts what the Deployment wants.
    let patch = |spec: Value| Patch::Merge(json!({"spec": spec}));
    let deployments = cluster.api::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &patch(json!({"replicas": 4}))).await.unwrap();
    says(&cluster, [4, 4, 3, 1], "SufficientPods").await;
    api.evict(&first, &EvictParams::default()).await.unwrap();
    cluster
        .until::<Pod>("it is replaced", |pods| {
            pods.len() == 4 && pods.iter().all(|pod| pod.metadata.name.as_ref() != Some(&first))
        })
        .await;
    says(&cluster, [4, 4, 3, 1], "SufficientPods").await;
    let budgets = cluster.api::<PodDisruptionBudget>();
    let half = patch(json!({"minAvailable": null, "maxUnavailable": "50%"}));
    budgets.patch("web", &PatchParams::default(), &half).await.unwrap();
    says(&cluster, [4, 4, 2, 2], "SufficientPods").await;

    // A pod of nobody: it is told that shares cannot count it.
    let lone = json!({"metadata": {"name": "lone", "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create::<Pod>(lone).await;
    says(&cluster, [4, 5, 2, 3], "SufficientPods").await;
    let told = |events: &[Arc<Event>]| events.iter().any(|event| event.reason.as_deref() == Some("UnmanagedPods"));
    cluster.until("the budget is told", told).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_to_be_disrupted_and_is_not_is_no_longer_said_to_be() {
    let cluster = Cluster::start().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create::<Pod>(pod).await;
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "preempting", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [target]}}));
    cluster.api::<Pod>().patch_status("p", &PatchParams::default(), &patch).await.unwrap();
    let taken_back = |pods: &[Arc<Pod>]| {
        let conditions =
            pods.iter().flat_map(|pod| pod.status.iter().flat_map(|status| status.conditions.iter().flatten()));
        conditions
            .filter(|one| one.type_ == "DisruptionTarget")
            .any(|one| one.status == "False" && one.reason.is_none())
    };
    cluster.until("it is taken back", taken_back).await;
    cluster.stop().await;
}
