//! Claims for devices: from templates to pods, and what becomes of them when nobody uses them.

use std::sync::Arc;

use client::kube::api::{DeleteParams, PostParams};
use k8s_openapi::api::{
    core::v1::{Event, Pod},
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const PROTECTION: &str = "resource.kubernetes.io/delete-protection";

fn template() -> Value {
    let requests = json!([{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]);
    json!({"metadata": {"name": "t"}, "spec": {"spec": {"devices": {"requests": requests}}}})
}

fn pod(claims: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "resourceClaims": claims}})
}

/// The claim of each entry, as the pod's status has it.
fn names(pod: &Pod) -> Vec<(String, String)> {
    let statuses = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    statuses.map(|status| (status.name.clone(), status.resource_claim_name.clone().unwrap_or_default())).collect()
}

/// As a scheduler does it: the claim is protected, allocated, and held by the pod.
async fn allocate(cluster: &Cluster, name: &str, pod: &Pod) {
    let api = cluster.api::<ResourceClaim>();
    let mut claim = api.get(name).await.unwrap();
    claim.metadata.finalizers.get_or_insert_default().push(PROTECTION.to_owned());
    let mut claim = api.replace(name, &PostParams::default(), &claim).await.unwrap();
    let result = json!({"request": "gpu", "driver": "gpu.example.com", "pool": "pool", "device": "gpu-0"});
    let holder = json!({"resource": "pods", "name": pod.metadata.name, "uid": pod.metadata.uid});
    let status = json!({"allocation": {"devices": {"results": [result]}}, "reservedFor": [holder]});
    claim.status = Some(serde_json::from_value(status).unwrap());
    api.replace_status(name, &PostParams::default(), &claim).await.unwrap();
}

fn free(claim: &ResourceClaim) -> bool {
    let status = claim.status.clone().unwrap_or_default();
    let protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    status.allocation.is_none() && status.reserved_for.unwrap_or_default().is_empty() && !protected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_claims_from_its_template_and_gives_them_back() {
    let cluster = Cluster::start().await;
    let entries = json!([{"name": "a", "resourceClaimTemplateName": "t"}, {"name": "b", "resourceClaimTemplateName": "t"},
        {"name": "c", "resourceClaimName": "shared"}]);
    cluster.create::<Pod>(pod(entries)).await;
    let message =
        r#"PodResourceClaim a: resource claim template "t": resourceclaimtemplate.resource.k8s.io "t" not found"#;
    let told = |event: &Arc<Event>| {
        (event.reason.as_deref(), event.message.as_deref()) == (Some("FailedResourceClaimCreation"), Some(message))
    };
    cluster.until::<Event>("the template is missing", |events| events.iter().any(told)).await;
    cluster.create::<ResourceClaimTemplate>(template()).await;
    let mut shared = template()["spec"].clone();
    shared["metadata"] = json!({"name": "shared"});
    cluster.create::<ResourceClaim>(shared).await;
    let pods = cluster.until::<Pod>("its status names them", |pods| pods.iter().any(|pod| names(pod).len() == 2)).await;
    let pod = &pods[0];
    let claims = cluster.until::<ResourceClaim>("they are there", |claims| claims.len() == 3).await;
    for (entry, name) in names(pod) {
        let claim = claims.iter().find(|claim| claim.metadata.name.as_ref() == Some(&name)).unwrap();
        assert!(name.starts_with(&format!("p-{entry}-")), "{name}");
        let annotations = claim.metadata.annotations.clone().unwrap();
        assert_eq!(annotations["resource.kubernetes.io/pod-claim-name"], entry);
        let owner = &claim.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((&owner.uid, owner.controller), (pod.metadata.uid.as_ref().unwrap(), Some(true)));
        allocate(&cluster, &name, pod).await;
    }
    allocate(&cluster, "shared", pod).await;
    // One that is lost is made anew.
    let lost = names(pod)[0].1.clone();
    let api = cluster.api::<ResourceClaim>();
    let mut claim = api.get(&lost).await.unwrap();
    claim.metadata.finalizers = None;
    api.replace(&lost, &PostParams::default(), &claim).await.unwrap();
    api.delete(&lost, &DeleteParams::default()).await.unwrap();
    let renamed = |pods: &[Arc<Pod>]| pods.iter().any(|pod| names(pod).len() == 2 && names(pod)[0].1 != lost);
    cluster.until::<Pod>("there is another one", renamed).await;
    // The pod has ended: what was made for it goes, and what it shared is free for others.
    let pods = cluster.api::<Pod>();
    let mut ended = pods.get("p").await.unwrap();
    ended.status.get_or_insert_default().phase = Some("Succeeded".into());
    pods.replace_status("p", &PostParams::default(), &ended).await.unwrap();
    let one = |claims: &[Arc<ResourceClaim>]| claims.len() == 1 && free(&claims[0]);
    cluster.until::<ResourceClaim>("only the shared one is left, and free", one).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_deleted_goes_with_its_last_holder() {
    let cluster = Cluster::start().await;
    let mut claim = template()["spec"].clone();
    claim["metadata"] = json!({"name": "shared"});
    cluster.create::<ResourceClaim>(claim).await;
    let made = cluster.create::<Pod>(pod(json!([{"name": "c", "resourceClaimName": "shared"}]))).await;
    allocate(&cluster, "shared", &made).await;
    let api = cluster.api::<ResourceClaim>();
    api.delete("shared", &DeleteParams::default()).await.unwrap();
    let held = |claims: &[Arc<ResourceClaim>]| {
        claims.iter().any(|claim| claim.metadata.deletion_timestamp.is_some() && !free(claim))
    };
    cluster.until::<ResourceClaim>("it stays while it is held", held).await;
    cluster.api::<Pod>().delete("p", &DeleteParams::default()).await.unwrap();
    cluster.until::<ResourceClaim>("it is gone", |claims| claims.is_empty()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_somebody_else_has_placed_holds_its_claim() {
    let cluster = Cluster::start().await;
    let mut claim = template()["spec"].clone();
    claim["metadata"] = json!({"name": "shared"});
    cluster.create::<ResourceClaim>(claim).await;
    let mut first = pod(json!([{"name": "c", "resourceClaimName": "shared"}]));
    let holder = cluster.create::<Pod>(first.clone()).await;
    allocate(&cluster, "shared", &holder).await;
    first["metadata"]["name"] = json!("placed");
    first["spec"]["nodeName"] = json!("n");
    cluster.create::<Pod>(first).await;
    let both = |claims: &[Arc<ResourceClaim>]| {
        let holders = claims[0].status.iter().flat_map(|status| status.reserved_for.iter().flatten());
        holders.map(|holder| holder.name.as_str()).eq(["p", "placed"])
    };
    cluster.until::<ResourceClaim>("both hold it", both).await;
    cluster.stop().await;
}
