//! The engine as its driver sees it: nodes and pods go in as the API writes them, decisions come out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/against_oracle.rs"]
mod against_oracle;
#[path = "it/device_binding.rs"]
mod device_binding;
#[path = "it/device_claims.rs"]
mod device_claims;
#[path = "it/device_extended.rs"]
mod device_extended;
#[path = "it/device_hints.rs"]
mod device_hints;
#[path = "it/device_promises.rs"]
mod device_promises;
#[path = "it/devices.rs"]
mod devices;
#[path = "it/drawn.rs"]
mod drawn;
#[path = "it/evictions.rs"]
mod evictions;
#[path = "it/evictions_against_oracle.rs"]
mod evictions_against_oracle;
#[path = "it/extenders.rs"]
mod extenders;
#[path = "it/filters.rs"]
mod filters;
#[path = "it/gangs.rs"]
mod gangs;
#[path = "it/made.rs"]
mod made;
#[path = "it/node_volume_limits.rs"]
mod node_volume_limits;
#[path = "it/nominated.rs"]
mod nominated;
#[path = "it/oracle.rs"]
mod oracle;
#[path = "it/permit.rs"]
mod permit;
#[path = "it/points.rs"]
mod points;
#[path = "it/preemption.rs"]
mod preemption;
#[path = "it/queueing.rs"]
mod queueing;
#[path = "it/renew.rs"]
mod renew;
#[path = "it/scoring.rs"]
mod scoring;
#[path = "it/stage.rs"]
mod stage;
#[path = "it/storage.rs"]
mod storage;
#[path = "it/topology.rs"]
mod topology;
#[path = "it/traffic.rs"]
mod traffic;
#[path = "it/volume_binding.rs"]
mod volume_binding;
#[path = "it/volume_hints.rs"]
mod volume_hints;
#[path = "it/volume_promises.rs"]
mod volume_promises;
#[path = "it/volume_restrictions.rs"]
mod volume_restrictions;
#[path = "it/volume_zone.rs"]
mod volume_zone;

use std::time::Duration;

use proptest::prelude::*;
use sched::{Decision, Engine, Options, Pending, convert, preempt::Victims};
use serde_json::{Value, json};

const T0: Duration = Duration::from_secs(100);

fn seconds(n: u64) -> Duration {
    T0 + Duration::from_secs(n)
}

fn node(name: &str, cpu: &str, memory: &str, spec: Value) -> sched::Node {
    let object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "3"}},
    });
    convert::node(&serde_json::from_value(object).unwrap()).unwrap()
}

/// A pod with one container that asks for `cpu`; `spec` is laid over its spec.
fn pod(name: &str, cpu: &str, spec: Value) -> sched::Pod {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [container]}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    convert::pod(&serde_json::from_value(object).unwrap()).unwrap()
}

fn engine(nodes: Vec<sched::Node>) -> Engine {
    let mut engine = Engine::new(Options::default());
    for node in nodes {
        engine.upsert_node(node, T0);
    }
    engine
}

/// The next decision in words.
fn next(engine: &mut Engine, now: Duration) -> String {
    words(engine.next(now))
}

/// `pod -> node`, or `pod: message`, or who is asked about what.
fn words(decision: Option<Decision>) -> String {
    match decision {
        None => "nothing".into(),
        Some(Decision::Bind(reservation)) => format!("{} -> {}", reservation.pod.name, reservation.node),
        Some(Decision::Unschedulable { pod, diagnosis, .. }) => format!("{}: {}", pod.name, diagnosis.message()),
        Some(Decision::Consult { pod, nodes }) => {
            let mut nodes: Vec<&str> = nodes.iter().map(|node| &**node).collect();
            nodes.sort_unstable();
            format!("{}? {}", pod.name, nodes.join(" "))
        }
        Some(Decision::ConsultVictims { pod, candidates }) => {
            let victims = |one: &Victims| one.pods.iter().map(|pod| pod.name.to_string()).collect::<Vec<_>>().join("+");
            let mut all: Vec<_> = candidates.iter().map(|one| format!("{}:{}", one.node, victims(one))).collect();
            all.sort_unstable();
            format!("{}?? {}", pod.name, all.join(" "))
        }
        Some(Decision::KeptOut { pod, plugin, reason }) => format!("{} kept out by {plugin}: {reason}", pod.name),
        Some(Decision::Failed { pod, error, .. }) => format!("{}! {error}", pod.name),
    }
}

