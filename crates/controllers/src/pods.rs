//! Making and deleting pods for an owner: in growing batches, tracked, and told in events.

use client::{Client, EventType, Key, Recorder, kube};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use reconcile::{meta, replicaset::ManageFailure};
use runtime::Clock;
use serde_json::json;

use crate::tracker::Tracker;

/// The first batch; each batch that succeeds doubles the next. If a pod cannot be made at all, one request shows it.
const FIRST_BATCH: usize = 1;
/// Requests at once.
const BATCH_MAX: usize = 64;

/// Makes and deletes pods in the name of one controller.
pub struct PodControl {
    pub client: Client,
    pub recorder: Recorder,
    pub clock: Clock,
    pub tracker: Tracker,
}

impl PodControl {
    fn api(&self, owner: &Key) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &owner.namespace)
    }

    /// Makes `pods`. The first failure ends it; what is left is for the next pass.
    pub async fn create(
        &self,
        owner: &Key,
        about: &ObjectReference,
        pods: Vec<Pod>,
    ) -> Result<(), (ManageFailure, kube::Error)> {
        let api = self.api(owner);
        let mut pods = pods.into_iter().peekable();
        let mut batch = FIRST_BATCH;
        while pods.peek().is_some() {
            let work = pods.by_ref().take(batch).map(|pod| {
                let api = &api;
                async move { api.create(&PostParams::default(), &pod).await }
            });
            let mut failure = None;
            for result in join_all(work).await {
                match result {
                    Ok(pod) => {
                        self.tracker.made(owner, &pod.metadata, self.clock.monotonic());
                        let message = format!("Created pod: {}", meta::name(&pod.metadata));
                        self.recorder.event(about, EventType::Normal, "SuccessfulCreate", message);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(error) = failure {
                // In a namespace that goes away nothing can be made, and nobody has to hear of it.
                if !is_terminating(&error) {
                    let message = format!("Error creating: {}", api_message(&error));
                    self.recorder.event(about, EventType::Warning, "FailedCreate", message);
                }
                return Err((ManageFailure { reason: "FailedCreate", message: api_message(&error) }, error));
            }
            batch = (batch * 2).min(BATCH_MAX);
        }
        Ok(())
    }

    /// Deletes `pods`; those that are gone are as good as deleted.
    pub async fn delete(
        &self,
        owner: &Key,
        about: &ObjectReference,
        pods: &[std::sync::Arc<Pod>],
    ) -> Result<(), (ManageFailure, kube::Error)> {
        let api = self.api(owner);
        for batch in pods.chunks(BATCH_MAX) {
            let work = batch.iter().map(|pod| {
                let api = &api;
                async move {
                    let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
                    let how = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
                    (pod, api.delete(meta::name(&pod.metadata), &how).await)
                }
            });
            for (pod, result) in join_all(work).await {
                let name = meta::name(&pod.metadata);
                match result {
                    Ok(_) => {
                        self.tracker.deleted(owner, &pod.metadata, self.clock.monotonic());
                        let message = format!("Deleted pod: {name}");
                        self.recorder.event(about, EventType::Normal, "SuccessfulDelete", message);
                    }
                    Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => {}
                    Err(error) => {
                        let message = format!("Error deleting: {}", api_message(&error));
                        self.recorder.event(about, EventType::Warning, "FailedDelete", message);
                        return Err((ManageFailure { reason: "FailedDelete", message: api_message(&error) }, error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes metadata fields of a pod, if it is still the one that was seen. Gone is no failure.
    pub async fn patch_metadata(&self, pod: &Pod, mut fields: serde_json::Value) -> kube::Result<()> {
        fields["uid"] = json!(pod.metadata.uid);
        fields["resourceVersion"] = json!(pod.metadata.resource_version);
        let api = Api::<Pod>::namespaced(self.client.clone(), meta::namespace(&pod.metadata));
        let patch = Patch::Merge(json!({ "metadata": fields }));
        match api.patch(meta::name(&pod.metadata), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if client::is_not_found(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The API's own words where there are some.
pub fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether the API refused because the namespace is being deleted.
pub fn is_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("is being terminated"))
}
