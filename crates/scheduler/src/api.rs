//! What the scheduler writes: bindings, the pods' conditions, events.

use std::sync::Arc;

use client::{Client, EventType, Informer, Key, Recorder};
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod as ApiPod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status},
};
use kube::{
    Api as KubeApi,
    api::{Patch, PatchParams, PostParams},
};
use runtime::Clock;
use sched::{Pod, Reservation};

/// The longest note that an event may carry; a longer one ends in an ellipsis.
const MAX_NOTE_BYTES: usize = 1024;

#[derive(Clone)]
pub(crate) struct Api {
    pub client: Client,
    pub pods: Informer<ApiPod>,
    pub recorder: Recorder,
    pub clock: Clock,
}

impl Api {
    /// Binds the pod to its node. The event is recorded here, so that it never comes before the binding.
    pub async fn bind(&self, reservation: &Reservation) -> kube::Result<()> {
        let pod = &reservation.pod;
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name.to_string()),
                namespace: Some(pod.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..Default::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(reservation.node.to_string()),
                ..Default::default()
            },
        };
        let api = KubeApi::<ApiPod>::namespaced(self.client.clone(), &pod.namespace);
        match api.create_subresource::<_, Status>("binding", &pod.name, &PostParams::default(), &binding).await {
            Ok(_) => {
                let text = format!("Successfully assigned {}/{} to {}", pod.namespace, pod.name, reservation.node);
                self.recorder.event(&reference(pod), EventType::Normal, "Scheduled", text);
                Ok(())
            }
            Err(error) => {
                if self.still_waits(pod) {
                    let text = format!("running Bind plugin \"DefaultBinder\": {error}");
                    self.failed(pod, &text);
                }
                Err(error)
            }
        }
    }

    /// Tells the pod's owner why it waits: as an event each time, and as a condition when it has changed.
    pub async fn report(&self, pod: &Pod, message: &str) -> kube::Result<()> {
        self.failed(pod, message);
        let Some(current) = self.current(pod) else { return Ok(()) };
        let Some(condition) = self.condition(&current, message) else { return Ok(()) };
        let patch = serde_json::json!({"metadata": {"uid": &*pod.uid}, "status": {"conditions": [condition]}});
        let api = KubeApi::<ApiPod>::namespaced(self.client.clone(), &pod.namespace);
        api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        Ok(())
    }

    /// Records that the pod could not be placed.
    pub fn failed(&self, pod: &Pod, message: &str) {
        self.recorder.event(&reference(pod), EventType::Warning, "FailedScheduling", truncated(message));
    }

    fn current(&self, pod: &Pod) -> Option<Arc<ApiPod>> {
        let current = self.pods.get(&Key::new(&*pod.namespace, &*pod.name))?;
        (current.metadata.uid.as_deref() == Some(&*pod.uid)).then_some(current)
    }

    fn still_waits(&self, pod: &Pod) -> bool {
        let node = |pod: Arc<ApiPod>| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        self.current(pod).is_some_and(|current| node(current).is_empty())
    }

    /// The condition `PodScheduled` to write, unless the pod says so already.
    fn condition(&self, current: &ApiPod, message: &str) -> Option<serde_json::Value> {
        let known = current.status.as_ref().and_then(|status| status.conditions.as_ref());
        let known = known.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let same = |known: &PodCondition| {
            known.status == "False"
                && known.reason.as_deref() == Some("Unschedulable")
                && known.message.as_deref() == Some(message)
        };
        if known.is_some_and(same) {
            return None;
        }
        let mut condition = serde_json::json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": null,
        });
        // The time is that of the status, not of its reason.
        if known.is_none_or(|known| known.status != "False") {
            let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            condition["lastTransitionTime"] = now.into();
        }
        if let Some(generation) = current.metadata.generation {
            condition["observedGeneration"] = generation.into();
        }
        Some(condition)
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name.to_string()),
        namespace: Some(pod.namespace.to_string()),
        uid: Some(pod.uid.to_string()),
        ..Default::default()
    }
}

fn truncated(message: &str) -> String {
    const SUFFIX: &str = " ...";
    if message.len() <= MAX_NOTE_BYTES {
        return message.to_owned();
    }
    let mut end = MAX_NOTE_BYTES - SUFFIX.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{SUFFIX}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let check = |message: &str, expected_len: usize| {
            let note = truncated(message);
            assert_eq!(note.len(), expected_len);
            assert_eq!(note.ends_with(" ..."), message.len() > MAX_NOTE_BYTES);
        };
        check("short", 5);
        check(&"x".repeat(1024), 1024);
        check(&"x".repeat(1025), 1024);
        check(&"ä".repeat(600), 1024);
        check(&format!("x{}", "ä".repeat(600)), 1023);
    }
}