fn place(engine: &mut Engine, pod: sched::Pod) -> String {
    engine.upsert_pod(pod, T0);
    next(engine, T0)
}

#[test]
fn messages_are_kube_schedulers() {
    let check = |nodes: Vec<sched::Node>, pod: sched::Pod, expected: &str| {
        assert_eq!(place(&mut engine(nodes), pod), format!("p: {expected}"));
    };
    let tainted =
        |name| node(name, "4", "8Gi", json!({"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}));
    let plain = |name| node(name, "1", "8Gi", json!({}));
    check(vec![], pod("p", "1", json!({})), "no nodes available to schedule pods");
    check(
        vec![plain("a"), tainted("b"), tainted("c")],
        pod("p", "2", json!({})),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes are \
         available: 3 Preemption is not helpful for scheduling.",
    );
    check(
        vec![plain("a")],
        pod("p", "1", json!({"nodeSelector": {"disk": "ssd"}})),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are \
         available: 1 Preemption is not helpful for scheduling.",
    );
    check(
        vec![node("a", "4", "8Gi", json!({"unschedulable": true}))],
        pod("p", "1", json!({"preemptionPolicy": "Never"})),
        "0/1 nodes are available: 1 node(s) were unschedulable. no new claims to deallocate, preemption: not eligible due to \
         preemptionPolicy=Never.",
    );
}

#[test]
fn a_full_node_says_what_is_missing() {
    let mut engine = engine(vec![node("a", "1", "1Gi", json!({}))]);
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    assert_eq!(place(&mut engine, pod("p1", "1", port.clone())), "p1 -> a");
    let preemption = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let ports = "1 node(s) didn't have free ports for the requested pod ports";
    let expected = format!("p2: 0/1 nodes are available: {ports}. {preemption}");
    assert_eq!(place(&mut engine, pod("p2", "1", port)), expected);
    assert_eq!(place(&mut engine, pod("p3", "600m", json!({}))), "p3 -> a");
    let expected = format!("p4: 0/1 nodes are available: 1 Insufficient cpu. {preemption}");
    assert_eq!(place(&mut engine, pod("p4", "500m", json!({}))), expected);
    assert_eq!(place(&mut engine, pod("p5", "0", json!({}))), "p5 -> a");
    let expected = format!("p6: 0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods. {preemption}");
    assert_eq!(place(&mut engine, pod("p6", "500m", json!({}))), expected);
    let gpu = json!({"containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]});
    assert!(place(&mut engine, pod("p7", "0", gpu)).contains("1 Insufficient nvidia.com/gpu, 1 Too many pods."));
}

#[test]
fn scores_choose_the_node() {
    let check = |nodes: Vec<sched::Node>, pod: sched::Pod, expected: &str| {
        assert_eq!(place(&mut engine(nodes), pod), format!("p -> {expected}"));
    };
    let plain = |name, cpu| node(name, cpu, "8Gi", json!({}));
    check(vec![plain("small", "2"), plain("large", "8")], pod("p", "1", json!({})), "large");
    let soft = json!({"taints": [{"key": "a", "effect": "PreferNoSchedule"}]});
    check(vec![node("soft", "8", "8Gi", soft), plain("plain", "4")], pod("p", "1", json!({})), "plain");
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["small"]}]});
    let prefer = json!({"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "preference": term}]}}});
    check(vec![plain("small", "2"), plain("large", "8")], pod("p", "1", prefer), "small");
    let field = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["small"]}]});
    let require = json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [field]}}}});
    check(vec![plain("small", "2"), plain("large", "8")], pod("p", "1", require), "small");
}

