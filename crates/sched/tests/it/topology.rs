//! Nodes come and go, with ever new names and in ever other zones: nothing of those that are gone is left, in memory or in a
//! decision.

use std::time::Duration;

use sched::{Engine, Options, convert};
use serde_json::{Value, json};

use super::{T0, next, pod, seconds};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "zone";

fn engine(coarse_domains: usize) -> Engine {
    Engine::new(Options { coarse_domains, ..Default::default() })
}

fn node(name: &str, zone: &str, cpu: &str) -> sched::Node {
    let object = json!({
        "metadata": {"name": name, "labels": {HOSTNAME: name, ZONE: zone}},
        "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "100"}},
    });
    convert::node(&serde_json::from_value(object).unwrap()).unwrap()
}

/// A pod that is alone in its domain, and has its node already if one is named.
fn loner(name: &str, key: &str, node: Option<&str>) -> sched::Pod {
    let object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "x"}},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": "x"}}}]}},
        },
    });
    convert::pod(&serde_json::from_value(object).unwrap()).unwrap()
}

fn place(engine: &mut Engine, pod: sched::Pod, now: Duration) -> String {
    engine.upsert_pod(pod, now);
    next(engine, now)
}

#[test]
fn nodes_that_are_gone_take_no_room() {
    for (coarse, nodes) in [(0, 1_000), (2, 1_000), (64, 10_000)] {
        let mut engine = engine(coarse);
        engine.upsert_node(node("stays", "a", "4"), T0);
        engine.upsert_pod(loner("first", HOSTNAME, Some("stays")), T0);
        for n in 0..nodes {
            let (name, pod) = (format!("n{n}"), format!("p{n}"));
            engine.upsert_node(node(&name, "a", "4"), T0);
            assert_eq!(place(&mut engine, loner(&pod, HOSTNAME, None), T0), format!("{pod} -> {name}"));
            if n % 3 == 0 {
                engine.remove_pod(&pod, T0);
            }
            engine.remove_node(&name, T0);
            match n % 3 {
                1 => engine.remove_pod(&pod, T0),
                // When the next node is there.
                2 => engine.upsert_node(node(&format!("n{}", n + 1), "a", "4"), T0),
                _ => {}
            }
            engine.remove_pod(&pod, T0);
        }
        let world = engine.world();
        assert!(world.node_slots() <= 3, "{} nodes", world.node_slots());
        assert_eq!(world.domain_slots(), 2);
    }
}

#[test]
fn pods_of_a_node_that_is_gone_count_for_no_other() {
    for coarse in [0, 2, 64] {
        let mut engine = engine(coarse);
        let full = |pod: &str, nodes: usize| {
            format!("{pod}: 0/{nodes} nodes are available: {nodes} node(s) didn't match pod anti-affinity rules")
        };
        let check = |engine: &mut Engine, pod: &str, expected: &str, now: u64| {
            let said = place(engine, loner(pod, HOSTNAME, None), seconds(now));
            assert!(said.starts_with(expected), "{coarse}: {said}, not {expected}");
        };
        engine.upsert_node(node("a", "a", "4"), T0);
        check(&mut engine, "p1", "p1 -> a", 0);
        check(&mut engine, "p2", &full("p2", 1), 0);
        check(&mut engine, "p3", &full("p3", 1), 0);
        engine.remove_pod("p2", T0);
        engine.remove_pod("p3", T0);
        // The next has the number of a's domain, while the pod is still on a.
        engine.remove_node("a", T0);
        engine.upsert_node(node("b", "a", "4"), T0);
        check(&mut engine, "p4", "p4 -> b", 1);
        engine.remove_pod("p1", seconds(1));
        check(&mut engine, "p5", &full("p5", 1), 1);
        engine.remove_pod("p5", seconds(1));
        // A node that comes back finds its pods, and a domain of its own.
        engine.remove_node("b", seconds(1));
        engine.upsert_node(node("c", "a", "4"), seconds(1));
        engine.upsert_node(node("b", "a", "4"), seconds(1));
        check(&mut engine, "p6", "p6 -> c", 2);
        check(&mut engine, "p7", &full("p7", 2), 2);
        engine.remove_pod("p7", seconds(2));
        engine.remove_pod("p4", seconds(2));
        check(&mut engine, "p8", "p8 -> b", 3);
    }
}

#[test]
fn what_is_known_of_many_domains_does_not_hold_for_few() {
    let mut engine = engine(2);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b", "b"), ("c", "c")] {
        engine.upsert_node(node(name, zone, "4"), T0);
    }
    for n in 1..=3 {
        let said = place(&mut engine, loner(&format!("p{n}"), ZONE, None), T0);
        assert!(said.starts_with(&format!("p{n} -> ")), "{said}");
    }
    let said = place(&mut engine, loner("p4", ZONE, None), T0);
    assert!(said.starts_with("p4: 0/4"), "{said}");
    for n in 1..=4 {
        engine.remove_pod(&format!("p{n}"), T0);
    }
    engine.remove_node("b", T0);
    engine.remove_node("c", T0);
    // Now a pod on one node is no change of the other in its zone, and speaks against it all the same.
    let said = place(&mut engine, loner("p5", ZONE, None), T0);
    assert!(said.starts_with("p5 -> a"), "{said}");
    let said = place(&mut engine, loner("p6", ZONE, None), T0);
    assert!(said.starts_with("p6: 0/2"), "{said}");
    // And the other way round.
    for name in ["d", "e"] {
        engine.upsert_node(node(name, name, "4"), T0);
    }
    engine.remove_pod("p6", T0);
    for n in 7..=8 {
        let said = place(&mut engine, loner(&format!("p{n}"), ZONE, None), T0);
        assert!(said.ends_with("-> d") || said.ends_with("-> e"), "{said}");
    }
    let said = place(&mut engine, loner("p9", ZONE, None), T0);
    assert!(said.starts_with("p9: 0/4"), "{said}");
}

#[test]
fn a_plan_that_is_too_far_behind_knows_no_node_that_is_gone() {
    let mut engine = engine(64);
    engine.upsert_node(node("small", "a", "4"), T0);
    engine.upsert_node(node("large", "a", "64"), T0);
    let plain = |name: &str, spec: Value| pod(name, "100m", spec);
    for n in 1..=2 {
        assert_eq!(place(&mut engine, plain(&format!("p{n}"), json!({})), T0), format!("p{n} -> large"));
        engine.remove_pod(&format!("p{n}"), T0);
    }
    engine.remove_node("large", T0);
    // More changes than are remembered.
    let other = plain("other", json!({"nodeName": "small"}));
    for _ in 0..33_000 {
        engine.upsert_pod(other.clone(), T0);
        engine.remove_pod("other", T0);
    }
    assert_eq!(place(&mut engine, plain("p3", json!({})), T0), "p3 -> small");
}
