//! What a pod's status says to its controllers.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::meta;

/// How much sooner a pod may go than its siblings; smaller goes first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether all containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts as one that runs or will run.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !meta::is_deleting(&pod.metadata)
}

/// Whether the pod is on its way out but not gone.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && meta::is_deleting(&pod.metadata)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds <= 0
            || ready_since(pod).is_some_and(|since| available_at(since, min_ready_seconds) <= now))
}

/// How long until a pod that is ready becomes available; nothing if it is available or not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    meta::until(now, available_at(ready_since(pod)?, min_ready_seconds))
}

fn available_at(since: Timestamp, min_ready_seconds: i32) -> Timestamp {
    meta::after(since, meta::seconds(min_ready_seconds.into()))
}

pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The order in which pods of a set are given up, first to go first, by the field's own rules: unassigned, then
/// pending, then not ready, then the cheaper to delete, then those that share their node with more of the set's pods,
/// then the more recently ready, then the more often restarted, then the newer.
pub fn rank_for_deletion(pods: &mut [Arc<Pod>], on_node: impl Fn(&str) -> usize, now: Timestamp) {
    pods.sort_by_cached_key(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let phase = match phase(pod) {
            "Pending" | "" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i32 = meta::annotation(&pod.metadata, DELETION_COST).and_then(|text| text.parse().ok()).unwrap_or(0);
        let ready = is_ready(pod);
        // Ages are compared by their order of magnitude, so that a few seconds do not decide over all else.
        let ready_age = if ready { magnitude(now, ready_since(pod).unwrap_or(Timestamp::UNIX_EPOCH)) } else { 0 };
        (
            !node.is_empty(),
            phase,
            ready,
            cost,
            std::cmp::Reverse(if node.is_empty() { 0 } else { on_node(node) }),
            ready_age,
            std::cmp::Reverse(restarts(pod)),
            magnitude(now, meta::created(&pod.metadata)),
            meta::uid(&pod.metadata).to_owned(),
        )
    });
}

fn magnitude(now: Timestamp, then: Timestamp) -> u32 {
    let seconds = now.duration_since(then).as_secs().max(0).unsigned_abs();
    u64::BITS - seconds.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, ready: bool, extra: serde_json::Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": []},
            "status": {"phase": phase},
        });
        if !node.is_empty() {
            value["spec"]["nodeName"] = node.into();
        }
        if ready {
            value["status"]["conditions"] =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}]);
        }
        if let Some(annotations) = extra.get("annotations") {
            value["metadata"]["annotations"] = annotations.clone();
        }
        if let Some(created) = extra.get("created") {
            value["metadata"]["creationTimestamp"] = created.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn first_to_go_first() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let mut pods = vec![
            pod("old-ready", "a", "Running", true, json!({})),
            pod("new-ready", "a", "Running", true, json!({"created": "2026-01-01T00:59:00Z"})),
            pod("cheap", "a", "Running", true, json!({"annotations": {DELETION_COST: "-5"}})),
            pod("crowded", "b", "Running", true, json!({})),
            pod("not-ready", "a", "Running", false, json!({})),
            pod("pending", "a", "Pending", false, json!({})),
            pod("unassigned", "", "Pending", false, json!({})),
        ];
        rank_for_deletion(&mut pods, |node| if node == "b" { 3 } else { 1 }, now);
        let names: Vec<&str> = pods.iter().map(|pod| meta::name(&pod.metadata)).collect();
        assert_eq!(names, ["unassigned", "pending", "not-ready", "cheap", "crowded", "new-ready", "old-ready"]);
    }

    #[test]
    fn available_after_min_ready_seconds() {
        let pod = pod("a", "n", "Running", true, json!({}));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(is_available(&pod, 0, at("2026-01-01T00:00:01Z")));
        assert!(!is_available(&pod, 10, at("2026-01-01T00:00:10Z")));
        assert_eq!(available_in(&pod, 10, at("2026-01-01T00:00:10Z")), Some(Duration::from_secs(1)));
        assert!(is_available(&pod, 10, at("2026-01-01T00:00:11Z")));
        assert_eq!(available_in(&pod, 10, at("2026-01-01T00:00:11Z")), None);
    }
}
