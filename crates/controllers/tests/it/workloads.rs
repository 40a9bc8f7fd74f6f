//! Deployments, ReplicaSets, Jobs and endpoints.

use std::{collections::HashSet, time::Duration};

use client::kube::api::{Patch, PatchParams};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Endpoints, Event, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use serde_json::json;

use crate::cluster::{Cluster, deployment};

fn merge(value: serde_json::Value) -> Patch<serde_json::Value> {
    Patch::Merge(value)
}

fn available(deployments: &[std::sync::Arc<Deployment>], count: i32) -> bool {
    deployments.iter().any(|one| {
        let status = one.status.clone().unwrap_or_default();
        let complete = status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Progressing" && c.reason.as_deref() == Some("NewReplicaSetAvailable"));
        complete
            && status.available_replicas.unwrap_or(0) == count
            && status.updated_replicas.unwrap_or(0) == count
            && status.replicas.unwrap_or(0) == count
            && status.observed_generation == one.metadata.generation
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_gets_its_pods_at_once_and_follows_its_template() {
    let cluster = Cluster::start().await;
    // The first one warms what is made on first use; the second is measured.
    cluster.create::<Deployment>(deployment("warm", 1, "one")).await;
    cluster.until::<Pod>("the first pod", |pods| pods.len() == 1).await;
    let start = cluster.clock.monotonic();
    cluster.create::<Deployment>(deployment("web", 3, "one")).await;
    cluster.until::<Pod>("three pods", |pods| pods.len() == 4).await;
    let took = cluster.clock.monotonic() - start;
    eprintln!("from the Deployment to its 3 pods: {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
    cluster.run_pods();
    let deployments = cluster.api::<Deployment>();
    deployments.delete("warm", &Default::default()).await.unwrap();
    cluster.until::<Deployment>("web is available", |all| all.len() == 1 && available(all, 3)).await;

    let patch = merge(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}}));
    deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
    cluster.until::<Deployment>("web has rolled", |all| available(all, 3)).await;
    let images = |pods: &[std::sync::Arc<Pod>]| -> HashSet<String> {
        pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect()
    };
    cluster.until::<Pod>("only new pods", |pods| pods.len() == 3 && images(pods) == ["two".to_owned()].into()).await;

    // What `kubectl rollout undo` does: the old template comes back, and with it the old set.
    let patch = merge(json!({"spec": {"template": deployment("web", 3, "one")["spec"]["template"]}}));
    deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
    cluster
        .until::<Deployment>("web is back", |all| {
            let revision =
                all[0].metadata.annotations.as_ref().and_then(|a| a.get("deployment.kubernetes.io/revision"));
            available(all, 3) && revision.map(String::as_str) == Some("3")
        })
        .await;
    cluster
        .until::<ReplicaSet>("two sets", |sets| {
            let mut sizes: Vec<_> = sets.iter().map(|set| set.spec.as_ref().unwrap().replicas).collect();
            sizes.sort_unstable();
            sizes == [Some(0), Some(3)]
        })
        .await;
    cluster
        .until::<Event>("the events", |events| {
            events.iter().any(|e| {
                e.message
                    .as_deref()
                    .is_some_and(|m| m.starts_with("Scaled up replica set web-") && m.ends_with("from 0 to 3"))
            }) && events.iter().any(|e| e.reason.as_deref() == Some("SuccessfulCreate"))
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_makes_and_takes_exactly_the_difference() {
    let cluster = Cluster::start().await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 2, "one")).await;
    let deployments = cluster.api::<Deployment>();
    for size in [20, 3, 7, 0, 1] {
        let patch = merge(json!({"spec": {"replicas": size}}));
        deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
        cluster.until::<Deployment>("the size", |all| available(all, size)).await;
        let count = usize::try_from(size).unwrap();
        cluster.until::<Pod>("that many pods", |pods| pods.len() == count).await;
    }
    let made = cluster.api::<Event>().list(&Default::default()).await.unwrap();
    let named = made.items.iter().filter(|e| e.reason.as_deref() == Some("SuccessfulCreate"));
    // 2 to begin with, 18 more, 4 more, 1 more: a pod that was made twice would show here.
    let all: i32 = named.map(|event| event.count.unwrap_or(1)).sum();
    assert!(all <= 25, "{all} pods were made");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pods() {
    let cluster = Cluster::start().await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 3, "one")).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(service).await;
    let ready = |slices: &[std::sync::Arc<EndpointSlice>]| {
        let ours = slices.iter().filter(|s| {
            s.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name")).map(String::as_str)
                == Some("web")
        });
        let endpoints = ours.flat_map(|s| s.endpoints.iter().flatten());
        endpoints.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count()
    };
    cluster.until::<EndpointSlice>("three endpoints", |slices| ready(slices) == 3).await;
    let addresses = |all: &[std::sync::Arc<Endpoints>]| {
        let web = all.iter().filter(|e| e.metadata.name.as_deref() == Some("web"));
        web.flat_map(|e| e.subsets.iter().flatten()).flat_map(|s| s.addresses.iter().flatten()).count()
    };
    cluster.until::<Endpoints>("three addresses", |all| addresses(all) == 3).await;
    let patch = merge(json!({"spec": {"replicas": 1}}));
    cluster.api::<Deployment>().patch("web", &PatchParams::default(), &patch).await.unwrap();
    cluster.until::<EndpointSlice>("one endpoint", |slices| ready(slices) == 1).await;
    cluster.api::<Service>().delete("web", &Default::default()).await.unwrap();
    let gone = |name: Option<&str>| name.is_none_or(|name| !name.starts_with("web"));
    cluster.until::<EndpointSlice>("no slice", |all| all.iter().all(|s| gone(s.metadata.name.as_deref()))).await;
    cluster.until::<Endpoints>("no endpoints", |all| all.iter().all(|s| gone(s.metadata.name.as_deref()))).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_complete_and_are_counted_once() {
    let cluster = Cluster::start().await;
    cluster.run_pods();
    for (name, mode) in [("plain", "NonIndexed"), ("indexed", "Indexed")] {
        let job = json!({"metadata": {"name": name}, "spec": {"completions": 5, "parallelism": 2, "completionMode": mode,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}}}});
        cluster.create::<Job>(job).await;
        let jobs = cluster
            .until::<Job>("the job is complete", |jobs| {
                jobs.iter().filter(|job| job.metadata.name.as_deref() == Some(name)).any(|job| {
                    let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
                    conditions.into_iter().any(|c| c.type_ == "Complete" && c.status == "True")
                })
            })
            .await;
        let job = jobs.iter().find(|job| job.metadata.name.as_deref() == Some(name)).unwrap();
        let status = job.status.clone().unwrap();
        assert_eq!((status.succeeded, status.failed), (Some(5), None), "{status:?}");
        if mode == "Indexed" {
            assert_eq!(status.completed_indexes.as_deref(), Some("0-4"));
        }
    }
    cluster
        .until::<Pod>("free pods", |pods| pods.len() == 10 && pods.iter().all(|p| p.metadata.finalizers.is_none()))
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_has_its_account_and_certificate() {
    let cluster = Cluster::start().await;
    cluster
        .until::<ServiceAccount>("the account", |all| {
            all.iter().any(|account| account.metadata.name.as_deref() == Some("default"))
        })
        .await;
    let has_ca = |all: &[std::sync::Arc<ConfigMap>]| {
        all.iter().any(|c| c.data.as_ref().and_then(|d| d.get("ca.crt")).map(String::as_str) == Some("PEM"))
    };
    cluster.until::<ConfigMap>("the certificate", has_ca).await;
    cluster.api::<ConfigMap>().delete("kube-root-ca.crt", &Default::default()).await.unwrap();
    cluster.until::<ConfigMap>("the certificate again", has_ca).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_cluster_writes_nothing() {
    let cluster = Cluster::start().await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 2, "one")).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.create::<Service>(service).await;
    cluster.until::<Deployment>("web is available", |all| available(all, 2)).await;
    // Our own writes are the clock: once only they move the revision, nobody else writes.
    const OWN: u64 = 20;
    let round = async |round: u64| {
        let mut revisions = Vec::new();
        for n in 0..OWN {
            let marker = json!({"metadata": {"name": format!("marker-{round}-{n}")}});
            let made = cluster.create::<ConfigMap>(marker).await;
            revisions.push(made.metadata.resource_version.unwrap().parse::<u64>().unwrap());
        }
        revisions[revisions.len() - 1] - revisions[0] == OWN - 1
    };
    let quiet = async {
        let mut n = 0;
        while !round(n).await {
            n += 1;
        }
    };
    crate::cluster::within("only our own writes", quiet).await;
    cluster.stop().await;
}
