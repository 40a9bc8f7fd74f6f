//! ReplicaSet: as many pods as asked for, no more and no fewer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{meta, pod, selector, template};

/// Pods created or deleted in one pass; the next pass goes on.
pub const BURST: usize = 500;

/// Whose pod is whose.
#[derive(Debug, Default)]
pub struct Claims {
    /// Pods that this set manages.
    pub owned: Vec<Arc<Pod>>,
    /// Pods without a manager that match the selector: to be adopted, and then owned.
    pub adopt: Vec<Arc<Pod>>,
    /// Managed pods that do not match any longer: to be let go.
    pub release: Vec<Arc<Pod>>,
}

/// What to do with the pods.
#[derive(Debug, Default)]
pub struct Plan {
    pub create: usize,
    /// The first to go first.
    pub delete: Vec<Arc<Pod>>,
}

/// Why pods could not be created or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManageFailure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    pub message: String,
}

/// Sorts `pods`, those of the set and those without a manager, by what the set has to do with them.
pub fn claim(set: &ReplicaSet, pods: impl IntoIterator<Item = Arc<Pod>>) -> Claims {
    let mut claims = Claims::default();
    let Some(spec) = &set.spec else { return claims };
    let deleting = meta::is_deleting(&set.metadata);
    for one in pods {
        let matches = selector::matches(&spec.selector, one.metadata.labels.as_ref());
        match meta::controller_of(&one.metadata) {
            Some(owner) if Some(&owner.uid) == set.metadata.uid.as_ref() => match matches {
                true => claims.owned.push(one),
                // A set on its way out lets nothing go: the garbage collector decides about its pods.
                false if deleting || meta::is_deleting(&one.metadata) => {}
                false => claims.release.push(one),
            },
            Some(_) => {}
            None if matches && !deleting && pod::is_active(&one) => claims.adopt.push(one),
            None => {}
        }
    }
    claims
}

/// What is missing or too much. `owned` are the set's pods; `related` counts on each node the active pods of all sets
/// with the same manager.
pub fn plan(set: &ReplicaSet, owned: &[Arc<Pod>], related: &HashMap<String, usize>, now: Timestamp) -> Plan {
    if meta::is_deleting(&set.metadata) {
        return Plan::default();
    }
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
    let wanted = wanted(set);
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let surplus = (active.len() - wanted).min(BURST);
    pod::rank_for_deletion(&mut active, |node| related.get(node).copied().unwrap_or(0), now);
    active.truncate(surplus);
    Plan { create: 0, delete: active }
}

fn wanted(set: &ReplicaSet) -> usize {
    usize::try_from(set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)).unwrap_or(0)
}

/// A new pod of the set.
pub fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    template::pod(&template, meta::namespace(&set.metadata), meta::controller_reference(set))
}

/// How many of the set's and its siblings' active pods are on each node.
pub fn pods_per_node<'a>(pods: impl IntoIterator<Item = &'a Arc<Pod>>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for pod in pods.into_iter().filter(|pod| pod::is_active(pod)) {
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
            *counts.entry(node).or_default() += 1;
        }
    }
    counts
}

/// The status that the set should show, and how long until that can change by time alone.
pub fn status(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<&ManageFailure>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels = spec.template.and_then(|t| t.metadata).and_then(|m| m.labels).unwrap_or_default();
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| pod::is_active(pod)).collect();
    let count = |keep: &dyn Fn(&Pod) -> bool| int(active.iter().filter(|pod| keep(pod)).count());
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: int(active.len()),
        fully_labeled_replicas: nonzero(count(&|pod| {
            selector::contains(&template_labels, pod.metadata.labels.as_ref())
        })),
        ready_replicas: nonzero(count(&pod::is_ready)),
        available_replicas: nonzero(count(&|pod| pod::is_available(pod, min_ready, now))),
        terminating_replicas: Some(int(owned.iter().filter(|pod| pod::is_terminating(pod)).count())),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions.unwrap_or_default(), failure, now),
    };
    let again = active.iter().filter_map(|pod| pod::available_in(pod, min_ready, now)).min();
    (status, again)
}

