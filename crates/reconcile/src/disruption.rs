//! PodDisruptionBudgets: how many of their pods are healthy, how many have to be, and so how many may be disrupted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodCondition},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, LabelSelector, OwnerReference, Time},
        util::intstr::IntOrString,
    },
};

use crate::{
    Notice,
    intstr::{Round, scaled},
    meta, pod, selector, sooner,
};

/// A pod whose eviction was agreed to, or that was marked to be disrupted, is expected to be deleted within this.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(2 * 60);

const ALLOWED: &str = "DisruptionAllowed";
const TARGET: &str = "DisruptionTarget";

/// How many pods each managing owner wants, by its UID, as far as it is known: of the owners that [`managers`] names.
/// Owners may share what they want (a Deployment's sets): `counted` says under which UID it is counted once.
pub type Scales = HashMap<String, Scale>;

/// What is known of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// It, or who manages it, wants so many.
    Wants { counted: String, replicas: i32 },
    /// There is no such owner.
    Absent,
    /// That cannot be told of its kind.
    Unknown(String),
}

/// What is to be done about a budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Todo {
    /// Its new status, if that is another.
    pub status: Option<PodDisruptionBudgetStatus>,
    pub notices: Vec<Notice>,
    /// Pods that were to be deleted and were not.
    pub overdue: Vec<Arc<Pod>>,
    pub again: Option<Duration>,
}

/// What is wanted of a budget's pods.
#[derive(Default)]
struct Expected {
    pods: i32,
    healthy: i32,
    /// Whether some of the pods have nobody who says how many there are to be.
    unmanaged: bool,
}

/// Whether a budget is about a pod.
pub fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selector::matches(selector, pod.metadata.labels.as_ref()))
}

/// The owners of whom it matters how many pods they want, each once; none where the budget says a number itself.
pub fn managers<'p>(budget: &PodDisruptionBudget, pods: &'p [Arc<Pod>]) -> Vec<&'p OwnerReference> {
    let spec = budget.spec.clone().unwrap_or_default();
    let relative = spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)));
    let mut seen = HashSet::new();
    let owners = pods.iter().filter(|_| relative).filter_map(|pod| meta::controller_of(&pod.metadata));
    owners.filter(|owner| seen.insert(&owner.uid)).collect()
}

/// Decides about a budget and the pods that it covers.
pub fn for_budget(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scales: &Scales, now: Timestamp) -> Todo {
    let mut todo = Todo::default();
    if pods.is_empty() {
        todo.notices.push(Notice::normal("NoPods", "No matching pods found"));
    }
    let old = budget.status.clone().unwrap_or_default();
    let status = match expected(budget, pods, scales) {
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            todo.notices.push(Notice::warning("CalculateExpectedPodCountFailed", message));
            let generation = old.observed_generation;
            let mut status = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..old.clone() };
            set_condition(&mut status, "False", "SyncFailed", &why, generation, now);
            status
        }
        Ok(expected) => {
            if expected.unmanaged {
                todo.notices.push(unmanaged(budget));
            }
            let disrupted = disrupted(&old, pods, now, &mut todo);
            status(budget, pods, &expected, disrupted, now)
        }
    };
    todo.status = (status != old).then_some(status);
    todo
}

fn unmanaged(budget: &PodDisruptionBudget) -> Notice {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.map_or("<nil>".to_owned(), selector_text);
    Notice::warning(
        "UnmanagedPods",
        format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
        ),
    )
}

/// A selector as Go prints it, which is how kube-controller-manager's events have it.
fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    });
    let (labels, expressions): (String, String) = (labels.collect(), expressions.collect());
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn expected(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scales: &Scales) -> Result<Expected, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let (pods, unmanaged) = wanted(pods, scales)?;
            let healthy = pods.saturating_sub(scaled(most, pods, Round::Up)).max(0);
            Ok(Expected { pods, healthy, unmanaged })
        }
        (None, Some(IntOrString::Int(least))) => {
            Ok(Expected { pods: number(pods.len()), healthy: *least, unmanaged: false })
        }
        (None, Some(least)) => {
            let (pods, unmanaged) = wanted(pods, scales)?;
            Ok(Expected { pods, healthy: scaled(least, pods, Round::Up), unmanaged })
        }
        (None, None) => Ok(Expected::default()),
    }
}

