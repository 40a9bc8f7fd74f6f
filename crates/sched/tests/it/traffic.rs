//! Pods that talk to each other come near each other, as far as spreading allows.

use std::collections::BTreeMap;

use sched::{Decision, Engine, Options, convert, plugins};
use serde_json::{Value, json};

use crate::{T0, words};

fn engine(nodes: &[(&str, &str)]) -> Engine {
    let profile = plugins::default_profile("default-scheduler");
    let profile = plugins::further().into_iter().fold(profile, |profile, (plugin, _)| profile.with(plugin, 10));
    let mut engine = Engine::new(Options { profiles: vec![profile], ..Default::default() });
    for (name, zone) in nodes {
        let object = json!({
            "metadata": {"name": name,
                "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
            "status": {"allocatable": {"cpu": "64", "memory": "64Gi", "pods": "110"}},
        });
        engine.upsert_node(convert::node(&serde_json::from_value(object).unwrap()).unwrap(), T0);
    }
    engine
}

fn pod(name: &str, app: &str, talks: &str, spec: Value) -> sched::Pod {
    let annotations = json!({"scheduler.plinth.io/talks-to": talks, "other": "x"});
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
    });
    if !talks.is_empty() {
        object["metadata"]["annotations"] = annotations;
    }
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    convert::pod(&serde_json::from_value(object).unwrap()).unwrap()
}

const NODES: [(&str, &str); 4] = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")];

fn place(engine: &mut Engine, pod: sched::Pod) -> String {
    engine.upsert_pod(pod, T0);
    match engine.next(T0) {
        Some(Decision::Bind(found)) => found.node.to_string(),
        other => words(other),
    }
}

#[test]
fn a_pod_goes_where_those_are_that_it_talks_to() {
    let check = |talks: &str, expected: &str| {
        let mut engine = engine(&NODES);
        for (name, app, node) in [("c", "cache", "b1"), ("s", "sql", "a1")] {
            engine.upsert_pod(pod(name, app, "", json!({"nodeName": node})), T0);
        }
        assert_eq!(place(&mut engine, pod("w", "web", talks, json!({}))), expected, "{talks}");
    };
    check("app=cache:10", "b1");
    check("app=sql:10", "a1");
    // More to the one than to the other.
    check("app=sql:10; app=cache:50", "b1");
    check("app=sql:50; app=cache:10", "a1");
}

#[test]
fn a_pod_goes_where_those_are_that_talk_to_it() {
    let mut engine = engine(&NODES);
    engine.upsert_pod(pod("w", "web", "app=cache:10", json!({"nodeName": "b2"})), T0);
    assert_eq!(place(&mut engine, pod("c", "cache", "", json!({}))), "b2");
    // If not on the node, then in the zone.
    let full = json!({"nodeSelector": {"kubernetes.io/hostname": "b1"}});
    assert_eq!(place(&mut engine, pod("c2", "cache", "", full)), "b1");
}

#[test]
fn where_most_of_them_are_is_best() {
    let mut engine = engine(&NODES);
    for (name, node) in [("c1", "a1"), ("c2", "b1"), ("c3", "b2"), ("c4", "b2")] {
        engine.upsert_pod(pod(name, "cache", "", json!({"nodeName": node})), T0);
    }
    assert_eq!(place(&mut engine, pod("w", "web", "app=cache:7", json!({}))), "b2");
}

#[test]
fn spreading_sets_the_limit() {
    let mut engine = engine(&NODES);
    engine.upsert_pod(pod("c", "cache", "", json!({"nodeName": "a1"})), T0);
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let mut zones: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..10 {
        let node = place(&mut engine, pod(&format!("w{n}"), "web", "app=cache:10", spread.clone()));
        *zones.entry(node[..1].to_owned()).or_default() += 1;
    }
    // As many more where the cache is as may be.
    assert_eq!(zones, [("a".to_owned(), 6), ("b".to_owned(), 4)].into());
}

#[test]
fn an_annotation_that_cannot_be_read_is_told() {
    let mut engine = engine(&NODES);
    let said = place(&mut engine, pod("w", "web", "app=cache:fast", json!({})));
    let expected =
        "w: 0/4 nodes are available: scheduler.plinth.io/talks-to: \"fast\" in \"app=cache:fast\" is not a rate.";
    assert!(said.starts_with(expected), "{said}");
}
