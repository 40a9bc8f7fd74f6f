//! Whoever comes, those are evicted for it whom the oracle would evict, also when what was found out for its like is
//! remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use sched::{
    Decision, Engine, Options, Pod, Reservation, convert,
    labels::Selector,
    preempt::{Budget, Victims},
};
use serde_json::{Value, json};

use crate::{
    drawn::{APPS, NAMESPACES, NodeShape, PodShape, node, node_shape, pod, pod_shape},
    oracle::{Cluster, Eviction},
};

/// A pod of a priority that was started on a day.
#[derive(Clone, Debug)]
struct Occupant {
    shape: PodShape,
    priority: i32,
    day: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Node(u8, NodeShape),
    NodeGone(u8),
    /// A pod appears on a node.
    Runs(u8, Occupant),
    /// Pods of a kind come, one after the other.
    Come(u8, u8),
    /// All victims leave.
    Leave,
    PodGone(u8),
    /// A pod that waits is gone.
    Withdrawn(u8),
    Relabel(u8, u8),
    Deleting(u8),
    /// So many of an app may be evicted; `None`: there is no budget.
    Budget(u8, u8, Option<i32>),
}

/// What a case begins with.
#[derive(Clone, Debug)]
struct Start {
    nodes: Vec<(NodeShape, Vec<Occupant>)>,
    /// Pods that will come, with their priorities.
    kinds: Vec<(PodShape, i32)>,
    budgets: Vec<(u8, u8, i32)>,
    coarse: usize,
    seed: u64,
}

/// Occupants that stand in the way of each other's places, and have so many rules.
fn occupant(rules: std::ops::Range<usize>) -> impl Strategy<Value = Occupant> {
    (pod_shape(rules), -1i32..3, 0u8..3).prop_map(|(shape, priority, day)| Occupant { shape, priority, day })
}

fn kind(rules: std::ops::Range<usize>) -> impl Strategy<Value = (PodShape, i32)> {
    (pod_shape(rules), 1i32..5).prop_map(|(mut shape, priority)| {
        shape.cpu += 8;
        (shape, priority)
    })
}

fn step(rules: std::ops::Range<usize>) -> impl Strategy<Value = Step> {
    let budget = (0u8..2, 0u8..3, prop::option::of(0i32..3));
    prop_oneof![
        2 => (0u8..12, node_shape()).prop_map(|(id, shape)| Step::Node(id, shape)),
        1 => (0u8..12).prop_map(Step::NodeGone),
        4 => (0u8..12, occupant(rules)).prop_map(|(id, occupant)| Step::Runs(id, occupant)),
        8 => (0u8..3, 1u8..4).prop_map(|(kind, pods)| Step::Come(kind, pods)),
        2 => Just(Step::Leave),
        2 => any::<u8>().prop_map(Step::PodGone),
        1 => any::<u8>().prop_map(Step::Withdrawn),
        1 => (any::<u8>(), 0u8..3).prop_map(|(pod, app)| Step::Relabel(pod, app)),
        1 => any::<u8>().prop_map(Step::Deleting),
        1 => budget.prop_map(|(namespace, app, allowed)| Step::Budget(namespace, app, allowed)),
    ]
}

/// In one half nobody has rules about others and there are no budgets: only then what was found out is remembered.
fn case() -> impl Strategy<Value = (Start, Vec<Step>)> {
    any::<bool>().prop_flat_map(|quiet| {
        let rules = if quiet { 0..1 } else { 0..3 };
        let nodes = (node_shape(), prop::collection::vec(occupant(rules.clone()), 1..7));
        let budgets = prop::collection::vec((0u8..2, 0u8..3, 0i32..3), if quiet { 0..1 } else { 1..5 });
        let start = (
            prop::collection::vec(nodes, 4..13),
            prop::collection::vec(kind(rules.clone()), 3),
            budgets,
            prop_oneof![Just(0usize), Just(64)],
            any::<u64>(),
        );
        let start =
            start.prop_map(|(nodes, kinds, budgets, coarse, seed)| Start { nodes, kinds, budgets, coarse, seed });
        let speaks_of_budgets = |step: &Step| matches!(step, Step::Budget(..));
        let steps = prop::collection::vec(step(rules), 1..14).prop_map(move |mut steps| {
            steps.retain(|step| !quiet || !speaks_of_budgets(step));
            steps
        });
        (start, steps)
    })
}

struct Run {
    engine: Engine,
    cluster: Cluster,
    objects: BTreeMap<String, Value>,
    kinds: Vec<(PodShape, i32)>,
    /// Pods that have no node, and the victims of each that are to make room for it.
    waiting: BTreeMap<String, BTreeSet<String>>,
    now: Duration,
    names: u8,
    coarse: usize,
}

