//! The controller of claims to devices: what `reconcile::resourceclaim` decides is done here, late, and only if nobody was faster.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use reconcile::{
    meta,
    resourceclaim::{self, ForClaim, ForPod, Hold, PROTECTION},
};
use runtime::Tasks;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    api::Api,
    devices::{self, delete_claim, put_claim},
    random::Random,
    store::{Store, uid},
};

/// What the controller has seen of the API.
struct Seen {
    version: usize,
    /// Those that have claims.
    pods: Vec<Pod>,
    claims: Vec<Arc<ResourceClaim>>,
}

/// The name of the template for so many devices.
pub fn template_name(devices: usize) -> String {
    format!("gpus-{devices}")
}

fn templates() -> Vec<Arc<ResourceClaimTemplate>> {
    let template = |count: usize| {
        let metadata = json!({"name": template_name(count), "namespace": "default", "uid": template_name(count)});
        Arc::new(read(&json!({"metadata": metadata, "spec": {"spec": devices::wants(count)}})))
    };
    (1..=2).map(template).collect()
}

pub fn control(api: Api, tasks: &Tasks, mut random: Random) {
    tasks.spawn("claims", async move {
        let (templates, mut done, mut made) = (templates(), 0, 0);
        loop {
            tokio::time::sleep(Duration::from_millis(random.between(100, 1500))).await;
            let Some(seen) = Seen::since(done, &api.lock().store) else { continue };
            // Others write meanwhile.
            tokio::time::sleep(Duration::from_millis(random.between(0, 400))).await;
            done = seen.version;
            for pod in &seen.pods {
                let todo = resourceclaim::for_pod(pod, &seen.claims, &templates);
                api.change(|state, _| for_pod(&mut state.store, pod, todo, &mut made));
            }
            for claim in &seen.claims {
                api.change(|state, _| {
                    let (remaining, owner) = holders(claim, &seen, &state.store);
                    let todo = resourceclaim::for_claim(claim, remaining, owner);
                    for_claim(&mut state.store, claim, todo);
                    collect(&mut state.store, claim);
                });
            }
        }
    });
}

impl Seen {
    /// `None`: nothing is new.
    fn since(done: usize, store: &Store) -> Option<Self> {
        if store.version() == done {
            return None;
        }
        let has_claims = |pod: &&Value| pod["spec"]["resourceClaims"].is_array();
        Some(Seen {
            version: store.version(),
            pods: store.all("pods").filter(has_claims).map(read).collect(),
            claims: store.all("resourceclaims").map(|claim| Arc::new(read(claim))).collect(),
        })
    }

    fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| meta::name(&pod.metadata) == name)
    }
}

/// Who holds a claim still, and the pod that it was made for.
fn holders<'a>(
    claim: &ResourceClaim,
    seen: &'a Seen,
    store: &Store,
) -> (Vec<k8s_openapi::api::resource::v1::ResourceClaimConsumerReference>, Option<&'a Pod>) {
    let all = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    let keeps = all.filter(|holder| match resourceclaim::hold(holder, seen.pod(&holder.name)) {
        Hold::Keeps => true,
        Hold::Ends => false,
        Hold::Doubtful => store.get("pods", &holder.name).is_some_and(|pod| uid(pod) == holder.uid),
    });
    let owner = resourceclaim::owning_pod(claim).and_then(|(name, _)| seen.pod(name));
    (keeps.cloned().collect(), owner)
}

fn for_pod(store: &mut Store, pod: &Pod, todo: ForPod, made: &mut u64) {
    let there = |store: &Store| {
        let pod_now = store.get("pods", meta::name(&pod.metadata)).cloned();
        pod_now.filter(|now| uid(now) == meta::uid(&pod.metadata))
    };
    if there(store).is_none() {
        return;
    }
    for (_, mut claim) in todo.create {
        *made += 1;
        let name = format!("{}{made}", claim.metadata.generate_name.take().unwrap_or_default());
        (claim.metadata.uid, claim.metadata.name) = (Some(format!("uid-{name}")), Some(name));
        store.put("resourceclaims", written(&claim));
    }
    if !todo.names.is_empty()
        && let Some(mut now) = there(store)
    {
        now["status"]["resourceClaimStatuses"] = json!(todo.names);
        store.put("pods", now);
    }
    for claim in todo.reserve {
        if is_unchanged(store, &claim) {
            put_claim(store, written(&claim));
        }
    }
}

fn for_claim(store: &mut Store, claim: &ResourceClaim, todo: ForClaim) {
    if !is_unchanged(store, claim) {
        return;
    }
    let mut latest = todo.status.unwrap_or_else(|| claim.clone());
    let allocated = latest.status.as_ref().is_some_and(|status| status.allocation.is_some());
    if todo.unprotect && !allocated {
        latest.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != PROTECTION);
    }
    put_claim(store, written(&latest));
    if todo.delete {
        delete_claim(store, meta::name(&claim.metadata));
    }
}

/// The part of the garbage collector: a claim goes with the pod that it was made for.
fn collect(store: &mut Store, claim: &ResourceClaim) {
    let Some((_, owner)) = resourceclaim::owning_pod(claim) else { return };
    if !store.all("pods").any(|pod| uid(pod) == owner) {
        delete_claim(store, meta::name(&claim.metadata));
    }
}

fn is_unchanged(store: &Store, claim: &ResourceClaim) -> bool {
    let now = store.get("resourceclaims", meta::name(&claim.metadata));
    now.is_some_and(|now| now["metadata"]["resourceVersion"].as_str() == claim.metadata.resource_version.as_deref())
}

fn read<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

fn written(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}
