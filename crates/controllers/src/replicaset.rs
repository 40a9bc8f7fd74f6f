//! Drives ReplicaSets: carries out what `reconcile::replicaset` decides.

use std::{sync::Arc, time::Duration};

use client::{Key, kube};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{Api, api::PostParams};
use reconcile::{
    meta,
    replicaset::{self, ManageFailure},
    selector,
};
use serde_json::json;

use crate::{
    cache::{orphans_in, owned_by, owners},
    context::Context,
    pods::PodControl,
    queue::Queue,
    worker::{Controller, Error},
};

pub struct ReplicaSets {
    context: Context,
    pods: PodControl,
}

impl ReplicaSets {
    pub fn new(context: &Context, queue: &Queue<Key>) -> Arc<Self> {
        let own = queue.clone();
        context.caches.sets.listen(move |change| own.add(change.key.clone()));
        let (own, sets) = (queue.clone(), context.caches.sets.clone());
        context.caches.pods.listen(move |change| {
            owners(change, "ReplicaSet").into_iter().for_each(|key| own.add(key));
            if let Some(pod) = change.new.as_ref().filter(|pod| meta::controller_of(&pod.metadata).is_none()) {
                for set in sets.group(&crate::cache::in_namespace(&change.key.namespace)) {
                    if selects(&set, pod) {
                        own.add(Key::of(&*set));
                    }
                }
            }
        });
        Arc::new(ReplicaSets { context: context.clone(), pods: context.pod_control("replicaset-controller") })
    }

    /// Adopts and releases, and returns the pods that are the set's.
    async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, Error> {
        let pods = &self.context.caches.pods;
        let own = pods.group(&owned_by(meta::uid(&set.metadata)));
        let orphans = pods.group(&orphans_in(meta::namespace(&set.metadata)));
        let claims = replicaset::claim(set, own.into_iter().chain(orphans));
        let mut owned = claims.owned;
        for pod in claims.adopt {
            let owner = meta::controller_reference(set);
            let owners = replicaset::with_owner(&pod.metadata, owner).owner_references;
            self.pods.patch_metadata(&pod, json!({ "ownerReferences": owners })).await?;
            owned.push(pod);
        }
        for pod in claims.release {
            let owners = reconcile::gc::without_owner(&pod.metadata, meta::uid(&set.metadata));
            self.pods.patch_metadata(&pod, json!({ "ownerReferences": owners })).await?;
        }
        Ok(owned)
    }

    async fn manage(
        &self,
        key: &Key,
        set: &ReplicaSet,
        owned: &[Arc<Pod>],
    ) -> Result<(), (ManageFailure, kube::Error)> {
        let plan = replicaset::plan(set, owned, &self.related(set, owned), self.context.clock.now());
        let about = client::object_reference(set);
        if plan.create > 0 {
            let pods = (0..plan.create).map(|_| replicaset::new_pod(set)).collect();
            self.pods.create(key, &about, pods).await?;
        }
        self.pods.delete(key, &about, &plan.delete).await
    }

    /// The active pods on each node, of all sets with the same manager.
    fn related(&self, set: &ReplicaSet, owned: &[Arc<Pod>]) -> std::collections::HashMap<String, usize> {
        let caches = &self.context.caches;
        match meta::controller_of(&set.metadata) {
            None => replicaset::pods_per_node(owned),
            Some(owner) => {
                let siblings = caches.sets.group(&owned_by(&owner.uid));
                let pods: Vec<Arc<Pod>> =
                    siblings.iter().flat_map(|set| caches.pods.group(&owned_by(meta::uid(&set.metadata)))).collect();
                replicaset::pods_per_node(&pods)
            }
        }
    }
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.metadata.labels.as_ref()))
}

impl Controller for ReplicaSets {
    type Key = Key;
    const NAME: &'static str = "replicaset";
    const QUEUE: &'static str = "replicaset";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.context.caches.sets.get(key) else {
            self.pods.tracker.forget(key);
            return Ok(None);
        };
        // Asked before the pods are read: what shows now is in what is read next.
        let now = self.context.clock.monotonic();
        let unsettled = self.pods.tracker.settle(key, &self.context.caches.pods, &self.context.client, now).await?;
        let owned = self.claim(&set).await?;
        let managed = if unsettled.is_none() { self.manage(key, &set, &owned).await } else { Ok(()) };
        let failure = managed.as_ref().err().map(|(failure, _)| failure);
        let (status, again) = replicaset::status(&set, &owned, failure, self.context.clock.now());
        if set.status.as_ref() != Some(&status) {
            let mut shown = (*set).clone();
            shown.status = Some(status);
            let api = Api::<ReplicaSet>::namespaced(self.context.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &shown).await {
                Err(error) if client::is_not_found(&error) => {}
                result => drop(result?),
            }
        }
        match managed {
            Err((_, error)) if crate::pods::is_terminating(&error) => Ok(None),
            Err((_, error)) => Err(error.into()),
            Ok(()) => Ok(reconcile::sooner(again, unsettled)),
        }
    }
}
