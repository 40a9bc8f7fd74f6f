//! Deletion: what follows an owner, and what is left of a namespace.

use client::kube::{
    Api,
    api::{DeleteParams, PostParams, PropagationPolicy},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Namespace, Pod},
};
use serde_json::json;

use crate::cluster::{Cluster, deployment, within};

async fn deleted_with(policy: PropagationPolicy, pods_stay: bool) {
    let cluster = Cluster::start().await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 2, "one")).await;
    cluster.until::<Pod>("two pods", |pods| pods.len() == 2).await;
    let how = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
    cluster.api::<Deployment>().delete("web", &how).await.unwrap();
    cluster.until::<Deployment>("no Deployment", |all| all.is_empty()).await;
    if pods_stay {
        cluster
            .until::<ReplicaSet>("a set without owner", |sets| {
                sets.len() == 1 && sets[0].metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
            })
            .await;
        cluster.until::<Pod>("two pods still", |pods| pods.len() == 2).await;
    } else {
        cluster.until::<ReplicaSet>("no sets", |sets| sets.is_empty()).await;
        cluster.until::<Pod>("no pods", |pods| pods.is_empty()).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background() {
    deleted_with(PropagationPolicy::Background, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_foreground() {
    deleted_with(PropagationPolicy::Foreground, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay() {
    deleted_with(PropagationPolicy::Orphan, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_never_was_is_noticed() {
    let cluster = Cluster::start().await;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "00000000-0000-0000-0000-000000000001"}]);
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "lost", "ownerReferences": owner}})).await;
    cluster
        .until::<ConfigMap>("it is gone", |all| all.iter().all(|c| c.metadata.name.as_deref() != Some("lost")))
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_all_it_holds() {
    let cluster = Cluster::start().await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let named = serde_json::from_value(json!({"metadata": {"name": "room"}})).unwrap();
    namespaces.create(&PostParams::default(), &named).await.unwrap();
    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), "room");
    let made = serde_json::from_value(deployment("web", 2, "one")).unwrap();
    deployments.create(&PostParams::default(), &made).await.unwrap();
    let pods = cluster.informers.all::<Pod>();
    let mut subscription = pods.subscribe();
    within("two pods", async {
        while pods.len() < 2 {
            subscription.next().await;
        }
    })
    .await;
    namespaces.delete("room", &DeleteParams::default()).await.unwrap();
    cluster
        .until::<Namespace>("the namespace is gone", |all| {
            all.iter().all(|namespace| namespace.metadata.name.as_deref() != Some("room"))
        })
        .await;
    assert!(deployments.list(&Default::default()).await.unwrap().items.is_empty());
    cluster.stop().await;
}
