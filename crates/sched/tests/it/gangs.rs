//! Pods that are placed together or not at all.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use sched::{Decision, Engine, Options, convert, framework::Gang};
use serde_json::{Value, json};

use crate::{T0, node, seconds};

fn pod(name: &str, group: &str, cpu: &str, extra: Value) -> sched::Pod {
    let mut spec = json!({"schedulingGroup": {"podGroupName": group},
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let object = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec});
    convert::pod(&serde_json::from_value(object).unwrap()).unwrap()
}

fn group(engine: &mut Engine, name: &str, min_count: usize, now: Duration) {
    engine.set_group(&"default".into(), &name.into(), Some(Some(Gang { min_count })), now);
}

/// All decisions that are due: who was placed, and what the others were told.
fn decisions(engine: &mut Engine, now: Duration) -> (Vec<String>, Vec<String>) {
    let (mut placed, mut told) = (Vec::new(), Vec::new());
    while let Some(decision) = engine.next(now) {
        match decision {
            Decision::Bind(found) => placed.push(found.pod.name.to_string()),
            Decision::Unschedulable { pod, diagnosis, .. } => {
                told.push(format!("{}: {}", pod.name, diagnosis.message()))
            }
            Decision::KeptOut { pod, plugin, reason } => told.push(format!("{} {plugin}: {reason}", pod.name)),
            other => panic!("nobody has extenders: {other:?}"),
        }
    }
    placed.sort();
    told.sort();
    (placed, told)
}

#[test]
fn nobody_is_looked_at_before_all_are_there() {
    let mut engine = Engine::new(Options::default());
    engine.upsert_node(node("a", "4", "8Gi", json!({})), T0);
    engine.upsert_pod(pod("p1", "g", "1", json!({})), T0);
    assert_eq!(decisions(&mut engine, T0), (vec![], vec![]));
    assert_eq!(engine.pending().gated, 1);
    group(&mut engine, "g", 2, T0);
    assert_eq!(decisions(&mut engine, T0), (vec![], vec![]));
    let told = "p1 GangScheduling: waiting for minCount pods from a gang to appear in scheduling queue";
    assert_eq!(decisions(&mut engine, seconds(1)), (vec![], vec![told.into()]));
    engine.upsert_pod(pod("p2", "g", "1", json!({})), T0);
    assert_eq!(decisions(&mut engine, T0), (vec!["p1".into(), "p2".into()], vec![]));
    let told = "q GangScheduling: waiting for pods's pod group \"h\" to appear in scheduling queue";
    engine.upsert_pod(pod("q", "h", "1", json!({})), T0);
    assert_eq!(decisions(&mut engine, seconds(1)), (vec![], vec![told.into()]));
    // Its group comes, and lacks pods: that is another reason.
    group(&mut engine, "h", 2, seconds(1));
    let told = "q GangScheduling: waiting for minCount pods from a gang to appear in scheduling queue";
    assert_eq!(decisions(&mut engine, seconds(1)), (vec![], vec![told.into()]));
    engine.remove_pod("q", T0);
    // Those that come later join it at once.
    engine.upsert_pod(pod("p3", "g", "1", json!({})), T0);
    assert_eq!(decisions(&mut engine, T0).0, ["p3"]);
}

