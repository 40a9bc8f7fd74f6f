//! Whom preemption evicts, as kube-scheduler's integration tests have it.

use std::time::Duration;

use proptest::prelude::*;
use sched::{Decision, Engine, Options, convert, preempt::Budget, preempt::Victims};
use serde_json::{Value, json};

use crate::{T0, node, seconds};

/// A pod with a priority that runs on a node, or waits (empty).
fn pod(name: &str, cpu: &str, priority: i32, on: &str, extra: Value) -> sched::Pod {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    });
    if !on.is_empty() {
        object["spec"]["nodeName"] = json!(on);
    }
    for (key, value) in extra.as_object().unwrap() {
        object[key.as_str()].as_object_mut().map_or_else(
            || panic!("{key} is no part of a pod here"),
            |part| part.extend(value.as_object().unwrap().clone()),
        );
    }
    // A status is laid over in the same way.
    convert::pod(&serde_json::from_value(object).unwrap()).unwrap()
}

fn engine(nodes: &[&str], pods: Vec<sched::Pod>) -> Engine {
    let mut engine = Engine::new(Options::default());
    for name in nodes {
        engine.upsert_node(node(name, "1", "8Gi", json!({})), T0);
    }
    for pod in pods {
        engine.upsert_pod(pod, T0);
    }
    engine
}

fn victims(engine: &mut Engine, pod: sched::Pod, now: Duration) -> Option<Victims> {
    engine.upsert_pod(pod, now);
    match engine.next(now) {
        Some(Decision::Unschedulable { victims, .. }) => victims,
        other => panic!("expected no node at first: {other:?}"),
    }
}

/// The node and the names of its victims in words.
fn words(victims: Option<Victims>) -> String {
    let Some(victims) = victims else { return "nobody".into() };
    let names: Vec<&str> = victims.pods.iter().map(|pod| &*pod.name).collect();
    format!("{} from {}", names.join(" "), victims.node)
}

#[test]
fn the_least_harm_is_done() {
    let check = |pods: Vec<sched::Pod>, budgets: &[(&str, i32)], expected: &str| {
        let mut engine = engine(&["a", "b"], pods);
        for (app, allowed) in budgets {
            let requirement = sched::labels::Selector::of([("app".into(), (*app).into())]);
            let budget = Budget {
                namespace: "default".into(),
                selector: Some(requirement),
                disruptions_allowed: *allowed,
                disrupted: Vec::new(),
            };
            engine.set_budget(&"default".into(), &(*app).into(), Some(budget));
        }
        let high = pod("high", "600m", 100, "", json!({}));
        assert_eq!(words(victims(&mut engine, high, T0)), expected);
    };
    let on = |name: &str, cpu: &str, priority: i32, node: &str| pod(name, cpu, priority, node, json!({}));
    // The lower of the highest priorities.
    check(vec![on("p1", "1", 10, "a"), on("p2", "1", 5, "b")], &[], "p2 from b");
    // Nobody of the same or a higher priority.
    check(vec![on("p1", "1", 100, "a"), on("p2", "1", 200, "b")], &[], "nobody");
    // Fewer, when priorities are equal.
    check(vec![on("p1", "500m", 5, "a"), on("p2", "500m", 5, "a"), on("p3", "1", 5, "b")], &[], "p3 from b");
    // The more important of a node stays, if that is enough.
    check(vec![on("p1", "400m", 5, "a"), on("p2", "600m", 1, "a"), on("p3", "1", 9, "b")], &[], "p2 from a");
    // A budget counts more than priorities.
    check(vec![on("p1", "1", 10, "a"), on("p2", "1", 5, "b")], &[("p2", 0)], "p1 from a");
    check(vec![on("p1", "1", 10, "a"), on("p2", "1", 5, "b")], &[("p2", 1)], "p2 from b");
    // When there is no other way, it is broken.
    check(vec![on("p1", "1", 10, "a"), on("p2", "1", 5, "b")], &[("p1", 0), ("p2", 0)], "p2 from b");
}

#[test]
fn those_that_were_started_lately_go_first() {
    let started = |name: &str, node: &str, time: &str| {
        let mut object = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"nodeName": node, "priority": 1,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        });
        object["status"] = json!({"startTime": time});
        convert::pod(&serde_json::from_value(object).unwrap()).unwrap()
    };
    let pods = vec![started("old", "a", "2026-01-01T00:00:00Z"), started("young", "b", "2026-01-02T00:00:00Z")];
    let mut engine = engine(&["a", "b"], pods);
    let high = pod("high", "600m", 100, "", json!({}));
    assert_eq!(words(victims(&mut engine, high, T0)), "young from b");
}

#[test]
fn the_freed_node_is_kept_for_the_preemptor() {
    let mut engine = engine(&["a"], vec![pod("low", "1", 1, "a", json!({}))]);
    let high = || pod("high", "1", 100, "", json!({}));
    assert_eq!(words(victims(&mut engine, high(), T0)), "low from a");
    // While the victim is still there, nobody else is evicted, whatever wakes the pod.
    engine.upsert_node(node("b", "500m", "8Gi", json!({})), seconds(20));
    assert!(engine.next(seconds(20)).is_none(), "a node that is too small wakes nobody");
    engine.remove_pod("low", seconds(21));
    // Another one comes first, and leaves the node to whom it was freed for.
    engine.upsert_pod(pod("middle", "1", 50, "", json!({})), seconds(21));
    let mut placed = Vec::new();
    while let Some(decision) = engine.next(seconds(40)) {
        if let Decision::Bind(reservation) = decision {
            placed.push(format!("{} on {}", reservation.pod.name, reservation.node));
        }
    }
    assert_eq!(placed, ["high on a"]);
}

