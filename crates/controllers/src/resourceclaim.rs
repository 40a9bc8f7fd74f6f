//! Drives claims for devices: carries out what `reconcile::resourceclaim` decides for pods and for claims.

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{Key, Recorder, kube};
use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaimStatus},
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use parking_lot::Mutex;
use reconcile::{
    meta,
    resourceclaim::{self, ForClaim, Hold},
};
use serde_json::json;

use crate::{
    cache::owned_by,
    context::{Context, uses_claim, uses_template},
    pods::{api_message, is_terminating},
    queue::Queue,
    worker::{Controller, Error},
};

/// A claim that was made and that the cache may not show for so long; then the cache is believed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Whether a pod has the claims that it asks for.
    Pod(Key),
    /// Whether a claim is held still.
    Claim(Key),
}

/// A claim that was made, and when.
type Made = (Arc<ResourceClaim>, Duration);

pub struct ResourceClaims {
    context: Context,
    recorder: Recorder,
    /// For each pod the claims that were made and not yet seen, lest they be made again.
    made: Mutex<HashMap<Key, Vec<Made>>>,
}

impl ResourceClaims {
    pub fn new(context: &Context, queue: &Queue<Subject>) -> Arc<Self> {
        let caches = &context.caches;
        let own = queue.clone();
        caches.pods.listen(move |change| {
            let Some(pod) = change.new.as_ref().or(change.old.as_ref()) else { return };
            if change.new.is_none() || resourceclaim::is_done(pod) {
                let namespace = &change.key.namespace;
                let claims = resourceclaim::claims_of(pod).into_iter().map(|claim| Key::new(namespace, claim));
                claims.for_each(|claim| own.add(Subject::Claim(claim)));
            } else if has_entries(pod) {
                own.add(Subject::Pod(change.key.clone()));
            }
        });
        let (own, pods) = (queue.clone(), caches.pods.clone());
        caches.claims.listen(move |change| {
            if change.new.is_some() {
                own.add(Subject::Claim(change.key.clone()));
            }
            for pod in pods.group(&uses_claim(&change.key.namespace, &change.key.name)) {
                own.add(Subject::Pod(Key::of(&*pod)));
            }
        });
        let (own, pods) = (queue.clone(), caches.pods.clone());
        caches.templates.listen(move |change| {
            for pod in pods.group(&uses_template(&change.key.namespace, &change.key.name)) {
                own.add(Subject::Pod(Key::of(&*pod)));
            }
        });
        let recorder = context.recorder("resource_claim");
        Arc::new(ResourceClaims { context: context.clone(), recorder, made: Mutex::default() })
    }

    fn api(&self, namespace: &str) -> Api<ResourceClaim> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    /// The claims that a pod names and those that it owns, also those that the cache does not show yet.
    fn claims(&self, key: &Key, pod: &Pod) -> Vec<Arc<ResourceClaim>> {
        let caches = &self.context.caches;
        let mut claims = caches.claims.group(&owned_by(meta::uid(&pod.metadata)));
        let named = resourceclaim::claims_of(pod).into_iter();
        claims.extend(named.filter_map(|name| caches.claims.get(&Key::new(&key.namespace, name))));
        let (now, mut made) = (self.context.clock.monotonic(), self.made.lock());
        if let Some(unseen) = made.get_mut(key) {
            unseen.retain(|(claim, at)| {
                caches.claims.get(&Key::of(&**claim)).is_none() && now.saturating_sub(*at) < PATIENCE
            });
            claims.extend(unseen.iter().map(|(claim, _)| claim.clone()));
            if unseen.is_empty() {
                made.remove(key);
            }
        }
        claims
    }

    fn templates(&self, key: &Key, pod: &Pod) -> Vec<Arc<ResourceClaimTemplate>> {
        let names = resourceclaim::templates_of(pod).into_iter();
        names.filter_map(|name| self.context.caches.templates.get(&Key::new(&key.namespace, name))).collect()
    }

    async fn look_at_pod(&self, key: &Key) -> Result<(), Error> {
        let Some(pod) = self.context.caches.pods.get(key) else {
            self.made.lock().remove(key);
            return Ok(());
        };
        let mut todo = resourceclaim::for_pod(&pod, &self.claims(key, &pod), &self.templates(key, &pod));
        for notice in std::mem::take(&mut todo.notices) {
            self.context.notice(&self.recorder, &*pod, notice);
        }
        if !todo.create.is_empty() {
            for (entry, claim) in std::mem::take(&mut todo.create) {
                self.create(key, &pod, &entry, claim).await?;
            }
            // Now they have names.
            todo = resourceclaim::for_pod(&pod, &self.claims(key, &pod), &self.templates(key, &pod));
        }
        if !todo.names.is_empty() {
            self.name(&pod, &todo.names).await?;
        }
        for claim in todo.reserve {
            self.api(&key.namespace)
                .replace_status(meta::name(&claim.metadata), &PostParams::default(), &claim)
                .await?;
        }
        Ok(())
    }