#[test]
fn tolerations_open_tainted_and_cordoned_nodes() {
    let spec = json!({"unschedulable": true, "taints": [{"key": "a", "value": "b", "effect": "NoExecute"}]});
    let check = |tolerations: Value, fits: bool| {
        let found = place(
            &mut engine(vec![node("n", "4", "8Gi", spec.clone())]),
            pod("p", "1", json!({"tolerations": tolerations})),
        );
        assert_eq!(found == "p -> n", fits, "{tolerations}: {found}");
    };
    check(json!([{"operator": "Exists"}]), true);
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"});
    check(json!([cordon, {"key": "a", "value": "b"}]), true);
    check(json!([cordon, {"key": "a", "value": "c"}]), false);
    check(json!([cordon, {"key": "a", "operator": "Exists", "effect": "NoSchedule"}]), false);
    check(json!([{"key": "a", "operator": "Exists"}]), false);
}

#[test]
fn equal_pods_spread_over_equal_nodes() {
    let mut engine = engine(["a", "b", "c"].map(|name| node(name, "4", "8Gi", json!({}))).into());
    let mut nodes: Vec<String> = (0..3)
        .map(|n| place(&mut engine, pod(&format!("p{n}"), "500m", json!({}))).split_once("-> ").unwrap().1.to_owned())
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["a", "b", "c"]);
}

#[test]
fn priority_comes_before_time() {
    let mut engine = engine(vec![node("a", "8", "8Gi", json!({}))]);
    engine.upsert_pod(pod("first", "1", json!({})), T0);
    engine.upsert_pod(pod("second", "1", json!({})), seconds(1));
    engine.upsert_pod(pod("urgent", "1", json!({"priority": 10})), seconds(2));
    let order: Vec<_> = (0..4).map(|_| next(&mut engine, seconds(3))).collect();
    assert_eq!(order, ["urgent -> a", "first -> a", "second -> a", "nothing"]);
}

#[test]
fn what_helps_wakes_and_nothing_else() {
    let mut engine = engine(vec![node("a", "1", "8Gi", json!({}))]);
    assert_eq!(place(&mut engine, pod("p1", "1", json!({}))), "p1 -> a");
    assert!(place(&mut engine, pod("p2", "1", json!({}))).starts_with("p2: 0/1"));
    let selector = json!({"nodeSelector": {"disk": "ssd"}});
    assert!(place(&mut engine, pod("p3", "1", selector)).starts_with("p3: 0/1"));
    assert_eq!(engine.pending(), Pending { unschedulable: 2, ..Default::default() });
    // The same again, and a node that is too small, wake nobody.
    engine.upsert_node(node("a", "1", "8Gi", json!({})), seconds(1));
    engine.upsert_pod(pod("p2", "1", json!({})), seconds(1));
    engine.upsert_node(node("b", "500m", "8Gi", json!({})), seconds(1));
    assert_eq!(next(&mut engine, seconds(1)), "nothing");
    engine.remove_pod("p1", seconds(2));
    assert_eq!(next(&mut engine, seconds(2)), "p2 -> a");
    assert_eq!(next(&mut engine, seconds(2)), "nothing");
    // Five minutes are enough without any event.
    assert_eq!(engine.wake_at(), Some(seconds(300)));
    assert!(next(&mut engine, seconds(300)).starts_with("p3: 0/2"));
}

#[test]
fn a_failed_binding_is_undone_and_tried_after_its_pause() {
    let mut engine = engine(vec![node("a", "1", "8Gi", json!({}))]);
    assert_eq!(place(&mut engine, pod("p", "1", json!({}))), "p -> a");
    engine.undo("p", T0);
    assert_eq!((next(&mut engine, T0), engine.wake_at()), ("nothing".into(), Some(seconds(1))));
    assert_eq!(next(&mut engine, seconds(1)), "p -> a");
    engine.undo("p", seconds(1));
    assert_eq!(engine.wake_at(), Some(seconds(3)));
    assert_eq!(next(&mut engine, seconds(3)), "p -> a");
    let bound = pod("p", "1", json!({"nodeName": "a"}));
    engine.upsert_pod(bound, seconds(3));
    engine.undo("p", seconds(3));
    assert_eq!((engine.pending(), engine.wake_at()), (Pending::default(), None));
    assert!(place(&mut engine, pod("q", "1", json!({}))).starts_with("q: 0/1"));
}