#[test]
fn a_more_important_one_takes_a_freed_node_over() {
    let mut engine = engine(&["a"], vec![pod("low", "1", 1, "a", json!({}))]);
    assert_eq!(words(victims(&mut engine, pod("high", "1", 100, "", json!({})), T0)), "low from a");
    let highest = victims(&mut engine, pod("highest", "1", 200, "", json!({})), seconds(1)).unwrap();
    let displaced: Vec<&str> = highest.displaced.iter().map(|pod| &*pod.name).collect();
    assert_eq!(displaced, ["high"]);
}

#[test]
fn anti_affinity_is_resolved_by_eviction() {
    let anti = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "low"}}}]}}}});
    let others = vec![pod("low", "100m", 1, "a", json!({})), pod("other", "100m", 1, "a", json!({}))];
    let mut engine = engine(&["a"], others);
    assert_eq!(words(victims(&mut engine, pod("high", "100m", 100, "", anti), T0)), "low from a");
}

/// What an eviction is weighed by, where all were started together.
fn harm(victims: &Victims) -> (i32, i64, usize) {
    let priorities = || victims.pods.iter().map(|pod| pod.priority());
    (priorities().max().unwrap(), priorities().map(i64::from).sum(), victims.pods.len())
}

/// A pod's node, name, CPU and priority.
type Running = (usize, String, i64, i32);

proptest! {
    /// Victims are of lower priority, on one node, enough, and none of them in vain.
    #[test]
    fn victims_are_enough_and_none_too_many(
        pods in prop::collection::vec((0usize..4, 1i64..8, 0i32..4), 0..24),
        cpu in 1i64..10,
        priority in 0i32..5,
    ) {
        let names = ["a", "b", "c", "d"];
        let mut used = [0i64; 4];
        let mut running: Vec<Running> = Vec::new();
        for (n, (at, cpu, priority)) in pods.into_iter().enumerate() {
            if used[at] + cpu <= 10 && running.iter().filter(|(other, ..)| *other == at).count() < 3 {
                used[at] += cpu;
                running.push((at, format!("p{n}"), cpu, priority));
            }
        }
        let make = |(at, name, cpu, priority): &Running| {
            pod(name, &format!("{cpu}00m"), *priority, names[*at], json!({}))
        };
        let mut engine = engine(&names, running.iter().map(make).collect());
        // Several of the same kind: what was found out for the first must still be true for the next.
        for round in 0..4u64 {
            let now = seconds(100 * round);
            let name = format!("new{round}");
            let free = |running: &[Running], at: usize, without: &[String]| {
                let left = || running.iter().filter(|(node, name, ..)| *node == at && !without.contains(name));
                left().map(|(_, _, cpu, _)| cpu).sum::<i64>() + cpu <= 10 && left().count() < 3
            };
            engine.upsert_pod(pod(&name, &format!("{cpu}00m"), priority, "", json!({"metadata": {"labels": {}}})), now);
            let mut decision = engine.next(now);
            if let Some(Decision::Unschedulable { victims: Some(victims), .. }) = &decision {
                prop_assert!((0..4).all(|at| !free(&running, at, &[])), "there was room");
                // What is remembered is as good as what is found out anew.
                let mut anew = self::engine(&names, running.iter().map(make).collect());
                let best = self::victims(&mut anew, pod(&name, &format!("{cpu}00m"), priority, "", json!({})), now);
                prop_assert_eq!(harm(victims), harm(&best.unwrap()));
                let at = names.iter().position(|name| **name == *victims.node).unwrap();
                let evicted: Vec<String> = victims.pods.iter().map(|pod| pod.name.to_string()).collect();
                prop_assert!(free(&running, at, &evicted));
                for one in &victims.pods {
                    prop_assert!(one.priority() < priority);
                    let others: Vec<String> = evicted.iter().filter(|name| **name != *one.name).cloned().collect();
                    prop_assert!(!free(&running, at, &others), "{} is evicted in vain", one.name);
                }
                for gone in &evicted {
                    running.retain(|(_, name, ..)| name != gone);
                    engine.remove_pod(gone, now);
                }
                decision = engine.next(now + Duration::from_secs(20));
            }
            match decision {
                Some(Decision::Bind(found)) => {
                    let at = names.iter().position(|name| **name == *found.node).unwrap();
                    prop_assert!(free(&running, at, &[]), "{} is full", found.node);
                    running.push((at, found.pod.name.to_string(), cpu, priority));
                }
                Some(Decision::Unschedulable { victims: None, .. }) => {
                    for (at, node) in names.iter().enumerate() {
                        let lower = running.iter().filter(|(other, _, _, own)| *other == at && *own < priority);
                        let lower: Vec<String> = lower.map(|(_, name, ..)| name.clone()).collect();
                        prop_assert!(lower.is_empty() || !free(&running, at, &lower), "{node} could be freed");
                    }
                    // It would be looked at again in the rounds to come.
                    engine.remove_pod(&name, now);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