    async fn create(&self, key: &Key, pod: &Pod, entry: &str, claim: ResourceClaim) -> Result<(), Error> {
        match self.api(&key.namespace).create(&PostParams::default(), &claim).await {
            Ok(made) => {
                let made = (Arc::new(made), self.context.clock.monotonic());
                self.made.lock().entry(key.clone()).or_default().push(made);
                Ok(())
            }
            Err(error) => {
                if !is_terminating(&error) {
                    let why = format!("create ResourceClaim: {}", api_message(&error));
                    self.context.notice(&self.recorder, pod, resourceclaim::not_created(entry, &why));
                }
                Err(error.into())
            }
        }
    }

    /// Writes into the pod's status which claims were made for it.
    async fn name(&self, pod: &Pod, names: &[PodResourceClaimStatus]) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), meta::namespace(&pod.metadata));
        let status = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": names}});
        let patch = Patch::Strategic(status);
        match api.patch_status(meta::name(&pod.metadata), &PatchParams::default(), &patch).await {
            // It has gone, or another one has its name.
            Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    async fn look_at_claim(&self, key: &Key) -> Result<(), Error> {
        let caches = &self.context.caches;
        let Some(claim) = caches.claims.get(key) else { return Ok(()) };
        let mut remaining = Vec::new();
        for holder in claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten()) {
            let known = caches.pods.get(&Key::new(&key.namespace, &holder.name));
            let keeps = match resourceclaim::hold(holder, known.as_deref()) {
                Hold::Keeps => true,
                Hold::Ends => false,
                Hold::Doubtful => {
                    let pods = Api::<Pod>::namespaced(self.context.client.clone(), &key.namespace);
                    let live = pods.get_metadata_opt(&holder.name).await?;
                    live.is_some_and(|live| meta::uid(&live.metadata) == holder.uid)
                }
            };
            if keeps {
                remaining.push(holder.clone());
            }
        }
        let owner =
            resourceclaim::owning_pod(&claim).and_then(|(name, _)| caches.pods.get(&Key::new(&key.namespace, name)));
        let todo = resourceclaim::for_claim(&claim, remaining, owner.as_deref());
        match self.execute(key, &claim, todo).await {
            // It is gone already, which is what a deleted one was to be.
            Err(Error::Api(error)) if client::is_not_found(&error) => Ok(()),
            result => result,
        }
    }

    async fn execute(&self, key: &Key, claim: &ResourceClaim, todo: ForClaim) -> Result<(), Error> {
        let (api, post) = (self.api(&key.namespace), PostParams::default());
        let mut latest = claim.clone();
        if let Some(status) = todo.status {
            latest = api.replace_status(&key.name, &post, &status).await?;
        }
        let allocated = latest.status.as_ref().is_some_and(|status| status.allocation.is_some());
        if todo.unprotect && !allocated {
            let finalizers = latest.metadata.finalizers.get_or_insert_default();
            finalizers.retain(|finalizer| finalizer != resourceclaim::PROTECTION);
            api.replace(&key.name, &post, &latest).await?;
        }
        if todo.delete {
            let same = Preconditions { uid: claim.metadata.uid.clone(), resource_version: None };
            api.delete(&key.name, &DeleteParams { preconditions: Some(same), ..DeleteParams::default() }).await?;
        }
        Ok(())
    }
}

impl Controller for ResourceClaims {
    type Key = Subject;
    const NAME: &'static str = "resourceclaim";
    const QUEUE: &'static str = "resource_claim";

    async fn reconcile(&self, subject: &Subject) -> Result<Option<Duration>, Error> {
        let result = match subject {
            Subject::Pod(key) => self.look_at_pod(key).await,
            Subject::Claim(key) => self.look_at_claim(key).await,
        };
        match result {
            // In a namespace that goes away nothing can be made.
            Err(Error::Api(error)) if is_terminating(&error) => Ok(None),
            result => result.map(|()| None),
        }
    }
}

fn has_entries(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()).is_some_and(|entries| !entries.is_empty())
}
