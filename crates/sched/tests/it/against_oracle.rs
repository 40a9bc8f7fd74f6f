//! Whatever happens in whatever order, each decision is one that the oracle would make.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use sched::{Decision, Engine, Options, Reservation, convert};
use serde_json::{Value, json};

use crate::oracle::{Cluster, Verdict};

const APPS: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 2] = ["one", "two"];
const KEYS: [&str; 3] = ["zone", "rack", "kubernetes.io/hostname"];

#[derive(Clone, Debug)]
struct NodeShape {
    cpu: u8,
    zone: Option<u8>,
    rack: Option<u8>,
    taint: u8,
    cordoned: bool,
    disk: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    kind: u8,
    key: u8,
    app: u8,
    namespaces: u8,
    number: u8,
    policies: u8,
}

#[derive(Clone, Debug)]
struct PodShape {
    namespace: u8,
    app: u8,
    cpu: u8,
    rules: Vec<Rule>,
    disk: u8,
    tolerates: bool,
    port: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Node(u8, NodeShape),
    /// If it is told so, the next one in its place has a name that there never was.
    NodeGone(u8, bool),
    /// Several pods of one kind, so that kept plans are used.
    Pods(PodShape, u8),
    PodGone(u8),
    /// A pod's labels change.
    Relabel(u8, u8),
    Deleting(u8),
    /// A binding fails.
    Fails(u8),
    Namespace(u8, bool),
}

fn node_shape() -> impl Strategy<Value = NodeShape> {
    let places = (prop::option::weighted(0.9, 0u8..3), prop::option::weighted(0.8, 0u8..4));
    (1u8..6, places, 0u8..8, prop::bool::weighted(0.1), any::<bool>())
        .prop_map(|(cpu, (zone, rack), taint, cordoned, disk)| NodeShape { cpu, zone, rack, taint, cordoned, disk })
}

fn rule() -> impl Strategy<Value = Rule> {
    (0u8..8, 0u8..3, 0u8..3, 0u8..4, 1u8..4, 0u8..4).prop_map(|(kind, key, app, namespaces, number, policies)| Rule {
        kind,
        key,
        app,
        namespaces,
        number,
        policies,
    })
}

fn pod_shape() -> impl Strategy<Value = PodShape> {
    let rules = prop::collection::vec(rule(), 0..3);
    (0u8..2, 0u8..3, 0u8..20, rules, 0u8..6, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(namespace, app, cpu, rules, disk, tolerates, port)| PodShape {
            namespace,
            app,
            cpu,
            rules,
            disk,
            tolerates,
            port,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..8, node_shape()).prop_map(|(id, shape)| Step::Node(id, shape)),
        1 => (0u8..8, any::<bool>()).prop_map(|(id, renames)| Step::NodeGone(id, renames)),
        8 => (pod_shape(), 1u8..5).prop_map(|(shape, count)| Step::Pods(shape, count)),
        2 => any::<u8>().prop_map(Step::PodGone),
        1 => (any::<u8>(), 0u8..3).prop_map(|(pod, app)| Step::Relabel(pod, app)),
        1 => any::<u8>().prop_map(Step::Deleting),
        1 => any::<u8>().prop_map(Step::Fails),
        1 => (0u8..2, any::<bool>()).prop_map(|(id, labelled)| Step::Namespace(id, labelled)),
    ]
}

fn node(name: &str, shape: &NodeShape) -> sched::Node {
    let mut labels = json!({"kubernetes.io/hostname": name});
    for (key, value) in [("zone", shape.zone), ("rack", shape.rack)] {
        if let Some(value) = value {
            labels[key] = json!(format!("{key}{value}"));
        }
    }
    if shape.disk {
        labels["disk"] = json!("ssd");
    }
    let taints = match shape.taint {
        0 => json!([{"key": "t", "value": "v", "effect": "NoSchedule"}]),
        1 | 2 => json!([{"key": "t", "value": "v", "effect": "PreferNoSchedule"}]),
        _ => json!([]),
    };
    let object = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": shape.cordoned},
        "status": {"allocatable": {"cpu": shape.cpu.to_string(), "memory": "4Gi", "pods": "9"}},
    });
    convert::node(&serde_json::from_value(object).unwrap()).unwrap()
}

