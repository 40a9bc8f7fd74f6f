//! Pods that extenders have a say in: asked about many at a time, decided on what is true when the answer comes.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use sched::{
    Advice, Decision, Engine, Extender, Options,
    diagnosis::{Rejected, Rejection},
    extender::Eviction,
    framework::Gang,
};
use serde_json::{Value, json};

use crate::{T0, next, node, pod, seconds, words};

/// An engine with one extender for pods that ask for `example.com/it`.
fn engine(extender: Extender, nodes: &[(&str, &str)]) -> Engine {
    let extender = Extender { name: "http://e".into(), resources: vec!["example.com/it".into()], ..extender };
    let mut engine = Engine::new(Options { extenders: vec![extender], parallelism: 2, ..Default::default() });
    for (name, cpu) in nodes {
        let mut node = node(name, cpu, "64Gi", json!({}));
        node.allocatable.set_scalar("example.com/it", 100);
        engine.upsert_node(node, T0);
    }
    engine
}

fn about_nodes() -> Extender {
    Extender { nodes: true, ..Default::default() }
}

/// A pod that the extender is interested in.
fn its(name: &str, cpu: &str, extra: Value) -> sched::Pod {
    let requests = json!({"cpu": cpu, "example.com/it": "1"});
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    pod(name, cpu, spec)
}

/// These nodes may be taken, with these priorities; of the others, so many may not, for this reason.
fn advice(nodes: &[(&str, i64)], rejected: usize) -> Result<Advice, String> {
    let rejection = Rejection::resolvable("it said no");
    let rejected = vec![Rejected { plugin: "http://e".into(), rejection, nodes: rejected }];
    let nodes = nodes.iter().map(|(name, priority)| ((*name).into(), *priority)).collect();
    Ok(Advice { nodes, rejected })
}

