//! Pods that nobody will ever clean up: on nodes that do not exist, deleted before they were placed, or ended long ago
//! and too many.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::{meta, pod};

/// Why a pod is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its node does not exist.
    Orphaned,
    /// It was deleted before it had a node, so no node agent will finish the deletion.
    Unplaced,
    /// It has ended, and there are more of its kind than are kept.
    Surplus,
}

/// A pod that cannot be left to itself, whatever else there is.
pub fn cause(pod: &Pod, node_exists: impl Fn(&str) -> bool) -> Option<Cause> {
    match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()) {
        Some(node) if !node_exists(node) => Some(Cause::Orphaned),
        None if meta::is_deleting(&pod.metadata) => Some(Cause::Unplaced),
        _ => None,
    }
}

/// The ended pods past `threshold`, oldest first.
pub fn surplus(pods: impl IntoIterator<Item = Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<Arc<Pod>> =
        pods.into_iter().filter(|pod| pod::is_finished(pod) && !meta::is_deleting(&pod.metadata)).collect();
    let surplus = ended.len().saturating_sub(threshold);
    ended.sort_by_cached_key(|pod| (meta::created(&pod.metadata), meta::name(&pod.metadata).to_owned()));
    ended.truncate(surplus);
    ended
}

/// The status with which a pod that did not end by itself is given up. `None`: it has ended.
pub fn failed(pod: &Pod, now: Timestamp) -> Option<Pod> {
    if pod::is_finished(pod) {
        return None;
    }
    let mut failed = pod.clone();
    let status = failed.status.get_or_insert_default();
    status.phase = Some("Failed".into());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("DeletionByPodGC".into()),
        message: Some("PodGC: node no longer exists".into()),
        last_transition_time: Some(meta::api_time(now)),
        ..PodCondition::default()
    });
    Some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn causes() {
        let check = |value: Value, expected: Option<Cause>| {
            assert_eq!(cause(&pod(value.clone()), |node| node == "here"), expected, "{value}");
        };
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        check(json!({"spec": {"nodeName": "here", "containers": []}}), None);
        check(json!({"spec": {"nodeName": "gone", "containers": []}}), Some(Cause::Orphaned));
        check(json!({"spec": {"containers": []}}), None);
        check(json!({"metadata": deleted, "spec": {"containers": []}}), Some(Cause::Unplaced));
        check(json!({"metadata": deleted, "spec": {"nodeName": "here", "containers": []}}), None);
    }

    #[test]
    fn the_oldest_surplus_goes() {
        let ended = |name: &str, day: u8| {
            pod(json!({
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")},
                "status": {"phase": "Failed"},
            }))
        };
        let gone = surplus([ended("b", 2), ended("a", 1), ended("c", 3)], 1);
        assert_eq!(gone.iter().map(|p| meta::name(&p.metadata)).collect::<Vec<_>>(), ["a", "b"]);
        assert!(surplus([ended("a", 1)], 1).is_empty());
    }

    #[test]
    fn a_lost_pod_fails_once() {
        let failed = failed(&pod(json!({"status": {"phase": "Running"}})), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(pod::phase(&failed), "Failed");
        assert_eq!(super::failed(&failed, Timestamp::UNIX_EPOCH), None);
    }
}
