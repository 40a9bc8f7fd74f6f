//! Drives Jobs: carries out what `reconcile::job` decides.

use std::{sync::Arc, time::Duration};

use client::{Key, kube};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use reconcile::{
    job::{self, Action, Input},
    meta,
};
use serde_json::json;

use crate::{
    cache::{owned_by, owners},
    context::Context,
    pods::PodControl,
    queue::Queue,
    worker::{Controller, Error},
};

pub struct Jobs {
    context: Context,
    pods: PodControl,
}

impl Jobs {
    pub fn new(context: &Context, queue: &Queue<Key>) -> Arc<Self> {
        let own = queue.clone();
        context.caches.jobs.listen(move |change| own.add(change.key.clone()));
        let own = queue.clone();
        context.caches.pods.listen(move |change| {
            let keys = owners(change, "Job");
            // A pod that outlives its Job's UID must not stay held by a finalizer that nobody takes away.
            keys.into_iter().for_each(|key| own.add(key));
        });
        Arc::new(Jobs { context: context.clone(), pods: context.pod_control("job-controller") })
    }

    async fn execute(&self, key: &Key, job: &Job, action: Action) -> Result<Option<Duration>, Error> {
        let api = Api::<Job>::namespaced(self.context.client.clone(), &key.namespace);
        let about = client::object_reference(job);
        match action {
            Action::Status(status) => {
                let mut shown = job.clone();
                shown.status = Some(*status);
                api.replace_status(&key.name, &PostParams::default(), &shown).await?;
            }
            Action::Untrack(pods) => {
                for pod in pods {
                    self.untrack(&pod).await?;
                }
            }
            Action::Delete(pods) => self.pods.delete(key, &about, &pods).await.map_err(|(_, error)| error)?,
            Action::Create(pods) => self.pods.create(key, &about, pods).await.map_err(|(_, error)| error)?,
            Action::DeleteJob => {
                let same = Preconditions { uid: job.metadata.uid.clone(), resource_version: None };
                let how = DeleteParams { preconditions: Some(same), ..DeleteParams::foreground() };
                match api.delete(&key.name, &how).await {
                    Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                    _ => {}
                }
            }
            Action::Notice(notice) => self.context.notice(&self.pods.recorder, job, notice),
            Action::Again(after) => return Ok(Some(after)),
        }
        Ok(None)
    }

    async fn untrack(&self, pod: &k8s_openapi::api::core::v1::Pod) -> Result<(), Error> {
        let finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
        let left: Vec<String> = finalizers.into_iter().filter(|one| one != job::FINALIZER).collect();
        Ok(self.pods.patch_metadata(pod, json!({ "finalizers": left })).await?)
    }

    /// Frees the pods of a Job that is gone.
    async fn release_pods(&self, key: &Key) -> Result<(), Error> {
        let pods = self.context.caches.pods.group(&crate::cache::in_namespace(&key.namespace));
        let lost = pods.iter().filter(|pod| {
            meta::has_finalizer(&pod.metadata, job::FINALIZER)
                && meta::controller_of(&pod.metadata).is_some_and(|o| o.kind == "Job" && o.name == key.name)
        });
        for pod in lost {
            self.untrack(pod).await?;
        }
        Ok(())
    }
}

impl Controller for Jobs {
    type Key = Key;
    const NAME: &'static str = "job";
    const QUEUE: &'static str = "job";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let caches = &self.context.caches;
        let Some(job) = caches.jobs.get(key) else {
            self.pods.tracker.forget(key);
            self.release_pods(key).await?;
            return Ok(None);
        };
        let unsettled =
            self.pods.tracker.settle(key, &caches.pods, &self.context.client, self.context.clock.monotonic()).await?;
        let pods = caches.pods.group(&owned_by(meta::uid(&job.metadata)));
        let input = Input { job: &job, pods: &pods, settled: unsettled.is_none(), now: self.context.clock.now() };
        let mut again = unsettled;
        for action in job::reconcile(&input) {
            match self.execute(key, &job, action).await {
                Ok(after) => again = reconcile::sooner(again, after),
                Err(Error::Api(e)) if crate::pods::is_terminating(&e) || client::is_not_found(&e) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(again)
    }
}