fn pod(name: &str, shape: &PodShape) -> Value {
    let mut spec =
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{}00m", shape.cpu)}}}]});
    if shape.port {
        spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    }
    if shape.tolerates {
        spec["tolerations"] = json!([{"key": "t", "operator": "Exists"}]);
    }
    let ssd = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]});
    match shape.disk {
        0 => spec["nodeSelector"] = json!({"disk": "ssd"}),
        1 => {
            spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([{"weight": 7, "preference": ssd}]);
        }
        _ => {}
    }
    for rule in &shape.rules {
        add_rule(&mut spec, rule);
    }
    let labels = json!({"app": APPS[usize::from(shape.app)]});
    let namespace = NAMESPACES[usize::from(shape.namespace)];
    json!({"metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels}, "spec": spec})
}

fn add_rule(spec: &mut Value, rule: &Rule) {
    let key = KEYS[usize::from(rule.key)];
    let selector = json!({"matchLabels": {"app": APPS[usize::from(rule.app)]}});
    let mut term = json!({"topologyKey": key, "labelSelector": selector});
    match rule.namespaces {
        0 => term["namespaceSelector"] = json!({}),
        1 => term["namespaceSelector"] = json!({"matchLabels": {"team": "x"}}),
        2 => term["namespaces"] = json!(["one"]),
        _ => {}
    }
    let weighted = json!({"weight": rule.number, "podAffinityTerm": term});
    let (required, preferred) =
        ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
    let (place, value) = match rule.kind {
        0 => (&mut spec["affinity"]["podAffinity"][required], term),
        1 | 2 => (&mut spec["affinity"]["podAntiAffinity"][required], term),
        3 => (&mut spec["affinity"]["podAffinity"][preferred], weighted),
        4 => (&mut spec["affinity"]["podAntiAffinity"][preferred], weighted),
        kind => {
            let when = if kind == 5 { "ScheduleAnyway" } else { "DoNotSchedule" };
            let mut constraint = json!({"topologyKey": key, "maxSkew": rule.number, "whenUnsatisfiable": when,
                "labelSelector": selector});
            if rule.policies & 1 == 1 {
                constraint["nodeTaintsPolicy"] = json!("Honor");
            }
            if rule.policies & 2 == 2 {
                constraint["nodeAffinityPolicy"] = json!("Ignore");
                if when == "DoNotSchedule" {
                    constraint["minDomains"] = json!(3);
                }
            }
            (&mut spec["topologySpreadConstraints"], constraint)
        }
    };
    match place.as_array_mut() {
        Some(list) => list.push(value),
        None => *place = json!([value]),
    }
}

struct Run {
    engine: Engine,
    cluster: Cluster,
    objects: BTreeMap<String, Value>,
    now: Duration,
    names: usize,
    coarse: usize,
    /// How many names each node has had before.
    renamed: [usize; 8],
}

impl Run {
    fn node_name(&self, id: u8) -> String {
        match self.renamed[usize::from(id)] {
            0 => format!("n{id}"),
            times => format!("n{id}-{times}"),
        }
    }

    fn parsed(&self, name: &str) -> sched::Pod {
        convert::pod(&serde_json::from_value(self.objects[name].clone()).unwrap()).unwrap()
    }

    /// A placed pod, chosen by a number.
    fn pick(&self, lot: u8) -> Option<String> {
        let names: Vec<&String> = self.cluster.placed.keys().collect();
        names.get(usize::from(lot) % names.len().max(1)).map(|name| (*name).clone())
    }

    /// A placed pod has changed.
    fn changed(&mut self, name: &str) {
        let node = self.cluster.placed[name].1.clone();
        self.objects.get_mut(name).unwrap()["spec"]["nodeName"] = json!(node);
        let parsed = self.parsed(name);
        self.cluster.placed.insert(name.to_owned(), (parsed.clone(), node));
        self.engine.upsert_pod(parsed, self.now);
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.now += Duration::from_secs(20);
        match step {
            Step::Node(id, shape) => {
                let node = node(&self.node_name(id), &shape);
                self.cluster.nodes.insert(node.name.to_string(), node.clone());
                self.engine.upsert_node(node, self.now);
            }
            Step::NodeGone(id, renames) => {
                self.cluster.nodes.remove(&self.node_name(id));
                self.engine.remove_node(&self.node_name(id), self.now);
                self.renamed[usize::from(id)] += usize::from(renames);
            }
            Step::Pods(mut shape, count) => {
                if self.coarse < 64 {
                    // How much a domain of many weighs is estimated, but for host names.
                    shape.rules.iter_mut().filter(|rule| rule.kind == 5).for_each(|rule| rule.key = 2);
                }
                for _ in 0..count {
                    self.names += 1;
                    let name = format!("p{}", self.names);
                    self.objects.insert(name.clone(), pod(&name, &shape));
                    let parsed = self.parsed(&name);
                    self.engine.upsert_pod(parsed, self.now);
                    self.decide()?;
                }
            }
            Step::PodGone(lot) => {
                if let Some(name) = self.pick(lot) {
                    self.cluster.placed.remove(&name);
                    self.engine.remove_pod(&name, self.now);
                }
            }
            Step::Relabel(lot, app) => {
                if let Some(name) = self.pick(lot) {
                    let object = self.objects.get_mut(&name).unwrap();
                    object["metadata"]["labels"]["app"] = json!(APPS[usize::from(app)]);
                    self.changed(&name);
                }
            }
            Step::Deleting(lot) => {
                if let Some(name) = self.pick(lot) {
                    self.objects.get_mut(&name).unwrap()["metadata"]["deletionTimestamp"] =
                        json!("2026-01-01T00:00:00Z");
                    self.changed(&name);
                }
            }
            Step::Fails(lot) => {
                if let Some(name) = self.pick(lot)
                    && self.engine.world().is_assumed(&name)
                {
                    self.cluster.placed.remove(&name);
                    self.engine.undo(&name, self.now);
                }
            }
            Step::Namespace(id, labelled) => {
                let name = NAMESPACES[usize::from(id)];
                let labels = if labelled { vec![("team".into(), "x".into())] } else { Vec::new() };
                self.cluster.namespaces.insert(name.to_owned(), labels.clone());
                self.engine.set_namespace(&name.into(), Some(labels), self.now);
            }
        }
        self.decide()
    }

    /// Makes all decisions that are due, and holds each against the oracle.
    fn decide(&mut self) -> Result<(), TestCaseError> {
        while let Some(decision) = self.engine.next(self.now) {
            match decision {
                Decision::Bind(found) => {
                    let verdict = self.cluster.judge(&found.pod);
                    let Verdict::Best(best) = &verdict else {
                        return Err(TestCaseError::fail(format!("{} on {}: {verdict:?}", found.pod.name, found.node)));
                    };
                    prop_assert!(best.contains(&*found.node), "{} on {}, not {best:?}", found.pod.name, found.node);
                    explained(&found, best)?;
                    let placed = ((*found.pod).clone(), found.node.to_string());
                    self.cluster.placed.insert(found.pod.name.to_string(), placed);
                }
                Decision::Unschedulable { pod, diagnosis, .. } => {
                    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
                    for rejected in &diagnosis.rejected {
                        for reason in &rejected.rejection.reasons {
                            *reasons.entry(reason.to_string()).or_default() += rejected.nodes;
                        }
                    }
                    prop_assert_eq!(Verdict::Unfit(reasons), self.cluster.judge(&pod), "{}", pod.name);
                }
                other => panic!("nobody has extenders: {other:?}"),
            }
        }
        Ok(())
    }
}

/// What is told of a placement is true: the node that was taken is the first of the best, the points add up, and nobody who
/// has as many is worse.
fn explained(found: &Reservation, best: &BTreeSet<String>) -> Result<(), TestCaseError> {
    let why = &found.why;
    prop_assert_eq!(why.best.first().map(|candidate| &candidate.node), Some(&found.node));
    prop_assert!(why.best.len() == why.feasible.min(3), "{} of {}", why.best.len(), why.feasible);
    for candidate in &why.best {
        prop_assert_eq!(candidate.parts.iter().sum::<i64>(), candidate.score);
        prop_assert_eq!(candidate.parts.len(), why.scorers.len());
        prop_assert_eq!(candidate.score == why.best[0].score, best.contains(&*candidate.node));
    }
    prop_assert!(why.best.is_sorted_by_key(|candidate| std::cmp::Reverse(candidate.score)));
    let rejected: usize = why.rejected.iter().map(|rejected| rejected.nodes).sum();
    prop_assert_eq!(why.feasible + rejected, why.nodes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn every_decision_is_one_of_the_oracle(
        steps in prop::collection::vec(step(), 1..60),
        coarse in prop_oneof![Just(0usize), Just(2), Just(64)],
        seed in any::<u64>(),
    ) {
        let engine = Engine::new(Options { coarse_domains: coarse, seed, ..Default::default() });
        let mut run = Run {
            engine, cluster: Cluster::default(), objects: BTreeMap::new(), now: Duration::ZERO, names: 0, coarse,
            renamed: [0; 8],
        };
        for step in steps {
            run.step(step)?;
        }
    }
}
