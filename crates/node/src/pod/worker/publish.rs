//! Writes what is known of the pod: to the directory at once, to the API one write at a time, the newest wins.

use std::{collections::HashMap, sync::Arc};

use client::Api;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Done, Worker};
use crate::{
    context::Context,
    directory::{ContainerEntry, PodEntry},
    pod::{
        model::Record,
        status::{self, conditions::OWN},
    },
};

/// Pauses after a status that could not be written, from the first doubling to the last.
const RETRY_FIRST: SignedDuration = SignedDuration::from_millis(100);
const RETRY_LAST: SignedDuration = SignedDuration::from_secs(10);

impl Worker {
    /// Tells the machine whether the API has the newest status.
    pub(super) fn note_reported(&mut self, now: Timestamp) {
        let derived = self.derive(now);
        self.machine.model.reported = self.status.accepted.as_ref() == Some(&derived);
    }

    fn derive(&mut self, now: Timestamp) -> PodStatus {
        let derived = status::derive(&self.machine, self.status.derived.as_ref(), &self.context.host_ips, now);
        self.status.derived = Some(derived.clone());
        derived
    }

    pub(super) fn publish(&mut self, now: Timestamp) {
        let derived = self.derive(now);
        self.write_directory(&derived);
        if !self.status.counted_start && self.machine.model.records.iter().any(Record::running) {
            self.status.counted_start = true;
            let took = self.context.clock.monotonic().saturating_sub(self.seen_at);
            self.context.metrics.pod_start_seconds.observe(took.as_secs_f64());
        }
        let published = &mut self.status;
        let held = published.writing || published.retry_at.is_some_and(|at| at > now);
        if held || self.machine.model.removed || published.accepted.as_ref() == Some(&derived) {
            return;
        }
        published.writing = true;
        published.retry_at = None;
        let context = self.context.clone();
        let pod = self.machine.pod.clone();
        let accepted = published.accepted.clone();
        self.operations.push(
            async move {
                let written = write(&context, &pod, accepted.as_ref(), &derived).await;
                Done::Status { sent: Box::new(derived), written }
            }
            .boxed(),
        );
    }

    pub(super) fn status_written(&mut self, sent: PodStatus, written: bool, now: Timestamp) {
        let published = &mut self.status;
        published.writing = false;
        if written {
            published.accepted = Some(sent);
            published.failures = 0;
            published.retry_at = None;
            return;
        }
        let pause = RETRY_FIRST.checked_mul(1 << published.failures.min(10)).unwrap_or(RETRY_LAST).min(RETRY_LAST);
        published.failures = published.failures.saturating_add(1);
        published.retry_at = now.checked_add(pause).ok();
    }

    fn write_directory(&self, derived: &PodStatus) {
        let pod = &self.machine.pod;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let info = self.machine.model.info();
        let containers: HashMap<String, ContainerEntry> =
            self.machine.model.records.iter().map(|record| (record.name.clone(), entry(record))).collect();
        let mut shown = Pod::clone(pod);
        shown.status = Some(derived.clone());
        self.context.directory.set(PodEntry {
            uid: text(&pod.metadata.uid),
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            pod: Arc::new(shown),
            sandbox: info.map(|info| info.id.clone()),
            netns: info.and_then(|info| info.netns.clone()),
            containers,
        });
    }
}

fn entry(record: &Record) -> ContainerEntry {
    let current = record.current.as_ref();
    let waiting = match (&record.waiting, current) {
        (Some(waiting), _) => waiting.reason.clone(),
        (None, None) => "ContainerCreating".to_owned(),
        (None, Some(_)) => String::new(),
    };
    ContainerEntry {
        current: current.and_then(|instance| instance.id.clone()),
        previous: record.previous.as_ref().map(|(id, _)| id.clone()),
        running: record.running(),
        waiting,
        log_path: current.and_then(|instance| instance.log_path.clone()),
        previous_log_path: record.previous.as_ref().and_then(|(_, path)| path.clone()),
    }
}

/// What makes the status this one (a strategic merge patch). `before`: what was written last; `known`: what the API has, as far as
/// is known here.
fn patch(before: Option<&PodStatus>, known: Option<&PodStatus>, status: &PodStatus) -> Value {
    let value = |status: &PodStatus| serde_json::to_value(status).expect("a status has no keys but text");
    let (mut fields, before, known) = (value(status), before.map(value), known.map(value));
    // What was there before and is not any more has to be taken away by name.
    for key in before.iter().filter_map(Value::as_object).flat_map(|fields| fields.keys()) {
        if fields.get(key).is_none() {
            fields[key] = Value::Null;
        }
    }
    // Lists whose items are merged by their names: addresses that are not there any more would stay.
    for list in ["hostIPs", "podIPs"] {
        if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
            items.insert(0, json!({"$patch": "replace"}));
        }
    }
    // The conditions of others stay theirs. The node's own are always said: what is known of the API may be older than what was
    // written last. One that has come true loses what was said of it before.
    if let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) {
        let there = known.as_ref().and_then(|known| known["conditions"].as_array());
        let is_own = |condition: &Value| OWN.iter().any(|own| condition["type"] == *own);
        conditions.retain(|condition| is_own(condition) || there.is_none_or(|there| !there.contains(condition)));
        for condition in conditions {
            for said in ["reason", "message"] {
                if condition.get(said).is_none() {
                    condition[said] = Value::Null;
                }
            }
        }
    }
    fields
}

/// Writes the status. True also when there is nothing left to write to.
async fn write(context: &Context, pod: &Pod, accepted: Option<&PodStatus>, status: &PodStatus) -> bool {
    let meta = &pod.metadata;
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else { return true };
    let known = pod.status.as_ref();
    let patch = json!({ "metadata": { "uid": meta.uid }, "status": patch(accepted.or(known), known, status) });
    let api = Api::<Pod>::namespaced(context.client.clone(), namespace);
    match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => true,
        Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => {
            tracing::debug!(pod = name, %error, "status not written: the pod is another one by now");
            // Gone, or another pod of that name: its own worker reports.
            client::is_not_found(&error)
        }
        Err(error) => {
            tracing::warn!(pod = name, %error, "status could not be written and will be tried again");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_patch_takes_away_what_does_not_hold_any_more() {
        let unready = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "[web]"});
        let disrupted = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"});
        let scheduled = json!({"type": "PodScheduled", "status": "True"});
        let before = status(json!({"phase": "Pending", "message": "starting", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [unready, scheduled]}));
        let known = status(json!({"conditions": [unready, scheduled, disrupted]}));
        let now = status(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, scheduled, disrupted]}));
        let expected = json!({"phase": "Running", "message": null,
            "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]});
        assert_eq!(patch(Some(&before), Some(&known), &now), expected);
        // It is so again, and what the watch has told is from before.
        let was = status(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let again = status(json!({"conditions": [unready]}));
        assert_eq!(patch(Some(&was), Some(&again), &again), json!({"conditions": [unready]}));
        // Nobody has said anything yet.
        let fresh = patch(None, None, &status(json!({"conditions": [unready]})));
        assert_eq!(fresh, json!({"conditions": [unready]}));
    }
}