#[test]
fn only_pods_that_ask_for_its_resource_are_asked_about() {
    let mut engine = engine(about_nodes(), &[("a", "4"), ("b", "1")]);
    engine.upsert_pod(pod("other", "3", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "other -> a");
    engine.upsert_pod(its("p", "1", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p? a b");
    assert_eq!(next(&mut engine, T0), "nothing");
    assert_eq!(words(engine.advised("p", advice(&[("b", 0)], 1), T0)), "p -> b");
}

#[test]
fn its_priorities_are_worth_ten_times_a_plugins_score() {
    let check = |first: i64, second: i64, expected: &str| {
        let mut engine = engine(about_nodes(), &[("a", "8"), ("b", "4")]);
        engine.upsert_pod(its("p", "2", json!({})), T0);
        assert_eq!(next(&mut engine, T0), "p? a b");
        assert_eq!(words(engine.advised("p", advice(&[("a", first), ("b", second)], 0), T0)), expected);
    };
    // The emptier node is the better; by less than the extender can say.
    check(0, 0, "p -> a");
    check(5, 5, "p -> a");
    check(0, 10, "p -> b");
    check(10, 10, "p -> a");
}

#[test]
fn a_rejection_is_told_and_any_event_may_help() {
    let mut engine = engine(about_nodes(), &[("a", "4"), ("b", "1")]);
    engine.upsert_pod(its("p", "2", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p? a");
    let said = words(engine.advised("p", advice(&[], 1), T0));
    let expected = "p: 0/2 nodes are available: 1 Insufficient cpu, 1 it said no. no new claims to deallocate, preemption: 0/2 nodes are available: ";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(engine.pending().unschedulable, 1);
    engine.upsert_pod(pod("other", "1", json!({"nodeName": "b"})), seconds(60));
    assert_eq!(next(&mut engine, seconds(60)), "p? a");
}

#[test]
fn what_happens_while_it_thinks_is_not_missed() {
    let mut engine = engine(about_nodes(), &[("a", "4")]);
    engine.upsert_pod(its("p", "2", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p? a");
    engine.upsert_node(node("b", "4", "8Gi", json!({})), T0);
    assert!(words(engine.advised("p", advice(&[], 1), T0)).starts_with("p: 0/2 nodes"));
    // Nothing happens any more.
    assert_eq!(next(&mut engine, seconds(2)), "p? a");
}

#[test]
fn a_node_that_filled_meanwhile_is_not_taken() {
    let mut engine = engine(about_nodes(), &[("a", "2"), ("b", "1")]);
    engine.upsert_pod(its("p", "2", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p? a");
    engine.upsert_pod(pod("quick", "2", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "quick -> a");
    assert_eq!(words(engine.advised("p", advice(&[("a", 10)], 0), T0)), "nothing");
    // It is tried again at once, and no node fits.
    assert!(next(&mut engine, T0).starts_with("p: 0/2 nodes are available: 2 Insufficient cpu"));
    // A pod that is gone, or was changed, is not placed by an old answer.
    let mut engine = self::engine(about_nodes(), &[("a", "4")]);
    engine.upsert_pod(its("p", "1", json!({})), T0);
    engine.upsert_pod(its("q", "1", json!({})), T0);
    assert_eq!([next(&mut engine, T0), next(&mut engine, T0)], ["p? a", "q? a"]);
    engine.remove_pod("p", T0);
    assert_eq!(words(engine.advised("p", advice(&[("a", 10)], 0), T0)), "nothing");
    engine.upsert_pod(its("q", "3", json!({})), T0);
    assert_eq!(words(engine.advised("q", advice(&[("a", 10)], 0), T0)), "nothing");
    assert_eq!(next(&mut engine, T0), "q? a");
    assert_eq!(engine.world().placed_pods(), 0);
}

#[test]
fn nobody_else_waits_for_it() {
    let mut engine = engine(about_nodes(), &[("a", "10")]);
    for name in ["p1", "p2", "p3"] {
        engine.upsert_pod(its(name, "1", json!({"priority": 100})), T0);
    }
    engine.upsert_pod(pod("other", "1", json!({})), T0);
    assert_eq!([next(&mut engine, T0), next(&mut engine, T0)], ["p1? a", "p2? a"]);
    // As many as may be are asked about; one of lower priority has its turn.
    assert_eq!([next(&mut engine, T0), next(&mut engine, T0)], ["other -> a", "nothing"]);
    assert_eq!(engine.wake_at(), None);
    assert_eq!(words(engine.advised("p1", advice(&[("a", 0)], 0), T0)), "p1 -> a");
    assert_eq!(engine.wake_at(), Some(Duration::ZERO));
    assert_eq!(next(&mut engine, T0), "p3? a");
}

#[test]
fn no_answer_is_a_failed_attempt() {
    let mut engine = engine(about_nodes(), &[("a", "10")]);
    engine.upsert_pod(its("p", "1", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p? a");
    assert_eq!(words(engine.advised("p", Err("connection refused".into()), T0)), "p! connection refused");
    assert_eq!(engine.pending().backoff, 1);
    assert_eq!(next(&mut engine, T0), "nothing");
    assert_eq!(next(&mut engine, seconds(1)), "p? a");
}

#[test]
fn it_is_asked_about_so_many_evictions_at_a_time_and_others_need_not_wait() {
    let mut engine = engine(Extender { victims: true, ..Default::default() }, &[("a", "1")]);
    engine.upsert_pod(its("low", "1", json!({"nodeName": "a"})), T0);
    for name in ["p1", "p2", "p3"] {
        engine.upsert_pod(its(name, "1", json!({"priority": 10})), T0);
    }
    assert_eq!([next(&mut engine, T0), next(&mut engine, T0)], ["p1?? a:low", "p2?? a:low"]);
    let told = next(&mut engine, T0);
    assert!(told.starts_with("p3: ") && told.contains("extenders are being asked about as many pods"), "{told}");
    engine.upsert_pod(pod("small", "0", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "small -> a");
    // When one is answered, it is the next one's turn after its pause.
    engine.remove_pod("p1", T0);
    assert_eq!(next(&mut engine, seconds(5)), "p3?? a:low");
}

#[test]
fn it_may_object_to_evictions() {
    let both = || Extender { nodes: true, victims: true, ..Default::default() };
    let check = |answer: &[&str], expected: &str, waits: bool| {
        let mut engine = engine(both(), &[("a", "1"), ("b", "1")]);
        for (name, node, priority) in [("low", "a", 1), ("lower", "b", 0)] {
            engine.upsert_pod(its(name, "1", json!({"nodeName": node, "priority": priority})), T0);
        }
        engine.upsert_pod(its("p", "1", json!({"priority": 10})), T0);
        let Some(Decision::ConsultVictims { pod, mut candidates }) = engine.next(T0) else { panic!("no question") };
        assert_eq!((&*pod.name, candidates.len()), ("p", 2));
        candidates.retain(|candidate| answer.contains(&&*candidate.node));
        let evictions = candidates.iter().map(Eviction::from).collect();
        match engine.advised_victims("p", Ok(evictions), T0) {
            Some(Decision::Unschedulable { victims, .. }) => {
                let said = victims.map_or("nobody".into(), |victims| victims.pods[0].name.to_string());
                assert_eq!(said, expected);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(engine.is_waiting("p"), waits);
        if expected == "nobody" {
            // Anything may change its mind.
            engine.set_namespace(&"elsewhere".into(), Some(Default::default()), seconds(60));
            assert!(matches!(engine.next(seconds(60)), Some(Decision::ConsultVictims { .. })));
        }
    };
    check(&["a", "b"], "lower", true);
    check(&["a"], "low", true);
    check(&[], "nobody", true);
    // It may name whom nobody thought of, if they are there.
    let mut engine = engine(both(), &[("a", "1")]);
    engine.upsert_pod(its("low", "1", json!({"nodeName": "a", "priority": 1})), T0);
    engine.upsert_pod(its("zero", "0", json!({"nodeName": "a", "priority": 1})), T0);
    engine.upsert_pod(its("p", "1", json!({"priority": 10})), T0);
    assert_eq!(next(&mut engine, T0), "p?? a:low");
    let named = |uid: &str| Ok(vec![Eviction { node: "a".into(), pods: vec![uid.into()], violations: 0 }]);
    let Some(Decision::Unschedulable { victims, .. }) = engine.advised_victims("p", named("zero"), T0) else {
        panic!()
    };
    assert_eq!(&*victims.unwrap().pods[0].name, "zero");
    engine.upsert_pod(its("q", "1", json!({"priority": 20})), T0);
    assert_eq!(next(&mut engine, T0), "q?? a:low");
    let said = words(engine.advised_victims("q", named("other"), T0));
    assert!(said.contains("preemption: an extender claims to preempt pod (UID: other) on node: a, but"), "{said}");
}

#[test]
fn a_gang_is_asked_about_as_a_whole() {
    let check = |answers: [&[(&str, i64)]; 2], expected: [&str; 2]| {
        let mut engine = engine(about_nodes(), &[("a", "1"), ("b", "1")]);
        engine.set_group(&"default".into(), &"g".into(), Some(Some(Gang { min_count: 2 })), T0);
        for name in ["p1", "p2"] {
            engine.upsert_pod(its(name, "1", json!({"schedulingGroup": {"podGroupName": "g"}})), T0);
        }
        assert_eq!([next(&mut engine, T0), next(&mut engine, T0)], ["p1? a b", "p2? a b"]);
        assert_eq!(words(engine.advised("p2", advice(answers[1], 0), T0)), "nothing");
        let first = words(engine.advised("p1", advice(answers[0], 0), T0));
        let both = [first, next(&mut engine, T0)];
        for (said, expected) in both.iter().zip(expected) {
            assert!(said.starts_with(expected), "{both:?}");
        }
        let placed = both.iter().filter(|said| said.contains("->")).count();
        assert_eq!(engine.world().placed_pods(), placed);
    };
    check([&[("a", 0), ("b", 0)], &[("a", 0)]], ["p", "p"]);
    check([&[("b", 0)], &[("a", 0)]], ["p1 -> b", "p2 -> a"]);
    // Both may have only the same node: neither is placed.
    check([&[("a", 0)], &[("a", 0)]], ["p1: 0/2 nodes are available: 1 of the 2", "p2: 0/2 nodes"]);
    check([&[("a", 0)], &[]], ["p1: 0/2 nodes are available: 1 of the 2", "p2: 0/2 nodes"]);
}

#[derive(Clone, Debug)]
enum Step {
    Pod {
        id: u8,
        cpu: u8,
        its: bool,
    },
    Gone(u8),
    Node(u8, u8),
    NodeGone(u8),
    Decide,
    /// The answer to one of the open questions: the nodes whose bit is set.
    Answer {
        which: u8,
        nodes: u8,
        fails: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..12, 1u8..5, any::<bool>()).prop_map(|(id, cpu, its)| Step::Pod { id, cpu, its }),
        1 => (0u8..12).prop_map(Step::Gone),
        2 => (0u8..4, 1u8..9).prop_map(|(id, cpu)| Step::Node(id, cpu)),
        1 => (0u8..4).prop_map(Step::NodeGone),
        6 => Just(Step::Decide),
        4 => (any::<u8>(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(which, nodes, fails)| Step::Answer { which, nodes, fails }),
    ]
}

proptest! {
    /// However late the answers come, and whatever happened meanwhile: no node is over-committed or gone, no pod is placed
    /// twice or where its answer did not let it, and none is forgotten.
    #[test]
    fn late_answers_break_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let mut engine = engine(about_nodes(), &[]);
        let mut nodes: BTreeMap<String, i64> = BTreeMap::new();
        let mut pods: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        let mut open: Vec<String> = Vec::new();
        let mut now = T0;
        for step in steps {
            now += Duration::from_secs(3);
            let mut allowed = None;
            let decision = match step {
                Step::Pod { id, cpu, its: asks } => {
                    let name = format!("p{id}");
                    if pods.contains_key(&name) {
                        continue;
                    }
                    let cpus = cpu.to_string();
                    let pod = if asks { its(&name, &cpus, json!({})) } else { pod(&name, &cpus, json!({})) };
                    pods.insert(name, (cpu.into(), None));
                    engine.upsert_pod(pod, now);
                    None
                }
                Step::Gone(id) => {
                    pods.remove(&format!("p{id}"));
                    engine.remove_pod(&format!("p{id}"), now);
                    None
                }
                Step::Node(id, cpu) => {
                    let name = format!("n{id}");
                    let mut node = node(&name, &cpu.to_string(), "64Gi", json!({}));
                    node.allocatable.set_scalar("example.com/it", 100);
                    nodes.insert(name, cpu.into());
                    engine.upsert_node(node, now);
                    None
                }
                Step::NodeGone(id) => {
                    nodes.remove(&format!("n{id}"));
                    engine.remove_node(&format!("n{id}"), now);
                    None
                }
                Step::Decide => engine.next(now),
                Step::Answer { .. } if open.is_empty() => None,
                Step::Answer { which, nodes, fails } => {
                    let uid = open.remove(usize::from(which) % open.len());
                    let named = (0..4).filter(|bit| nodes & (1 << bit) != 0);
                    let named: Vec<String> = named.map(|id| format!("n{id}")).collect();
                    let list: Vec<(&str, i64)> = named.iter().map(|name| (name.as_str(), 3)).collect();
                    let answer = if fails { Err("no answer".to_owned()) } else { advice(&list, 1) };
                    let decision = engine.advised(&uid, answer, now);
                    allowed = Some(named);
                    decision
                }
            };
            match decision {
                Some(Decision::Bind(found)) => {
                    let (name, at) = (found.pod.name.to_string(), found.node.to_string());
                    prop_assert!(allowed.is_none_or(|allowed| allowed.contains(&at)), "{name} on {at}");
                    prop_assert!(pods[&name].1.is_none(), "{name} is placed twice");
                    let on_node = || pods.values().filter(|(_, on)| on.as_deref() == Some(&*at));
                    let used: i64 = on_node().map(|(cpu, _)| cpu).sum();
                    prop_assert!(used + pods[&name].0 <= nodes[&at], "{name} on {at}");
                    prop_assert!(on_node().count() < 3, "too many pods on {at}");
                    pods.get_mut(&name).unwrap().1 = Some(at);
                }
                Some(Decision::Consult { pod, nodes: asked }) => {
                    prop_assert!(!open.contains(&pod.name.to_string()), "{} is asked about twice", pod.name);
                    prop_assert!(asked.iter().all(|name| nodes.contains_key(&**name)));
                    open.push(pod.name.to_string());
                }
                _ => {}
            }
            open.retain(|name| pods.contains_key(name));
            for (name, (_, on)) in &pods {
                let known = on.is_some() || engine.is_waiting(name) || open.contains(name);
                prop_assert!(known, "{name} is forgotten");
            }
        }
    }
}
