//! What the scheduler writes: bindings, the pods' conditions, evictions, events.

mod binding;
mod claims;
mod writes;

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{Client, EventType, Recorder, is_not_found};
use http::{Request, header::CONTENT_TYPE, request};
use k8s_openapi::api::core::v1::ObjectReference;
use runtime::Clock;
use sched::{
    Binder, Pod, Reservation,
    pre_bind::{Request as PluginRequest, Verb},
    preempt::Victims,
};
use serde_json::{Value, json};
pub(crate) use writes::Unwritten;

use crate::{
    extenders::Extenders,
    metrics::MadeClaims,
    plugins::PodEvent,
    why::{self, Attempt, Times},
};

/// The longest note that an event may carry; a longer one ends in an ellipsis.
const MAX_NOTE_BYTES: usize = 1024;
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

pub(crate) struct Api {
    pub client: Client,
    pub recorders: Recorders,
    pub clock: Clock,
    pub extenders: Extenders,
    pub made_claims: MadeClaims,
}

/// One for each profile, which goes by the name that pods know.
pub(crate) struct Recorders {
    pub first: Recorder,
    pub others: HashMap<Arc<str>, Recorder>,
}

impl Recorders {
    /// That of the profile that a pod names.
    fn of(&self, pod: &Pod) -> &Recorder {
        self.others.get(&pod.spec.scheduler_name).unwrap_or(&self.first)
    }
}

/// What becomes of a pod's status.nominatedNodeName.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nomination {
    Keep,
    Clear,
    Set(Arc<str>),
}

impl Nomination {
    /// Of a pod that has been found no node.
    pub fn cleared(pod: &Pod) -> Self {
        if pod.nominated.is_some() { Nomination::Clear } else { Nomination::Keep }
    }
}

/// Why a pod was not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// Its owner is to know.
    Refused(String),
    /// There is no such pod to bind any more; nobody need be told.
    Lost(String),
    /// Somebody else has bound it, to another node.
    Elsewhere(String),
}

/// What a pod that waits is told.
pub(crate) struct Report {
    pub why: Why,
    pub message: String,
    /// None: none was made.
    pub attempt: Option<Attempt>,
    pub nomination: Nomination,
}

/// Why a pod waits, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// No node takes it.
    Unschedulable,
    /// Something went wrong that is no fault of the pod's.
    Error,
    /// It is not looked at yet (KEP-5501). Whoever adds nodes for pods that find none need not for this one.
    KeptOut,
}

impl Why {
    fn reason(self) -> &'static str {
        match self {
            Why::Unschedulable => "Unschedulable",
            Why::Error => "SchedulerError",
            Why::KeptOut => "NotReadyForScheduling",
        }
    }
}

impl Api {
    /// Binds the pod to its node as its plugin does, or has the extender do it that does; ends when it is known what came of it. The event is
    /// recorded here, so that it never comes before the binding.
    pub async fn bind(
        &self,
        reservation: &Reservation,
        binder: Option<&Binder>,
        times: Times,
        decided_at: Duration,
    ) -> Result<(), Unbound> {
        let pod = &reservation.pod;
        let bound = match self.extenders.bind(reservation).await {
            // Its answer can be lost as any other.
            Some(Err(_)) if self.is_bound(reservation).await => Ok(()),
            Some(answer) => answer.map_err(Unbound::Refused),
            None => self.write_binding(reservation, binder).await,
        };
        bound.inspect(|()| {
            let text = format!("Successfully assigned {}/{} to {}", pod.namespace, pod.name, reservation.node);
            let took = self.clock.monotonic().saturating_sub(decided_at);
            let why = Attempt::placed(&reservation.why, times, took).json();
            let annotation = Some((why::ANNOTATION, why));
            self.recorders.of(pod).annotated_event(&reference(pod), EventType::Normal, "Scheduled", text, annotation);
        })
    }

    /// Tells the pod's owner why it waits: as an event each time, and as a condition when it has changed.
    pub async fn report(&self, pod: &Pod, report: Report) -> kube::Result<()> {
        let Report { why, message, attempt, nomination } = report;
        let (text, recorder) = (truncated(&message), self.recorders.of(pod));
        let annotations = attempt.map(|attempt| (why::ANNOTATION, attempt.json()));
        recorder.annotated_event(&reference(pod), EventType::Warning, "FailedScheduling", text, annotations);
        let mut status = json!({});
        if pod.told.as_deref() != Some(&*message) {
            status["conditions"] = json!([self.condition(pod, why, &message)]);
        }
        match nomination {
            Nomination::Keep => {}
            Nomination::Clear => status["nominatedNodeName"] = Value::Null,
            Nomination::Set(node) => status["nominatedNodeName"] = json!(&*node),
        }
        if status == json!({}) {
            return Ok(());
        }
        self.patch_status(pod, status).await
    }