fn conditions(
    mut conditions: Vec<ReplicaSetCondition>,
    failure: Option<&ManageFailure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const KIND: &str = "ReplicaFailure";
    match (failure, conditions.iter().position(|condition| condition.type_ == KIND)) {
        (Some(failure), None) => conditions.push(ReplicaSetCondition {
            type_: KIND.into(),
            status: "True".into(),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(meta::api_time(now)),
        }),
        (None, Some(at)) => {
            conditions.remove(at);
        }
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether an adopted pod or set still matches what the adopter saw; the owner's own reference is added last.
pub fn with_owner(
    meta: &ObjectMeta,
    owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
) -> ObjectMeta {
    let mut changed = meta.clone();
    changed.owner_references.get_or_insert_default().push(owner);
    changed
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The API leaves out a count of zero.
fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "default", "uid": "rs", "generation": 4},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
            },
        }))
        .unwrap()
    }

    fn pod(name: &str, owner: Option<&str>, app: &str, more: Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": app},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:30Z"}]},
        });
        if let Some(uid) = owner {
            value["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": uid, "controller": true}]);
        }
        if more.get("deleting").is_some() {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:50Z".into();
        }
        if let Some(phase) = more.get("phase") {
            value["status"]["phase"] = phase.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| meta::name(&pod.metadata)).collect()
    }

    #[test]
    fn claims() {
        let claims = claim(
            &set(1),
            [
                pod("own", Some("rs"), "web", json!({})),
                pod("strayed", Some("rs"), "db", json!({})),
                pod("orphan", None, "web", json!({})),
                pod("orphan-done", None, "web", json!({"phase": "Failed"})),
                pod("other-orphan", None, "db", json!({})),
                pod("others", Some("x"), "web", json!({})),
            ],
        );
        assert_eq!(names(&claims.owned), ["own"]);
        assert_eq!(names(&claims.adopt), ["orphan"]);
        assert_eq!(names(&claims.release), ["strayed"]);
    }

    #[test]
    fn plans() {
        let check = |replicas, pods: &[Arc<Pod>], create, delete: usize| {
            let plan = plan(&set(replicas), pods, &HashMap::new(), now());
            assert_eq!((plan.create, plan.delete.len()), (create, delete), "{replicas} of {}", pods.len());
        };
        let running =
            |n: usize| -> Vec<_> { (0..n).map(|i| pod(&format!("p{i}"), Some("rs"), "web", json!({}))).collect() };
        check(3, &[], 3, 0);
        check(3, &running(3), 0, 0);
        check(3, &running(5), 0, 2);
        check(0, &running(5), 0, 5);
        check(900, &[], BURST, 0);
        // Neither what is going nor what has ended counts.
        check(1, &[pod("a", Some("rs"), "web", json!({"deleting": 1}))], 1, 0);
        check(1, &[pod("a", Some("rs"), "web", json!({"phase": "Failed"}))], 1, 0);
    }

    #[test]
    fn a_set_on_its_way_out_makes_no_pods() {
        let mut set = set(3);
        set.metadata.deletion_timestamp = Some(meta::api_time(now()));
        assert_eq!(plan(&set, &[], &HashMap::new(), now()).create, 0);
    }

    #[test]
    fn status_counts() {
        let pods = [pod("a", Some("rs"), "web", json!({})), pod("b", Some("rs"), "web", json!({"deleting": 1}))];
        let (status, again) = status(&set(2), &pods, None, now());
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (1, Some(1), Some(1)));
        assert_eq!((status.terminating_replicas, status.observed_generation, again), (Some(1), Some(4), None));
    }

    #[test]
    fn min_ready_seconds_asks_to_look_again() {
        let mut set = set(1);
        set.spec.as_mut().unwrap().min_ready_seconds = Some(40);
        let (status, again) = status(&set, &[pod("a", Some("rs"), "web", json!({}))], None, now());
        assert_eq!((status.available_replicas, again), (None, Some(Duration::from_secs(10))));
    }

    #[test]
    fn failure_becomes_a_condition_and_goes_again() {
        let failure = ManageFailure { reason: "FailedCreate", message: "no".into() };
        let mut set = set(1);
        let (with, _) = status(&set, &[], Some(&failure), now());
        assert_eq!(with.conditions.as_ref().unwrap()[0].reason.as_deref(), Some("FailedCreate"));
        set.status = Some(with);
        assert_eq!(status(&set, &[], None, now()).0.conditions, None);
    }
}
