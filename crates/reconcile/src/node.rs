//! Node lifecycle: who stops reporting is not trusted any longer, and what runs there has to leave in time.
//!
//! ```text
//!   Lease renewed / status changed ─▶ Heartbeat (when the change was seen, by our own clock)
//!   silent longer than the grace ─▶ Ready=Unknown ─▶ taints ─▶ pods not ready ─▶ eviction as tolerated
//! ```

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, NodeStatus, Pod, PodCondition, Taint, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};

use crate::{Notice, meta, pod};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The conditions that a node agent reports, and that nobody can vouch for once it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// The conditions that keep pods away, the value that does, and the taint that tells the scheduler.
const REPELLENT: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The last sign of life, dated by the observer's clock: the node's own clock may be wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    renewed: Option<MicroTime>,
    status: Vec<NodeCondition>,
    /// When the present values were first seen.
    pub seen: Timestamp,
}

impl Heartbeat {
    /// What is known after a look at the node and its lease.
    pub fn observe(before: Option<&Heartbeat>, node: &Node, lease: Option<&Lease>, now: Timestamp) -> Self {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()).and_then(|spec| spec.renew_time.clone());
        // What this controller wrote itself is no sign of life.
        let own =
            |c: &&NodeCondition| matches!(c.reason.as_deref(), Some("NodeStatusUnknown" | "NodeStatusNeverUpdated"));
        let status: Vec<NodeCondition> = conditions(node).iter().filter(|c| !own(c)).cloned().collect();
        let alive = before.is_none_or(|before| {
            before.renewed != renewed || status.iter().any(|condition| !before.status.contains(condition))
        });
        let seen = before.filter(|_| !alive).map_or(now, |before| before.seen);
        Heartbeat { renewed, status, seen }
    }
}

/// How long a node may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// A node that has reported before.
    pub monitor: Duration,
    /// A node that has just appeared.
    pub startup: Duration,
}

/// What to do about a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Status(Box<NodeStatus>),
    Taints(Vec<Taint>),
    /// Every pod there shows not ready.
    MarkPodsNotReady,
    Notice(Notice),
    /// Look again after so long, even if nothing changes.
    Again(Duration),
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == "Ready")
}

/// Judges one node.
pub fn reconcile(node: &Node, heartbeat: &Heartbeat, grace: Grace, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut judged = node.clone();
    let limit = if ready(node).is_some() { grace.monitor } else { grace.startup };
    let silent_at = meta::after(heartbeat.seen, limit);
    match meta::until(now, silent_at) {
        Some(left) => actions.push(Action::Again(left)),
        None => {
            let was_ready = ready(node).is_some_and(|ready| ready.status == "True");
            if mark_unknown(&mut judged, now) {
                let status = judged.status.clone().unwrap_or_default();
                actions.push(Action::Status(Box::new(status)));
                let name = meta::name(&node.metadata);
                let message = format!("Node {name} status is now: NodeNotReady");
                actions.extend(was_ready.then(|| Action::Notice(Notice::normal("NodeNotReady", message))));
            }
        }
    }
    if ready(&judged).is_some_and(|ready| ready.status != "True") {
        actions.push(Action::MarkPodsNotReady);
    }
    let taints = taints(&judged, now);
    if taints.as_slice() != node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default() {
        actions.push(Action::Taints(taints));
    }
    actions
}

/// Sets what a silent node reported to Unknown; says whether that changed anything.
fn mark_unknown(node: &mut Node, now: Timestamp) -> bool {
    let created = node.metadata.creation_timestamp.clone();
    let list = node.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for kind in REPORTED {
        let now = Some(meta::api_time(now));
        match list.iter_mut().find(|condition| condition.type_ == kind) {
            Some(present) if present.status == "Unknown" => {}
            Some(present) => {
                present.status = "Unknown".into();
                present.reason = Some("NodeStatusUnknown".into());
                present.message = Some("Kubelet stopped posting node status.".into());
                present.last_transition_time = now;
                changed = true;
            }
            None => {
                list.push(NodeCondition {
                    type_: kind.into(),
                    status: "Unknown".into(),
                    reason: Some("NodeStatusNeverUpdated".into()),
                    message: Some("Kubelet never posted node status.".into()),
                    last_heartbeat_time: created.clone(),
                    last_transition_time: now,
                });
                changed = true;
            }
        }
    }
    changed
}