/// How many pods all owners together want, and whether there are pods without one.
fn wanted(pods: &[Arc<Pod>], scales: &Scales) -> Result<(i32, bool), String> {
    let (mut counted, mut unmanaged) = (BTreeMap::new(), false);
    for pod in pods {
        let Some(owner) = meta::controller_of(&pod.metadata) else {
            unmanaged = true;
            continue;
        };
        match scales.get(&owner.uid) {
            Some(Scale::Wants { counted: uid, replicas }) => {
                counted.insert(uid, *replicas);
            }
            Some(Scale::Unknown(why)) => return Err(why.clone()),
            Some(Scale::Absent) | None => {
                return Err(format!("found no controllers for pod {:?}", meta::name(&pod.metadata)));
            }
        }
    }
    Ok((counted.into_values().fold(0, i32::saturating_add), unmanaged))
}

/// The pods whose eviction was agreed to and that are still to be deleted.
fn disrupted(
    old: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
    todo: &mut Todo,
) -> BTreeMap<String, Time> {
    let mut kept = BTreeMap::new();
    let Some(agreed) = &old.disrupted_pods else { return kept };
    for pod in pods.iter().filter(|pod| !meta::is_deleting(&pod.metadata)) {
        let name = meta::name(&pod.metadata);
        let Some(since) = agreed.get(name) else { continue };
        let due = meta::after(since.0, DELETION_TIMEOUT);
        if due < now {
            todo.overdue.push(pod.clone());
        } else {
            todo.again = sooner(todo.again, Some(meta::until(now, due).unwrap_or_default()));
            kept.insert(name.to_owned(), since.clone());
        }
    }
    kept
}

/// What is told of a pod that was to be deleted and was not.
pub fn not_deleted(budget: &PodDisruptionBudget) -> Notice {
    let (namespace, name) = (meta::namespace(&budget.metadata), meta::name(&budget.metadata));
    Notice::warning("NotDeleted", format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't"))
}

fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &Expected,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let healthy = pods.iter().filter(|pod| {
        !meta::is_deleting(&pod.metadata) && !disrupted.contains_key(meta::name(&pod.metadata)) && pod::is_ready(pod)
    });
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    // A budget without pods allows nothing: its first pods may appear before this is looked at again.
    let allowed = if expected.pods <= 0 { 0 } else { healthy.saturating_sub(expected.healthy).max(0) };
    let generation = budget.metadata.generation;
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: generation,
        conditions: old.conditions,
    };
    match allowed {
        0 => set_condition(&mut status, "False", "InsufficientPods", "", generation, now),
        _ => set_condition(&mut status, "True", "SufficientPods", "", generation, now),
    }
    status
}

/// Sets the one condition that budgets have. Its time is that of the last change from true to false or back.
fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    state: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let same = old.map(|at| &conditions[at]).filter(|old| old.status == state);
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: same.map_or_else(|| meta::api_time(now), |old| old.last_transition_time.clone()),
    };
    match old {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// How long until it is taken back that a pod is about to be disrupted, since nobody has deleted it. `None`: nobody said
/// that it would be, or it is going, or its node said so, which may take its time.
pub fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let said = pod::condition(pod, TARGET).filter(|target| target.status == "True")?;
    if !pod::is_active(pod) || said.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = said.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some(meta::until(now, meta::after(since, DELETION_TIMEOUT)).unwrap_or_default())
}