#[test]
fn a_pod_that_leaves_while_it_is_bound_is_not_tried_again() {
    let mut engine = engine(vec![node("a", "1", "8Gi", json!({}))]);
    assert_eq!(place(&mut engine, pod("p", "1", json!({}))), "p -> a");
    let mut leaving = pod("p", "1", json!({}));
    leaving.deleting = true;
    engine.upsert_pod(leaving, T0);
    assert!(place(&mut engine, pod("q", "1", json!({}))).starts_with("q: 0/1"), "it may be bound yet");
    engine.undo("p", seconds(5));
    assert_eq!(next(&mut engine, seconds(5)), "q -> a");
    assert_eq!((engine.pending(), engine.wake_at()), (Pending::default(), None));
}

#[test]
fn gates_hold_and_ended_pods_count_no_more() {
    let mut engine = engine(vec![node("a", "1", "8Gi", json!({}))]);
    assert_eq!(place(&mut engine, pod("p", "1", json!({"schedulingGates": [{"name": "g"}]}))), "nothing");
    assert_eq!(engine.pending().gated, 1);
    assert_eq!(place(&mut engine, pod("p", "1", json!({}))), "p -> a");
    let mut ended = pod("p", "1", json!({"nodeName": "a"}));
    ended.terminal = true;
    engine.upsert_pod(ended, T0);
    assert_eq!(place(&mut engine, pod("q", "1", json!({}))), "q -> a");
    let mut deleting = pod("r", "1", json!({}));
    deleting.deleting = true;
    assert_eq!(place(&mut engine, deleting), "nothing");
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u16),
    Bound(u8),
    Fail(u8),
    Remove(u8),
    Node(u8, u16),
    RemoveNode(u8),
    Decide,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..20, 0u16..1500).prop_map(|(pod, cpu)| Step::Add(pod, cpu)),
        (0u8..20).prop_map(Step::Bound),
        (0u8..20).prop_map(Step::Fail),
        (0u8..20).prop_map(Step::Remove),
        (0u8..4, 500u16..4000).prop_map(|(node, cpu)| Step::Node(node, cpu)),
        (0u8..4).prop_map(Step::RemoveNode),
        Just(Step::Decide),
        Just(Step::Decide),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a placement fits into what the model says is free on its node.
    #[test]
    fn no_node_is_given_more_than_it_has(steps in proptest::collection::vec(step(), 1..120)) {
        let mut engine = Engine::new(Options::default());
        let mut nodes = std::collections::HashMap::<String, i64>::new();
        let mut pods = std::collections::HashMap::<String, (i64, Option<String>, bool)>::new();
        for (tick, step) in steps.into_iter().enumerate() {
            let now = seconds(tick as u64);
            match step {
                Step::Add(id, cpu) => {
                    let name = format!("p{id}");
                    if !pods.contains_key(&name) {
                        pods.insert(name.clone(), (i64::from(cpu), None, false));
                        engine.upsert_pod(pod(&name, &format!("{cpu}m"), json!({})), now);
                    }
                }
                Step::Bound(id) => {
                    let name = format!("p{id}");
                    if let Some((cpu, Some(node), bound)) = pods.get_mut(&name) {
                        *bound = true;
                        engine.upsert_pod(pod(&name, &format!("{cpu}m"), json!({"nodeName": node})), now);
                    }
                }
                Step::Fail(id) => {
                    if let Some((_, node, false)) = pods.get_mut(&format!("p{id}")) {
                        *node = None;
                        engine.undo(&format!("p{id}"), now);
                    }
                }
                Step::Remove(id) => {
                    pods.remove(&format!("p{id}"));
                    engine.remove_pod(&format!("p{id}"), now);
                }
                Step::Node(id, cpu) => {
                    nodes.insert(format!("n{id}"), i64::from(cpu));
                    engine.upsert_node(node(&format!("n{id}"), &format!("{cpu}m"), "64Gi", json!({})), now);
                }
                Step::RemoveNode(id) => {
                    nodes.remove(&format!("n{id}"));
                    engine.remove_node(&format!("n{id}"), now);
                }
                Step::Decide => match engine.next(now) {
                    Some(Decision::Bind(found)) => {
                        let (name, node) = (found.pod.name.to_string(), found.node.to_string());
                        let on_node = || pods.values().filter(|(_, at, _)| at.as_deref() == Some(&*node));
                        let used: i64 = on_node().map(|(cpu, ..)| cpu).sum();
                        let asked = pods[&name].0;
                        prop_assert!(nodes.contains_key(&node), "{node} is gone");
                        prop_assert!(asked == 0 || used + asked <= nodes[&node], "{name} asks {asked} on {node}");
                        prop_assert!(on_node().count() < 3, "too many pods on {node}");
                        pods.get_mut(&name).unwrap().1 = Some(node);
                    }
                    Some(Decision::Unschedulable { pod, diagnosis, .. }) => {
                        prop_assert!(pods[&*pod.name].1.is_none());
                        let rejected: usize = diagnosis.rejected.iter().map(|rejected| rejected.nodes).sum();
                        prop_assert_eq!(rejected, nodes.len());
                    }
                    Some(other) => panic!("nobody has extenders: {other:?}"),
                    None => {}
                },
            }
        }
    }
}