/// The taints that follow from the conditions; others are left as they are.
fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let is = |kind: &str, value: &str| conditions(node).iter().any(|c| c.type_ == kind && c.status == value);
    let ready = ready(node).map(|ready| ready.status.as_str());
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        Some("False") => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) => {}
        // A node that has said nothing yet keeps the taint that it came with.
        None => wanted.push((NOT_READY, "NoSchedule")),
    }
    let repellent = REPELLENT.iter().filter(|(kind, value, _)| is(kind, value));
    wanted.extend(repellent.map(|(_, _, taint)| (*taint, "NoSchedule")));
    let spec = node.spec.clone().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |key: &str| {
        matches!(key, NOT_READY | UNREACHABLE | UNSCHEDULABLE) || REPELLENT.iter().any(|(_, _, taint)| *taint == key)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> =
        spec.taints.into_iter().flatten().filter(|taint| !ours(&taint.key) || is_wanted(taint)).collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: None,
                time_added: (effect == "NoExecute" || key == UNREACHABLE || key == NOT_READY)
                    .then(|| meta::api_time(now)),
            });
        }
    }
    taints
}

/// The status of a pod whose node nobody hears of: not ready, so that no traffic goes there. `None`: it says so.
pub fn not_ready_status(pod: &Pod, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut list = pod.status.as_ref()?.conditions.clone()?;
    let ready = list.iter_mut().find(|condition| condition.type_ == "Ready" && condition.status != "False")?;
    ready.status = "False".into();
    ready.last_transition_time = Some(meta::api_time(now));
    Some(list)
}

/// When a pod has to leave its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// It may stay.
    Never,
    Now,
    After(Duration),
}