impl Run {
    fn new(start: Start) -> Self {
        let Start { nodes, kinds, budgets, coarse, seed } = start;
        let mut run = Run {
            engine: Engine::new(Options { coarse_domains: coarse, seed, ..Default::default() }),
            cluster: Cluster::default(),
            objects: BTreeMap::new(),
            kinds,
            waiting: BTreeMap::new(),
            now: Duration::ZERO,
            names: 0,
            coarse,
        };
        for (id, (shape, occupants)) in (0u8..).zip(nodes) {
            run.set_node(id, &shape);
            occupants.iter().for_each(|occupant| run.runs(id, occupant));
        }
        budgets.into_iter().for_each(|(namespace, app, allowed)| run.set_budget(namespace, app, Some(allowed)));
        run
    }

    fn parsed(&self, name: &str) -> Pod {
        convert::pod(&serde_json::from_value(self.objects[name].clone()).unwrap()).unwrap()
    }

    /// A new pod; no two come at the same time, those apart that run from the beginning.
    fn made(&mut self, shape: &PodShape, priority: i32) -> String {
        self.names += 1;
        let name = format!("p{}", self.names);
        let mut object = pod(&name, &shape.clone().exact(self.coarse));
        object["spec"]["priority"] = json!(priority);
        object["metadata"]["creationTimestamp"] =
            json!(format!("2026-02-01T00:{:02}:{:02}Z", self.names / 60, self.names % 60));
        self.objects.insert(name.clone(), object);
        name
    }

    fn set_node(&mut self, id: u8, shape: &NodeShape) {
        let node = node(id, shape);
        self.cluster.nodes.insert(node.name.to_string(), node.clone());
        self.engine.upsert_node(node, self.now);
    }

    /// A pod appears on a node, unless one is there that is as important: which of the two goes first would be open.
    fn runs(&mut self, node: u8, occupant: &Occupant) {
        let name = self.made(&occupant.shape, occupant.priority);
        let object = self.objects.get_mut(&name).unwrap();
        object["spec"]["nodeName"] = json!(format!("n{node}"));
        object["status"] = json!({"startTime": format!("2026-01-0{}T00:00:00Z", occupant.day + 1)});
        let parsed = self.parsed(&name);
        let equal = |(other, at): &(Pod, String)| {
            *at == format!("n{node}") && (other.priority(), other.started) == (parsed.priority(), parsed.started)
        };
        if !self.cluster.placed.values().any(equal) {
            self.cluster.placed.insert(name, (parsed.clone(), format!("n{node}")));
            self.engine.upsert_pod(parsed, self.now);
        }
    }

    fn set_budget(&mut self, namespace: u8, app: u8, allowed: Option<i32>) {
        let (namespace, app): (Arc<str>, _) = (NAMESPACES[usize::from(namespace)].into(), APPS[usize::from(app)]);
        let budget = allowed.map(|disruptions_allowed| Budget {
            namespace: namespace.clone(),
            selector: Some(Selector::of([("app".into(), app.into())])),
            disruptions_allowed,
            disrupted: vec!["p3".into()],
        });
        self.engine.set_budget(&namespace, &app.into(), budget.clone());
        match budget {
            Some(budget) => self.cluster.budgets.insert(format!("{namespace}/{app}"), budget),
            None => self.cluster.budgets.remove(&format!("{namespace}/{app}")),
        };
    }

    /// A placed pod, chosen by a number.
    fn pick(&self, lot: u8) -> Option<String> {
        let names: Vec<&String> = self.cluster.placed.keys().collect();
        names.get(usize::from(lot) % names.len().max(1)).map(|name| (*name).clone())
    }

    /// A placed pod, chosen by a number, is otherwise now.
    fn change(&mut self, lot: u8, place: &str, key: &str, value: Value) {
        let Some(name) = self.pick(lot) else { return };
        let node = self.cluster.placed[&name].1.clone();
        let object = self.objects.get_mut(&name).unwrap();
        object["spec"]["nodeName"] = json!(node);
        object.pointer_mut(place).unwrap()[key] = value;
        let parsed = self.parsed(&name);
        self.cluster.placed.insert(name, (parsed.clone(), node));
        self.engine.upsert_pod(parsed, self.now);
    }

    fn gone(&mut self, name: &str) {
        self.cluster.placed.remove(name);
        self.cluster.nominated.remove(name);
        self.waiting.remove(name);
        self.engine.remove_pod(name, self.now);
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.now += Duration::from_secs(20);
        match step {
            Step::Node(id, shape) => self.set_node(id, &shape),
            Step::NodeGone(id) => {
                self.cluster.nodes.remove(&format!("n{id}"));
                self.engine.remove_node(&format!("n{id}"), self.now);
            }
            Step::Runs(id, occupant) => self.runs(id, &occupant),
            Step::Come(kind, pods) => {
                let (shape, priority) = self.kinds[usize::from(kind)].clone();
                for _ in 0..pods {
                    let name = self.made(&shape, priority);
                    self.waiting.insert(name.clone(), BTreeSet::new());
                    self.engine.upsert_pod(self.parsed(&name), self.now);
                    self.decide()?;
                }
            }
            Step::Leave => {
                let victims: BTreeSet<String> = self.waiting.values().flatten().cloned().collect();
                victims.iter().for_each(|victim| self.gone(victim));
            }
            Step::PodGone(lot) => self.pick(lot).into_iter().for_each(|name| self.gone(&name)),
            Step::Withdrawn(lot) => {
                let names: Vec<String> = self.waiting.keys().cloned().collect();
                let one = names.get(usize::from(lot) % names.len().max(1));
                one.into_iter().for_each(|name| self.gone(name));
            }
            Step::Relabel(lot, app) => self.change(lot, "/metadata/labels", "app", json!(APPS[usize::from(app)])),
            Step::Deleting(lot) => {
                self.change(lot, "/metadata", "deletionTimestamp", json!("2026-03-01T00:00:00Z"));
            }
            Step::Budget(namespace, app, allowed) => self.set_budget(namespace, app, allowed),
        }
        self.decide()
    }

