//! From a pod and its events to what happened, in order. Pure, so that it can be shown with data.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Event, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use scheduler::why::{ANNOTATION, Attempt};
use serde::Serialize;

/// A pod's life so far.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    pub namespace: String,
    pub name: String,
    /// As `kubectl get pods` says it.
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub ready: bool,
    /// What it waits for, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    pub steps: Vec<Step>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub at: Timestamp,
    /// When it happened last, if it happened more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    pub count: i32,
    /// Who says so.
    pub who: String,
    pub what: String,
    pub detail: String,
    pub warning: bool,
    /// What the scheduler thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Most times are in seconds; of what happens in the same, this comes first.
    #[serde(skip)]
    order: u8,
    /// Of an event: of those of one moment, that comes first which was written first, or last if it was repeated.
    #[serde(skip)]
    version: u64,
}

impl Timeline {
    pub fn of(pod: &Pod, events: &[Event]) -> Self {
        let (metadata, status) = (&pod.metadata, pod.status.clone().unwrap_or_default());
        let mut steps = vec![created(pod)];
        steps.extend(events.iter().filter_map(event));
        steps.extend(conditions(&status, steps.iter().any(|step| step.what == "Scheduled")));
        steps.extend(containers(&status));
        if let Some(Time(at)) = &metadata.deletion_timestamp {
            let grace = metadata.deletion_grace_period_seconds.unwrap_or_default();
            // The object says when the grace is over.
            let asked = at.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(*at);
            steps.push(Step::new(asked, "API", "Deleting", format!("{grace} s of grace"), 9));
        }
        steps.sort_by_key(|step| (step.at.as_second(), step.order, step.at, step.version));
        let ready = condition(&status, "Ready").is_some_and(|(status, _)| status == "True");
        Timeline {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            phase: status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ready,
            waits_for: waits_for(pod, &status),
            steps,
        }
    }
}

impl Step {
    fn new(at: Timestamp, who: &str, what: &str, detail: impl Into<String>, order: u8) -> Self {
        let (who, what, detail) = (who.to_owned(), what.to_owned(), detail.into());
        Step { at, last: None, count: 1, who, what, detail, warning: false, attempt: None, order, version: 0 }
    }
}

fn created(pod: &Pod) -> Step {
    let metadata = &pod.metadata;
    let at = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let detail = owner.map_or_else(String::new, |owner| format!("for {} {}", owner.kind, owner.name));
    Step::new(at, "API", "Created", detail, 0)
}

fn event(event: &Event) -> Option<Step> {
    let time = |time: &Time| time.0;
    let series = event.series.as_ref();
    let at = event.first_timestamp.as_ref().map(time).or_else(|| event.event_time.as_ref().map(|time| time.0))?;
    let last = series.and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
    let last = last.or_else(|| event.last_timestamp.as_ref().map(time)).filter(|last| *last > at);
    let count = series.and_then(|series| series.count).or(event.count).unwrap_or(1);
    let component = event.source.as_ref().and_then(|source| source.component.as_deref());
    let who = component.or(event.reporting_component.as_deref()).unwrap_or_default();
    let what = event.reason.as_deref().unwrap_or_default();
    let order = match what {
        "FailedScheduling" => 1,
        "Scheduled" => 2,
        _ => 3,
    };
    let version = event.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    let annotation = event.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
    Some(Step {
        last,
        count,
        warning: event.type_.as_deref() == Some("Warning"),
        // Somebody else's annotation of that name is nobody's attempt.
        attempt: annotation.and_then(|text| serde_json::from_str(text).ok()),
        version: version.unwrap_or(0),
        ..Step::new(at, who, what, event.message.as_deref().unwrap_or_default(), order)
    })
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<(&'a str, &'a str)> {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == name)?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

/// What has come true. Binding is told by its event, as long as that is kept.
fn conditions(status: &PodStatus, scheduled: bool) -> Vec<Step> {
    let true_ones = status.conditions.iter().flatten().filter(|condition| condition.status == "True");
    let told = true_ones.filter(|condition| !(scheduled && condition.type_ == "PodScheduled"));
    let step = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        let order = match condition.type_.as_str() {
            "PodScheduled" => 2,
            "Initialized" => 4,
            "ContainersReady" => 6,
            "Ready" => 7,
            _ => 5,
        };
        let at = condition.last_transition_time.as_ref()?.0;
        Some(Step::new(at, "condition", &condition.type_, condition.message.clone().unwrap_or_default(), order))
    };
    told.filter_map(step).collect()
}

fn containers(status: &PodStatus) -> Vec<Step> {
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.flat_map(container).collect()
}

fn container(status: &ContainerStatus) -> Vec<Step> {
    let (name, mut steps) = (&status.name, Vec::new());
    let ended = |state: &k8s_openapi::api::core::v1::ContainerStateTerminated| {
        let reason = state.reason.as_deref().unwrap_or("ended");
        let detail = format!("container {name}: {reason}, exit code {}", state.exit_code);
        let warning = state.exit_code != 0;
        Some(Step { warning, ..Step::new(state.finished_at.as_ref()?.0, "container", "Ended", detail, 8) })
    };
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    steps.extend(before.and_then(ended));
    if let Some(state) = &status.state {
        if let Some(Time(at)) = state.running.as_ref().and_then(|running| running.started_at.as_ref()) {
            let detail = format!("container {name}, restarts: {}", status.restart_count);
            steps.push(Step::new(*at, "container", "Running", detail, 5));
        }
        steps.extend(state.terminated.as_ref().and_then(ended));
    }
    steps
}