/// What a node's taints mean for a pod on it.
pub fn eviction(node: &Node, pod: &Pod, now: Timestamp) -> Eviction {
    if meta::is_deleting(&pod.metadata) || pod::is_finished(pod) {
        return Eviction::Never;
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut leave: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let mut matching = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if matching.peek().is_none() {
            return Eviction::Now;
        }
        // The shortest of the tolerations that have an end counts.
        let Some(seconds) = matching.filter_map(|toleration| toleration.toleration_seconds).min() else { continue };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let end = meta::after(since, meta::seconds(seconds));
        leave = Some(leave.map_or(end, |sooner| sooner.min(end)));
    }
    match leave.map(|end| meta::until(now, end)) {
        None => Eviction::Never,
        Some(None) => Eviction::Now,
        Some(Some(left)) => Eviction::After(left),
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = some(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = some(&toleration.key).is_none_or(|key| key == taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("Equal" | "") => {
            some(&toleration.key).is_some()
                && toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default()
        }
        Some(_) => false,
    };
    effect && key && value
}

/// The pods of a node.
pub fn pods_on<'a>(pods: impl IntoIterator<Item = &'a Arc<Pod>>, node: &str) -> Vec<Arc<Pod>> {
    let here = |pod: &&Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
    pods.into_iter().filter(here).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const GRACE: Grace = Grace { monitor: Duration::from_secs(40), startup: Duration::from_secs(60) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn node(ready: &str, taints: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn lease(second: i64) -> Lease {
        Lease {
            spec: Some(k8s_openapi::api::coordination::v1::LeaseSpec {
                renew_time: Some(MicroTime(at(second))),
                ..Default::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn renewals_and_reports_are_signs_of_life() {
        let ready = node("True", json!([]));
        let first = Heartbeat::observe(None, &ready, Some(&lease(0)), at(0));
        let same = Heartbeat::observe(Some(&first), &ready, Some(&lease(0)), at(10));
        assert_eq!(same.seen, at(0));
        assert_eq!(Heartbeat::observe(Some(&same), &ready, Some(&lease(10)), at(11)).seen, at(11));
        let report = node("False", json!([]));
        assert_eq!(Heartbeat::observe(Some(&same), &report, Some(&lease(0)), at(12)).seen, at(12));
    }

    #[test]
    fn a_silent_node_becomes_unknown_and_comes_back() {
        let mut it = node("True", json!([]));
        let beat = Heartbeat::observe(None, &it, Some(&lease(0)), at(0));
        assert_eq!(reconcile(&it, &beat, GRACE, at(30)), [Action::Again(Duration::from_secs(10))]);
        let actions = reconcile(&it, &beat, GRACE, at(41));
        let [Action::Status(status), Action::Notice(notice), Action::MarkPodsNotReady, Action::Taints(taints)] =
            actions.as_slice()
        else {
            panic!("{actions:?}")
        };
        let ready = &status.conditions.as_ref().unwrap()[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")));
        assert_eq!(notice.message, "Node n status is now: NodeNotReady");
        let keys: Vec<_> = taints.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect();
        assert_eq!(keys, [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]);
        // What was just written is no sign of life.
        it.status = Some((**status).clone());
        it.spec.as_mut().unwrap().taints = Some(taints.clone());
        let silent = Heartbeat::observe(Some(&beat), &it, Some(&lease(0)), at(50));
        assert_eq!(reconcile(&it, &silent, GRACE, at(50)), [Action::MarkPodsNotReady]);
        let back = node("True", json!(taints));
        let beat = Heartbeat::observe(Some(&silent), &back, Some(&lease(60)), at(60));
        let actions = reconcile(&back, &beat, GRACE, at(60));
        assert!(matches!(&actions[1], Action::Taints(taints) if taints.is_empty()), "{actions:?}");
    }

    #[test]
    fn the_taint_of_a_new_node_goes_when_it_is_ready() {
        let taints = json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": "mine", "effect": "NoSchedule"}]);
        let it = node("True", taints);
        let beat = Heartbeat::observe(None, &it, None, at(0));
        let actions = reconcile(&it, &beat, GRACE, at(0));
        let Action::Taints(left) = &actions[1] else { panic!("{actions:?}") };
        assert_eq!(left.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), ["mine"]);
    }

    #[test]
    fn conditions_and_cordons_become_taints() {
        let check = |conditions: &[(&str, &str)], unschedulable: bool, expected: &[&str]| {
            let conditions: Vec<Value> =
                conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
            let node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions},
                "spec": {"unschedulable": unschedulable, "taints": [{"key": "mine", "effect": "NoSchedule"}]}}))
            .unwrap();
            let text =
                |taint: &Taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect);
            let found: Vec<String> = taints(&node, at(0)).iter().map(text).collect();
            let expected: Vec<&str> = ["mine:NoSchedule"].into_iter().chain(expected.iter().copied()).collect();
            assert_eq!(found, expected);
        };
        let ready = ("Ready", "True");
        check(&[ready], false, &[]);
        check(&[ready], true, &["unschedulable:NoSchedule"]);
        check(&[("Ready", "False")], false, &["not-ready:NoSchedule", "not-ready:NoExecute"]);
        check(&[ready, ("MemoryPressure", "True")], false, &["memory-pressure:NoSchedule"]);
        check(&[ready, ("MemoryPressure", "False")], false, &[]);
        check(&[ready, ("DiskPressure", "True")], false, &["disk-pressure:NoSchedule"]);
        check(&[ready, ("PIDPressure", "True")], false, &["pid-pressure:NoSchedule"]);
        check(&[ready, ("NetworkUnavailable", "True")], false, &["network-unavailable:NoSchedule"]);
        let all = [("Ready", "False"), ("NetworkUnavailable", "True")];
        check(&all, false, &["not-ready:NoSchedule", "not-ready:NoExecute", "network-unavailable:NoSchedule"]);
    }

    #[test]
    fn evictions() {
        let check = |tolerations: Value, expected: Eviction| {
            let node = node(
                "Unknown",
                json!([
                {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]),
            );
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap();
            assert_eq!(eviction(&node, &pod, at(100)), expected, "{tolerations}");
        };
        check(json!([]), Eviction::Now);
        check(json!([{"operator": "Exists"}]), Eviction::Never);
        let some = |seconds: i64| json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": seconds}]);
        check(some(300), Eviction::After(Duration::from_secs(200)));
        check(some(50), Eviction::Now);
        check(json!([{"key": "other", "operator": "Exists"}]), Eviction::Now);
    }
}
