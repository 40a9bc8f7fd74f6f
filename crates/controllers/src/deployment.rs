//! Drives Deployments: carries out what `reconcile::deployment` decides.

use std::{sync::Arc, time::Duration};

use client::{Key, kube};
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use reconcile::{
    deployment::{self, Action, Input},
    meta, pod, selector,
};
use serde_json::json;

use crate::{
    cache::{in_namespace, orphans_in, owned_by, owners},
    context::Context,
    pods::api_message,
    queue::Queue,
    worker::{Controller, Error},
};

pub struct Deployments {
    context: Context,
    recorder: client::Recorder,
}

impl Deployments {
    pub fn new(context: &Context, queue: &Queue<Key>) -> Arc<Self> {
        let own = queue.clone();
        context.caches.deployments.listen(move |change| own.add(change.key.clone()));
        let (own, deployments) = (queue.clone(), context.caches.deployments.clone());
        context.caches.sets.listen(move |change| {
            owners(change, "Deployment").into_iter().for_each(|key| own.add(key));
            if let Some(set) = change.new.as_ref().filter(|set| meta::controller_of(&set.metadata).is_none()) {
                for deployment in deployments.group(&in_namespace(&change.key.namespace)) {
                    let labels = set.metadata.labels.as_ref();
                    if deployment.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, labels)) {
                        own.add(Key::of(&*deployment));
                    }
                }
            }
        });
        let (own, sets) = (queue.clone(), context.caches.sets.clone());
        context.caches.pods.listen(move |change| {
            // Only the strategy `Recreate` waits for pods, and only for their end.
            if change.new.as_ref().is_none_or(|pod| pod::is_finished(pod)) {
                for set in owners(change, "ReplicaSet").iter().filter_map(|key| sets.get(key)) {
                    if let Some(owner) = meta::controller_of(&set.metadata).filter(|o| o.kind == "Deployment") {
                        own.add(Key::new(&change.key.namespace, &owner.name));
                    }
                }
            }
        });
        Arc::new(Deployments { context: context.clone(), recorder: context.recorder("deployment-controller") })
    }

    fn sets(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    /// Carries one action out; `current` is the Deployment as last written. Returns when to look again.
    async fn execute(&self, current: &mut Deployment, action: Action) -> Result<Option<Duration>, Error> {
        let sets = self.sets(meta::namespace(&current.metadata));
        match action {
            Action::Adopt(set) => {
                let mut owners = set.metadata.owner_references.clone().unwrap_or_default();
                owners.push(meta::controller_reference(current));
                self.set_owners(&sets, &set, json!(owners)).await?;
            }
            Action::Release(set) => {
                let owners = reconcile::gc::without_owner(&set.metadata, meta::uid(&current.metadata));
                self.set_owners(&sets, &set, json!(owners)).await?;
            }
            Action::CreateSet(set) => self.create(current, &sets, &set).await?,
            Action::UpdateSet(set) => {
                sets.replace(meta::name(&set.metadata), &PostParams::default(), &set).await?;
            }
            Action::DeleteSet(set) => {
                let same = Preconditions { uid: set.metadata.uid.clone(), resource_version: None };
                let how = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
                match sets.delete(meta::name(&set.metadata), &how).await {
                    Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                    _ => {}
                }
            }
            Action::Annotate(annotations) => {
                let mut wanted = current.clone();
                wanted.metadata.annotations = Some(annotations);
                let api = self.api(current);
                *current = api.replace(meta::name(&wanted.metadata), &PostParams::default(), &wanted).await?;
            }
            Action::Status(status) => self.show(current, *status).await?,
            Action::Notice(notice) => self.context.notice(&self.recorder, current, notice),
            Action::Again(after) => return Ok(Some(after)),
        }
        Ok(None)
    }

    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(self.context.client.clone(), meta::namespace(&deployment.metadata))
    }

    async fn show(&self, current: &mut Deployment, status: DeploymentStatus) -> Result<(), Error> {
        let mut shown = current.clone();
        shown.status = Some(status);
        let name = meta::name(&shown.metadata).to_owned();
        *current = self.api(current).replace_status(&name, &PostParams::default(), &shown).await?;
        Ok(())
    }

    async fn set_owners(
        &self,
        sets: &Api<ReplicaSet>,
        set: &ReplicaSet,
        owners: serde_json::Value,
    ) -> Result<(), Error> {
        let metadata = json!({
            "uid": set.metadata.uid,
            "resourceVersion": set.metadata.resource_version,
            "ownerReferences": owners,
        });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        sets.patch(meta::name(&set.metadata), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn create(&self, current: &mut Deployment, sets: &Api<ReplicaSet>, set: &ReplicaSet) -> Result<(), Error> {
        let Err(error) = sets.create(&PostParams::default(), set).await else { return Ok(()) };
        if client::is_already_exists(&error) {
            let existing = sets.get(meta::name(&set.metadata)).await?;
            if let Some(status) = deployment::collision(current, &existing) {
                self.show(current, status).await?;
                return Err(error.into());
            }
            // An earlier pass made it and this one did not see it: what else this one decided is outdated too.
            return Err(Error::Stale);
        }
        if crate::pods::is_terminating(&error) {
            return Err(error.into());
        }
        let status = deployment::create_failed(current, &api_message(&error), self.context.clock.now());
        if current.status.as_ref() != Some(&status) {
            self.show(current, status).await?;
        }
        Err(error.into())
    }

    fn pods(&self, sets: &[Arc<ReplicaSet>]) -> Vec<Arc<Pod>> {
        sets.iter().flat_map(|set| self.context.caches.pods.group(&owned_by(meta::uid(&set.metadata)))).collect()
    }
}

impl Controller for Deployments {
    type Key = Key;
    const NAME: &'static str = "deployment";
    const QUEUE: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let caches = &self.context.caches;
        let Some(deployment) = caches.deployments.get(key) else { return Ok(None) };
        let own = caches.sets.group(&owned_by(meta::uid(&deployment.metadata)));
        let pods = self.pods(&own);
        let orphans = caches.sets.group(&orphans_in(&key.namespace));
        let sets: Vec<Arc<ReplicaSet>> = own.into_iter().chain(orphans).collect();
        let input = Input { deployment: &deployment, sets: &sets, pods: &pods, now: self.context.clock.now() };
        let mut current = (*deployment).clone();
        let mut again = None;
        for action in deployment::reconcile(&input) {
            match self.execute(&mut current, action).await {
                Ok(after) => again = reconcile::sooner(again, after),
                // The namespace or the object itself goes away: there is nothing to repeat.
                Err(Error::Api(e)) if crate::pods::is_terminating(&e) || client::is_not_found(&e) => return Ok(None),
                Err(Error::Stale) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(again)
    }
}