    /// Makes all decisions that are due, and holds each against the oracle.
    fn decide(&mut self) -> Result<(), TestCaseError> {
        while let Some(decision) = self.engine.next(self.now) {
            match decision {
                Decision::Bind(found) => self.bound(&found)?,
                Decision::Unschedulable { pod, diagnosis, victims, .. } => {
                    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
                    for rejected in &diagnosis.rejected {
                        for reason in &rejected.rejection.reasons {
                            *reasons.entry(reason.to_string()).or_default() += rejected.nodes;
                        }
                    }
                    prop_assert_eq!((BTreeSet::new(), reasons), self.cluster.sorted(&pod), "{}", pod.name);
                    self.unfit(&pod, victims)?;
                }
                other => panic!("nobody has extenders: {other:?}"),
            }
        }
        Ok(())
    }

    fn bound(&mut self, found: &Reservation) -> Result<(), TestCaseError> {
        let name = found.pod.name.to_string();
        let nominated = self.cluster.nominated.get(&name).and_then(|(_, node)| self.cluster.nodes.get(node));
        let best = match nominated.filter(|node| self.cluster.refuses(&found.pod, node).is_none()) {
            Some(node) => [node.name.to_string()].into(),
            None => self.cluster.best_of(&found.pod, &self.cluster.sorted(&found.pod).0),
        };
        prop_assert!(best.contains(&*found.node), "{name} on {}, not {best:?}", found.node);
        self.cluster.nominated.remove(&name);
        self.waiting.remove(&name);
        self.cluster.placed.insert(name, ((*found.pod).clone(), found.node.to_string()));
        Ok(())
    }

    fn unfit(&mut self, pod: &Pod, victims: Option<Victims>) -> Result<(), TestCaseError> {
        let name = pod.name.to_string();
        let best = if self.waits_for_victims(pod) { None } else { Some(self.cluster.least_harm(pod)) };
        let Some(victims) = victims else {
            prop_assert!(best.as_ref().is_none_or(BTreeMap::is_empty), "{name} may have evicted {best:?}");
            if best.is_some() {
                self.forget(&name);
            }
            return Ok(());
        };
        let pods: Vec<String> = victims.pods.iter().map(|victim| victim.name.to_string()).collect();
        let eviction = Eviction { pods, violations: victims.violations };
        let expected = best.as_ref().and_then(|best| best.get(&*victims.node));
        prop_assert_eq!(Some(&eviction), expected, "{} on {}: {:?}", name, victims.node, best);
        let less =
            |(_, (other, at)): &(&String, &(Pod, String))| **at == *victims.node && other.priority() < pod.priority();
        let displaced = self.cluster.nominated.iter().filter(less);
        let displaced: BTreeSet<String> = displaced.map(|(name, _)| name.clone()).collect();
        let told: BTreeSet<String> = victims.displaced.iter().map(|pod| pod.name.to_string()).collect();
        prop_assert_eq!(&told, &displaced, "{}", name);
        displaced.iter().for_each(|other| self.forget(other));
        self.cluster.nominated.insert(name.clone(), (pod.clone(), victims.node.to_string()));
        self.waiting.insert(name, eviction.pods.into_iter().collect());
        Ok(())
    }

    /// No node is being freed for the pod any more.
    fn forget(&mut self, name: &str) {
        self.cluster.nominated.remove(name);
        self.waiting.insert(name.to_owned(), BTreeSet::new());
    }

    /// Whether others are on their way from the node that is being freed for the pod: then nobody else is evicted.
    fn waits_for_victims(&self, pod: &Pod) -> bool {
        let nominated = self.cluster.nominated.get(&*pod.name).and_then(|(_, node)| self.cluster.nodes.get(node));
        let Some(node) = nominated else { return false };
        if self.cluster.refuses(pod, node).is_some_and(|refusal| refusal.unresolvable) {
            return false;
        }
        let leaving =
            |(other, at): &(Pod, String)| **at == *node.name && other.deleting && other.priority() < pod.priority();
        let placed = &self.cluster.placed;
        self.waiting[&*pod.name].iter().any(|victim| placed.contains_key(victim)) || placed.values().any(leaving)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..Default::default() })]

    #[test]
    fn victims_are_those_of_the_oracle((start, steps) in case()) {
        let mut run = Run::new(start);
        run.decide()?;
        for step in steps {
            run.step(step)?;
        }
    }
}