/// The condition with which it is taken back.
pub fn not_disrupted(pod: &Pod, now: Timestamp) -> PodCondition {
    PodCondition {
        type_: TARGET.to_owned(),
        status: "False".to_owned(),
        observed_generation: pod.metadata.generation,
        last_transition_time: Some(meta::api_time(now)),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "namespace": "n", "generation": 3}, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    /// Pods "p0", "p1", … of an owner each (none: empty), ready or not.
    fn pods(all: &[(&str, bool)]) -> Vec<Arc<Pod>> {
        let pods = all.iter().enumerate().map(|(at, (owner, ready))| {
            let reference =
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true});
            let owners = if owner.is_empty() { json!([]) } else { json!([reference]) };
            let ready = if *ready { "True" } else { "False" };
            let pod = json!({
                "metadata": {"name": format!("p{at}"), "labels": {"app": "web"}, "ownerReferences": owners},
                "spec": {"containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        });
        pods.collect()
    }

    fn scales() -> Scales {
        let wants = |counted: &str, replicas| Scale::Wants { counted: counted.to_owned(), replicas };
        [
            ("a", wants("a", 4)),
            ("b1", wants("b", 10)),
            ("b2", wants("b", 10)),
            ("gone", Scale::Absent),
            ("job", Scale::Unknown("jobs.batch does not implement the scale subresource".to_owned())),
        ]
        .map(|(uid, scale)| (uid.to_owned(), scale))
        .into()
    }

    /// (expected, healthy, desired, allowed) of a budget.
    fn check(spec: Value, all: &[(&str, bool)], expected: [i32; 4], reason: &str) {
        let budget = budget(spec.clone(), json!({}));
        let status = for_budget(&budget, &pods(all), &scales(), now()).status.unwrap();
        let counts = [status.expected_pods, status.current_healthy, status.desired_healthy, status.disruptions_allowed];
        let found: [i32; 4] = counts.map(|count| count.unwrap_or(0));
        assert_eq!(found, expected, "{spec} of {all:?}");
        assert_eq!(status.conditions.unwrap()[0].reason, reason, "{spec} of {all:?}");
    }

    #[test]
    fn budgets_are_worked_out() {
        let three = [("a", true), ("a", true), ("a", false)];
        check(json!({"minAvailable": 1}), &three, [3, 2, 1, 1], "SufficientPods");
        check(json!({"minAvailable": 2}), &three, [3, 2, 2, 0], "InsufficientPods");
        check(json!({"minAvailable": "50%"}), &three, [4, 2, 2, 0], "InsufficientPods");
        check(json!({"minAvailable": "25%"}), &three, [4, 2, 1, 1], "SufficientPods");
        check(json!({"maxUnavailable": 3}), &three, [4, 2, 1, 1], "SufficientPods");
        check(json!({"maxUnavailable": "30%"}), &three, [4, 2, 2, 0], "InsufficientPods");
        check(json!({"maxUnavailable": 9}), &three, [4, 2, 0, 2], "SufficientPods");
        check(json!({}), &three, [0, 2, 0, 0], "InsufficientPods");
        check(json!({"minAvailable": 0}), &[], [0, 0, 0, 0], "InsufficientPods");
        // Two sets of one Deployment want its pods once.
        check(json!({"maxUnavailable": 9}), &[("b1", true), ("b2", true)], [10, 2, 1, 1], "SufficientPods");
        check(json!({"maxUnavailable": 9}), &[("a", true), ("b1", true)], [14, 2, 5, 0], "InsufficientPods");
        check(json!({"minAvailable": 1}), &[("job", true), ("", true)], [2, 2, 1, 1], "SufficientPods");
        check(json!({"maxUnavailable": 1}), &[("", true)], [0, 1, 0, 0], "InsufficientPods");
        check(json!({"maxUnavailable": 1}), &[("gone", true)], [0, 0, 0, 0], "SyncFailed");
        check(json!({"minAvailable": "1%"}), &[("job", true)], [0, 0, 0, 0], "SyncFailed");
    }

    #[test]
    fn people_are_told() {
        let told = |spec: Value, all: &[(&str, bool)]| -> Vec<String> {
            let todo = for_budget(&budget(spec, json!({})), &pods(all), &scales(), now());
            todo.notices.into_iter().map(|notice| format!("{}: {}", notice.reason, notice.message)).collect()
        };
        assert_eq!(told(json!({"minAvailable": 1}), &[]), ["NoPods: No matching pods found"]);
        assert_eq!(
            told(json!({"maxUnavailable": 1}), &[("gone", true)]),
            [
                r#"CalculateExpectedPodCountFailed: Failed to calculate the number of expected pods: found no controllers for pod "p0""#
            ]
        );
        let expressions = json!([{"key": "k", "operator": "In", "values": ["x", "y"]}]);
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": expressions});
        let lone = told(json!({"maxUnavailable": 1, "selector": selector}), &[("", true)]);
        assert!(
            lone[0].contains(
                "(selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},})"
            ),
            "{lone:?}"
        );
    }

    #[test]
    fn what_was_agreed_to_counts_as_gone_for_two_minutes() {
        let agreed = json!({"p0": "2026-01-01T00:59:30Z", "p1": "2026-01-01T00:57:59Z", "p9": "2026-01-01T00:59:59Z"});
        let budget = budget(json!({"minAvailable": 1}), json!({"disruptedPods": agreed}));
        let todo = for_budget(&budget, &pods(&[("a", true), ("a", true), ("a", true)]), &scales(), now());
        let status = todo.status.unwrap();
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(2), Some(1)));
        assert_eq!(status.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!(todo.again, Some(Duration::from_secs(90)));
        assert_eq!(todo.overdue.iter().map(|pod| meta::name(&pod.metadata)).collect::<Vec<_>>(), ["p1"]);
    }

    #[test]
    fn nothing_is_decided_twice() {
        for spec in [json!({"minAvailable": 1}), json!({"maxUnavailable": 9}), json!({"minAvailable": "9%"})] {
            for all in [vec![], vec![("a", true)], vec![("a", true), ("gone", false)], vec![("job", true)]] {
                let mut budget = budget(spec.clone(), json!({}));
                budget.status = for_budget(&budget, &pods(&all), &scales(), now()).status;
                let later = meta::after(now(), Duration::from_secs(9));
                assert_eq!(for_budget(&budget, &pods(&all), &scales(), later).status, None, "{spec} {all:?}");
            }
        }
    }

    #[test]
    fn only_relative_budgets_ask_for_owners() {
        let all = pods(&[("a", true), ("a", true), ("", true), ("b1", true)]);
        let asked = |spec: Value| {
            managers(&budget(spec, json!({})), &all).iter().map(|owner| owner.uid.clone()).collect::<Vec<_>>()
        };
        assert_eq!(asked(json!({"maxUnavailable": 1})), ["a", "b1"]);
        assert_eq!(asked(json!({"minAvailable": "1%"})), ["a", "b1"]);
        assert!(asked(json!({"minAvailable": 1})).is_empty());
    }

    #[test]
    fn pods_of_a_budget() {
        let check = |selector: Value, expected: bool| {
            let covered = covers(&budget(json!({"selector": selector}), json!({})), &pods(&[("", true)])[0]);
            assert_eq!(covered, expected, "{selector}");
        };
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "db"}}), false);
        check(json!({}), true);
        check(Value::Null, false);
    }

    #[test]
    fn a_stale_target_is_taken_back() {
        let check = |metadata: Value, phase: &str, condition: Value, expected: Option<u64>| {
            let status = json!({"phase": phase, "conditions": [condition]});
            let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
            assert_eq!(stale_in(&pod, now()).map(|left| left.as_secs()), expected, "{status}");
        };
        let target = |status: &str, reason: &str, since: &str| json!({"type": "DisruptionTarget", "status": status, "reason": reason, "lastTransitionTime": since});
        let recent = "2026-01-01T00:59:00Z";
        check(json!({}), "Running", target("True", "PreemptionByScheduler", recent), Some(60));
        check(json!({}), "Running", target("True", "EvictionByEvictionAPI", "2026-01-01T00:00:00Z"), Some(0));
        check(json!({}), "Running", target("False", "", recent), None);
        check(json!({}), "Running", target("True", "TerminationByKubelet", recent), None);
        check(json!({}), "Failed", target("True", "PreemptionByScheduler", recent), None);
        check(json!({"deletionTimestamp": recent}), "Running", target("True", "PreemptionByScheduler", recent), None);
    }
}