    /// Evicts victims, and tells those that had been promised the node that they are not any more.
    pub async fn evict(&self, preemptor: &Pod, victims: &Victims) -> kube::Result<()> {
        for displaced in &victims.displaced {
            ignore_absent(self.patch_status(displaced, json!({"nominatedNodeName": null})).await)?;
        }
        for victim in victims.pods.iter().filter(|victim| !victim.deleting) {
            let message = format!("{}: preempting to accommodate a higher priority pod", preemptor.spec.scheduler_name);
            let mut condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": message,
                "lastTransitionTime": self.now(),
            });
            if let Some(generation) = victim.generation {
                condition["observedGeneration"] = generation.into();
            }
            ignore_absent(self.patch_status(victim, json!({"conditions": [condition]})).await)?;
            let options = json!({"preconditions": {"uid": &*victim.uid}});
            ignore_absent(self.send(Request::delete(path(victim)), JSON, &options).await)?;
            let text = format!("Preempted by pod {} on node {}", preemptor.uid, victims.node);
            self.recorders.of(preemptor).event(&reference(victim), EventType::Normal, "Preempted", text);
        }
        Ok(())
    }

    /// Tells which node a pod is about to be bound to.
    pub async fn announce(&self, pod: &Pod, node: &str) -> kube::Result<()> {
        ignore_absent(self.patch_status(pod, json!({"nominatedNodeName": node})).await)
    }

    /// Records that a pod has lost its node before it was bound there.
    pub fn recalled(&self, victim: &Pod, preemptor: &Pod, node: &str) {
        let text = format!("Preempted by pod {} on node {node} (in kube-scheduler memory).", preemptor.uid);
        self.recorders.of(preemptor).event(&reference(victim), EventType::Normal, "Preempted", text);
    }

    async fn patch_status(&self, pod: &Pod, status: Value) -> kube::Result<()> {
        let patch = json!({"metadata": {"uid": &*pod.uid}, "status": status});
        self.send(Request::patch(format!("{}/status", path(pod))), STRATEGIC_PATCH, &patch).await
    }

    /// Makes a plugin's own write.
    async fn request(&self, PluginRequest { verb, path, body }: &PluginRequest) -> kube::Result<()> {
        let (request, content) = match verb {
            Verb::Create => (Request::post(path), JSON),
            Verb::Update => (Request::put(path), JSON),
            Verb::Patch => (Request::patch(path), MERGE_PATCH),
            Verb::StrategicPatch => (Request::patch(path), STRATEGIC_PATCH),
            Verb::Delete => (Request::delete(path), JSON),
        };
        self.send_text(request, content, body.clone()).await
    }

    async fn send(&self, request: request::Builder, content: &str, body: &Value) -> kube::Result<()> {
        self.send_text(request, content, body.to_string()).await
    }

    /// Writes, and does not look at what the API answers to a success: that comes by watch.
    async fn send_text(&self, request: request::Builder, content: &str, body: String) -> kube::Result<()> {
        let request = request.header(CONTENT_TYPE, content).body(body.into_bytes());
        self.client.request_text(request.map_err(kube::Error::HttpError)?).await.map(drop)
    }

    /// Records how far a pod is.
    pub fn tell(&self, pod: &Pod, reason: &str, note: &str) {
        self.recorders.of(pod).event(&reference(pod), EventType::Normal, reason, truncated(note));
    }

    /// Records what a plugin has to say about a pod.
    pub fn told(&self, event: &PodEvent) {
        let kind = if event.warning { EventType::Warning } else { EventType::Normal };
        let about = reference_to(&event.namespace, &event.name, &event.uid);
        self.recorders.first.event(&about, kind, &event.reason, truncated(&event.note));
    }

    fn now(&self) -> String {
        self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The condition `PodScheduled` to write.
    fn condition(&self, pod: &Pod, why: Why, message: &str) -> Value {
        let mut condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": why.reason(),
            "message": message,
            "lastProbeTime": null,
        });
        // The time is that of the status, not of its reason.
        if pod.told.is_none() {
            condition["lastTransitionTime"] = self.now().into();
        }
        if let Some(generation) = pod.generation {
            condition["observedGeneration"] = generation.into();
        }
        condition
    }
}

/// Whoever is gone need not be told or evicted.
fn ignore_absent(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other,
    }
}

fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name)
}

fn reference(pod: &Pod) -> ObjectReference {
    reference_to(&pod.namespace, &pod.name, &pod.uid)
}

fn reference_to(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
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