#[test]
fn a_node_must_have_declared_what_a_pod_needs() {
    let check = |spec: Value, feature: &str| {
        let mut engine = engine(vec![node("a", "4", "8Gi", json!({}))]);
        let said = place(&mut engine, pod("p", "1", spec));
        assert!(
            said.starts_with("p: 0/1 nodes are available: 1 node(s) didn't match Pod's required features."),
            "{said}"
        );
        // Something else does not help.
        for (declared, expected) in [("Other", "nothing"), (feature, "p -> a")] {
            let object = json!({
                "metadata": {"name": "a"},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "3"}, "declaredFeatures": [declared]},
            });
            engine.upsert_node(convert::node(&serde_json::from_value(object).unwrap()).unwrap(), seconds(30));
            assert_eq!(next(&mut engine, seconds(30)), expected);
        }
    };
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
    let restarting = json!({"containers": [{"name": "c", "restartPolicyRules": rules}]});
    check(restarting, "RestartAllContainersOnContainerExits");
    check(json!({"hostNetwork": true, "hostUsers": false}), "UserNamespacesHostNetworkSupport");
    let mut engine = engine(vec![node("a", "4", "8Gi", json!({}))]);
    assert_eq!(place(&mut engine, pod("p", "1", json!({"hostNetwork": true}))), "p -> a");
}

#[test]
fn a_stream_of_high_priorities_starves_nobody() {
    let mut engine = engine(vec![]);
    engine.upsert_node(large("a", 100_000), T0);
    engine.upsert_pod(pod("low", "1m", json!({"priority": 0})), T0);
    let mut turns = 0;
    loop {
        // Two come for each that is decided on.
        for half in 0..2 {
            engine.upsert_pod(pod(&format!("high-{turns}-{half}"), "1m", json!({"priority": 1000})), seconds(turns));
        }
        match engine.next(seconds(turns)) {
            Some(Decision::Bind(found)) if &*found.pod.name == "low" => break,
            Some(Decision::Bind(_)) => turns += 1,
            other => panic!("{other:?}"),
        }
        assert!(turns < 100, "the pod of low priority has no turn");
    }
}

#[test]
fn a_pod_that_fits_nowhere_blocks_nobody() {
    let mut engine = engine(vec![node("a", "4", "8Gi", json!({}))]);
    for n in 0..50 {
        engine.upsert_pod(pod(&format!("huge-{n}"), "64", json!({"priority": 1000})), T0);
    }
    engine.upsert_pod(pod("small", "1", json!({})), T0);
    let mut turns = 0;
    while next(&mut engine, T0) != "small -> a" {
        turns += 1;
        assert!(turns <= 50, "the small pod has no turn");
    }
}

/// A node for so many pods.
fn large(name: &str, pods: u32) -> sched::Node {
    let object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "10000", "memory": "8000Gi", "pods": pods.to_string()}},
    });
    convert::node(&serde_json::from_value(object).unwrap()).unwrap()
}