fn waits_for(pod: &Pod, status: &PodStatus) -> Option<String> {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).filter(|gates| !gates.is_empty());
    if let Some(gates) = gates {
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        return Some(format!("its scheduling gates to be removed: {}", names.join(", ")));
    }
    if let Some(("False", message)) = condition(status, "PodScheduled") {
        return Some(format!("a node: {message}"));
    }
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waiting = all.filter_map(|container| {
        let state = container.state.as_ref()?.waiting.as_ref()?;
        let (reason, message) = (state.reason.as_deref().unwrap_or("waiting"), state.message.as_deref());
        let message = message.map_or_else(String::new, |message| format!(" ({message})"));
        Some(format!("container {}: {reason}{message}", container.name))
    });
    let waiting: Vec<String> = waiting.collect();
    (!waiting.is_empty()).then(|| waiting.join("; "))
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub fn timeline(pod: Value, events: Value) -> Timeline {
        Timeline::of(&serde_json::from_value(pod).unwrap(), &serde_json::from_value::<Vec<Event>>(events).unwrap())
    }

    pub fn bound() -> Timeline {
        let attempt = json!({"attempt": 2, "nodes": 3, "feasible": 2, "waitedUs": 1_204_000, "decidedUs": 7,
            "boundUs": 1_900, "rejected": [{"plugin": "TaintToleration", "nodes": 1, "reason": "node(s) had taints"}],
            "scores": [{"node": "n1", "score": 190, "plugins": {"NodeResourcesFit": 90, "TaintToleration": 100}},
                {"node": "n2", "score": 150, "plugins": {"NodeResourcesFit": 50, "TaintToleration": 100}}]});
        let event = |reason: &str, first: &str, last: &str, count: i32, annotation: Option<&Value>| {
            json!({"metadata": {"name": reason, "annotations": annotation.map(|a| json!({ANNOTATION: a.to_string()}))},
                "involvedObject": {}, "reason": reason, "message": format!("{reason} it was"), "count": count,
                "type": if reason.starts_with("Failed") { "Warning" } else { "Normal" },
                "source": {"component": "default-scheduler"}, "firstTimestamp": first, "lastTimestamp": last})
        };
        let condition = |name: &str, at: &str| json!({"type": name, "status": "True", "lastTransitionTime": at});
        timeline(
            json!({
                "metadata": {"name": "p", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z",
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u",
                        "controller": true}]},
                "spec": {"nodeName": "n1", "containers": []},
                "status": {"phase": "Running",
                    "conditions": [condition("Ready", "2026-01-01T00:00:11Z"),
                        condition("PodScheduled", "2026-01-01T00:00:09Z")],
                    "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                        "state": {"running": {"startedAt": "2026-01-01T00:00:11Z"}}}]},
            }),
            json!([
                event("Scheduled", "2026-01-01T00:00:09Z", "2026-01-01T00:00:09Z", 1, Some(&attempt)),
                event("FailedScheduling", "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z", 3, None),
            ]),
        )
    }

    #[test]
    fn what_happened_is_told_in_order() {
        let timeline = bound();
        let steps: Vec<String> =
            timeline.steps.iter().map(|step| format!("{} {} x{}", step.at, step.what, step.count)).collect();
        assert_eq!(
            steps,
            [
                "2026-01-01T00:00:00Z Created x1",
                "2026-01-01T00:00:00Z FailedScheduling x3",
                "2026-01-01T00:00:09Z Scheduled x1",
                "2026-01-01T00:00:11Z Running x1",
                "2026-01-01T00:00:11Z Ready x1",
            ]
        );
        assert_eq!(timeline.steps[0].detail, "for ReplicaSet web");
        assert_eq!(timeline.steps[2].attempt.as_ref().unwrap().scores[1].node, "n2");
        assert!(timeline.ready && timeline.waits_for.is_none());
    }

    #[test]
    fn events_of_one_second_are_told_as_they_were_written() {
        let event = |reason: &str, version: &str| {
            json!({"metadata": {"resourceVersion": version}, "involvedObject": {}, "reason": reason,
                "firstTimestamp": "2026-01-01T00:00:00Z"})
        };
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:00:31Z", "deletionGracePeriodSeconds": 30}});
        let told = timeline(pod, json!([event("Created", "63"), event("Started", "103"), event("Pulled", "61")]));
        let steps: Vec<&str> = told.steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(steps, ["Created", "Pulled", "Created", "Started", "Deleting"], "the first is the pod's own");
        assert_eq!(told.steps[4].at.to_string(), "2026-01-01T00:00:01Z", "when it was asked for");
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let check = |spec: Value, status: Value, expected: Option<&str>| {
            let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
            assert_eq!(timeline(pod, json!([])).waits_for.as_deref(), expected);
        };
        let gates = json!({"containers": [], "schedulingGates": [{"name": "a/b"}]});
        check(gates, json!({}), Some("its scheduling gates to be removed: a/b"));
        let unfit = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
        check(json!({"containers": []}), unfit, Some("a node: 0/1 nodes"));
        let waiting = json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]});
        check(json!({"containers": []}), waiting, Some("container c: ImagePullBackOff (no)"));
        check(json!({"containers": []}), json!({}), None);
    }
}