#[test]
fn too_little_room_places_none_and_says_so() {
    let mut engine = Engine::new(Options::default());
    engine.upsert_node(node("a", "2", "8Gi", json!({})), T0);
    group(&mut engine, "g", 3, T0);
    for name in ["p1", "p2", "p3"] {
        engine.upsert_pod(pod(name, "g", "1", json!({})), T0);
    }
    let (placed, told) = decisions(&mut engine, T0);
    assert_eq!(placed, Vec::<String>::new());
    let few = "0/1 nodes are available: 2 of the 3 pods that pod group \"g\" needs can be placed.";
    assert_eq!(
        told,
        [format!("p1: {few}"), format!("p2: {few}"), "p3: 0/1 nodes are available: 1 Insufficient cpu.".to_owned(),]
    );
    // The room is not held meanwhile.
    let single = json!({"metadata": {"name": "s", "namespace": "default", "uid": "s"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    engine.upsert_pod(convert::pod(&serde_json::from_value(single).unwrap()).unwrap(), T0);
    assert_eq!(decisions(&mut engine, T0).0, ["s"]);
    // A node that is large enough for one wakes all.
    engine.upsert_node(node("b", "4", "8Gi", json!({})), seconds(30));
    assert_eq!(decisions(&mut engine, seconds(60)).0, ["p1", "p2", "p3"]);
}

#[test]
fn a_basic_group_is_placed_one_by_one() {
    let mut engine = Engine::new(Options::default());
    engine.upsert_node(node("a", "1", "8Gi", json!({})), T0);
    engine.set_group(&"default".into(), &"g".into(), Some(None), T0);
    for name in ["p1", "p2"] {
        engine.upsert_pod(pod(name, "g", "1", json!({})), T0);
    }
    assert_eq!(decisions(&mut engine, T0).0, ["p1"]);
}

/// So many fit on a node of these tests.
const PODS: i64 = 3;

proptest! {
    /// Several gangs at once, on nodes that do not suffice for all: each is placed as a whole or not at all, no node is
    /// overfull, and no gang is left waiting that fits beside those that are placed.
    #[test]
    fn gangs_are_whole_and_do_not_block_each_other(
        gangs in prop::collection::vec((1usize..5, 1i64..4), 1..6),
        nodes in prop::collection::vec(1i64..8, 1..5),
    ) {
        let mut engine = Engine::new(Options::default());
        for (n, cpu) in nodes.iter().enumerate() {
            engine.upsert_node(node(&format!("n{n}"), &cpu.to_string(), "64Gi", json!({})), T0);
        }
        let mut cpus = BTreeMap::new();
        for (g, (size, cpu)) in gangs.iter().enumerate() {
            group(&mut engine, &format!("g{g}"), *size, T0);
            for p in 0..*size {
                cpus.insert(format!("g{g}-{p}"), *cpu);
                engine.upsert_pod(pod(&format!("g{g}-{p}"), &format!("g{g}"), &cpu.to_string(), json!({})), T0);
            }
        }
        let mut placed: BTreeMap<String, usize> = BTreeMap::new();
        // By node: so much CPU, and so many pods.
        let mut used: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for tick in 0..4 {
            while let Some(decision) = engine.next(seconds(400 * tick)) {
                if let Decision::Bind(found) = decision {
                    let cpu = cpus[&*found.pod.name];
                    *placed.entry(found.pod.group.as_ref().unwrap().to_string()).or_default() += 1;
                    let used = used.entry(found.node.to_string()).or_default();
                    *used = (used.0 + cpu, used.1 + 1);
                }
            }
        }
        for (g, (size, _)) in gangs.iter().enumerate() {
            let found = placed.get(&format!("g{g}")).copied().unwrap_or(0);
            prop_assert!(found == 0 || found == *size, "{found} of {size} of g{g}");
        }
        for (n, cpu) in nodes.iter().enumerate() {
            let name = format!("n{n}");
            prop_assert!(used.get(&name).is_none_or(|(used, _)| used <= cpu));
        }
        // What was placed is assumed; what was undone has left nothing behind.
        prop_assert_eq!(engine.world().placed_pods(), placed.values().sum::<usize>());
        let waiting = gangs.iter().enumerate().filter(|(g, _)| !placed.contains_key(&format!("g{g}")));
        for (g, (size, cpu)) in waiting {
            let room: i64 = nodes.iter().enumerate().map(|(n, all)| {
                let (cpus, pods) = used.get(&format!("n{n}")).copied().unwrap_or_default();
                ((all - cpus) / cpu).min(PODS - pods)
            }).sum();
            prop_assert!(room < i64::try_from(*size).unwrap(), "g{g} would fit");
        }
    }
}
