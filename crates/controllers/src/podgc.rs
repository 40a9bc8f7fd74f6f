//! Drives pod garbage collection: pods that no node agent will ever clean up.

use std::{sync::Arc, time::Duration};

use client::{Key, kube};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use reconcile::{
    meta, pod,
    podgc::{self, Cause},
};

use crate::{
    cache::on_node,
    context::{Context, FINISHED},
    queue::Queue,
    worker::{Controller, Error},
};

pub struct PodGc {
    context: Context,
    threshold: usize,
    quarantine: Duration,
}

impl PodGc {
    /// Keeps `threshold` ended pods; a missing node is believed after `quarantine`.
    pub fn new(context: &Context, queue: &Queue<Key>, threshold: usize, quarantine: Duration) -> Arc<Self> {
        let (own, nodes) = (queue.clone(), context.caches.nodes.clone());
        context.caches.pods.listen(move |change| {
            let Some(pod) = &change.new else { return };
            match podgc::cause(pod, |node| nodes.get(&Key::new("", node)).is_some()) {
                Some(Cause::Orphaned) => own.add_after(change.key.clone(), quarantine),
                Some(_) => own.add(change.key.clone()),
                None if pod::is_finished(pod) => own.add(change.key.clone()),
                None => {}
            }
        });
        let (own, pods) = (queue.clone(), context.caches.pods.clone());
        context.caches.nodes.listen(move |change| {
            if change.new.is_none() {
                for pod in pods.group(&on_node(&change.key.name)) {
                    own.add_after(Key::of(&*pod), quarantine);
                }
            }
        });
        Arc::new(PodGc { context: context.clone(), threshold, quarantine })
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), meta::namespace(&pod.metadata));
        let name = meta::name(&pod.metadata);
        if let Some(failed) = podgc::failed(pod, self.context.clock.now()) {
            match api.replace_status(name, &PostParams::default(), &failed).await {
                Err(error) if client::is_not_found(&error) => return Ok(()),
                result => drop(result?),
            }
        }
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let how = DeleteParams { grace_period_seconds: Some(0), preconditions: Some(same), ..DeleteParams::default() };
        match api.delete(name, &how).await {
            Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    async fn node_is_gone(&self, pod: &Pod) -> Result<bool, Error> {
        let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else { return Ok(false) };
        let live = Api::<Node>::all(self.context.client.clone()).get_metadata_opt(name).await?;
        Ok(live.is_none())
    }
}

impl Controller for PodGc {
    type Key = Key;
    const NAME: &'static str = "pod-gc";
    const QUEUE: &'static str = "orphaned_pods_nodes";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let caches = &self.context.caches;
        if caches.pods.group_len(FINISHED) > self.threshold {
            for pod in podgc::surplus(caches.pods.group(FINISHED), self.threshold) {
                self.delete(&pod).await?;
            }
        }
        let Some(pod) = caches.pods.get(key) else { return Ok(None) };
        match podgc::cause(&pod, |node| caches.nodes.get(&Key::new("", node)).is_some()) {
            Some(Cause::Orphaned) if !self.node_is_gone(&pod).await? => return Ok(Some(self.quarantine)),
            Some(Cause::Orphaned | Cause::Unplaced) => self.delete(&pod).await?,
            _ => {}
        }
        Ok(None)
    }
}
