//! Whatever happens in whatever order, each decision is one that the oracle would make.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use sched::{Decision, Engine, Options, Reservation, Spec, convert, labels::Labels};
use serde_json::{Value, json};

use crate::{
    drawn::{APPS, NAMESPACES, NodeShape, PodShape, named_node, node_shape, pod, pod_shape},
    oracle::Cluster,
};

/// From so many nodes on, kube-scheduler is content with a share of them, which is as many at least.
const MIN_FEASIBLE: usize = 100;

/// Nodes that are alike, and pods that run on them from the beginning, one on each.
#[derive(Clone, Debug)]
struct Part {
    nodes: u8,
    shape: NodeShape,
    pods: Vec<PodShape>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Many nodes at once.
    Crowd(Vec<Part>),
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

/// Something happens, to one of so many nodes or to a pod; pods that come have so many rules.
fn step(nodes: u8, rules: std::ops::Range<usize>) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..nodes, node_shape()).prop_map(|(id, shape)| Step::Node(id, shape)),
        1 => (0..nodes, any::<bool>()).prop_map(|(id, renames)| Step::NodeGone(id, renames)),
        8 => (pod_shape(rules), 1u8..5).prop_map(|(shape, count)| Step::Pods(shape, count)),
        2 => any::<u8>().prop_map(Step::PodGone),
        1 => (any::<u8>(), 0u8..3).prop_map(|(pod, app)| Step::Relabel(pod, app)),
        1 => any::<u8>().prop_map(Step::Deleting),
        1 => any::<u8>().prop_map(Step::Fails),
        1 => (0u8..2, any::<bool>()).prop_map(|(id, labelled)| Step::Namespace(id, labelled)),
    ]
}

fn part(nodes: std::ops::Range<u8>) -> impl Strategy<Value = Part> {
    let pods = prop::collection::vec(pod_shape(0..2), 0..4);
    (nodes, node_shape(), pods).prop_map(|(nodes, shape, pods)| Part { nodes, shape, pods })
}

/// A hundred nodes that are alike, and before and behind them a few that are not: often only those few take a pod, because
/// the many are in the wrong zone, have a taint or are too small.
fn crowd() -> impl Strategy<Value = Step> {
    let few = || prop::collection::vec(part(1..6), 0..3);
    (few(), part(100..135), few()).prop_map(|(mut parts, many, behind)| {
        parts.push(many);
        parts.extend(behind);
        Step::Crowd(parts)
    })
}

struct Run {
    engine: Engine,
    cluster: Cluster,
    objects: BTreeMap<String, Value>,
    now: Duration,
    names: usize,
    coarse: usize,
    /// How many names each node has had before.
    renamed: HashMap<u8, usize>,
    /// So many of the best nodes are named with a decision.
    named: usize,
    /// Pods for which a decision was made: of a kind that comes again, all nodes are remembered, so all take part.
    seen: HashSet<(Arc<str>, Arc<Labels>, Arc<Spec>)>,
}

impl Run {
    fn new(coarse: usize, named: usize, seed: u64) -> Self {
        Run {
            engine: Engine::new(Options { coarse_domains: coarse, named, seed, ..Default::default() }),
            cluster: Cluster::default(),
            objects: BTreeMap::new(),
            now: Duration::ZERO,
            names: 0,
            coarse,
            named,
            renamed: HashMap::new(),
            seen: HashSet::new(),
        }
    }

    fn new_pod(&mut self, shape: &PodShape) -> String {
        self.names += 1;
        let name = format!("p{}", self.names);
        self.objects.insert(name.clone(), pod(&name, shape));
        name
    }

    fn node_name(&self, id: u8) -> String {
        match self.renamed.get(&id) {
            None => format!("n{id}"),
            Some(times) => format!("n{id}-{times}"),
        }
    }

    fn set_node(&mut self, id: u8, shape: &NodeShape) {
        let node = named_node(&self.node_name(id), shape);
        self.cluster.nodes.insert(node.name.to_string(), node.clone());
        self.engine.upsert_node(node, self.now);
    }

    fn crowd(&mut self, parts: Vec<Part>) {
        let mut first = 0;
        for Part { nodes, shape, pods } in parts {
            (first..first + nodes).for_each(|id| self.set_node(id, &shape));
            for (id, shape) in (first..first + nodes).zip(pods) {
                let name = self.new_pod(&shape);
                self.objects.get_mut(&name).unwrap()["spec"]["nodeName"] = json!(self.node_name(id));
                let parsed = self.parsed(&name);
                self.cluster.placed.insert(name, (parsed.clone(), self.node_name(id)));
                self.engine.upsert_pod(parsed, self.now);
            }
            first += nodes;
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
            Step::Crowd(parts) => self.crowd(parts),
            Step::Node(id, shape) => self.set_node(id, &shape),
            Step::NodeGone(id, renames) => {
                self.cluster.nodes.remove(&self.node_name(id));
                self.engine.remove_node(&self.node_name(id), self.now);
                if renames {
                    *self.renamed.entry(id).or_default() += 1;
                }
            }
            Step::Pods(shape, count) => {
                let shape = shape.exact(self.coarse);
                for _ in 0..count {
                    let name = self.new_pod(&shape);
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
                    self.bound(&found)?;
                    let placed = ((*found.pod).clone(), found.node.to_string());
                    self.cluster.placed.insert(found.pod.name.to_string(), placed);
                    self.saw(&found.pod);
                }
                Decision::Unschedulable { pod, diagnosis, .. } => {
                    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
                    for rejected in &diagnosis.rejected {
                        for reason in &rejected.rejection.reasons {
                            *reasons.entry(reason.to_string()).or_default() += rejected.nodes;
                        }
                    }
                    prop_assert_eq!((BTreeSet::new(), reasons), self.cluster.sorted(&pod), "{}", pod.name);
                    self.saw(&pod);
                }
                other => panic!("nobody has extenders: {other:?}"),
            }
        }
        Ok(())
    }

    fn saw(&mut self, pod: &sched::Pod) {
        self.seen.insert((pod.namespace.clone(), pod.labels.clone(), pod.spec.clone()));
    }

    /// The node is one of the best; where not all nodes are looked at, of those that are named, which are enough.
    fn bound(&self, found: &Reservation) -> Result<(), TestCaseError> {
        let (name, why) = (&found.pod.name, &found.why);
        let (feasible, reasons) = self.cluster.sorted(&found.pod);
        prop_assert!(feasible.contains(&*found.node), "{name} on {}: {feasible:?}, {reasons:?}", found.node);
        let kind = (found.pod.namespace.clone(), found.pod.labels.clone(), found.pod.spec.clone());
        let nodes = self.cluster.nodes.len();
        let all = nodes < MIN_FEASIBLE || self.seen.contains(&kind);
        let compared = if all {
            feasible
        } else {
            let enough = (nodes * (50 - nodes / 125) / 100).max(MIN_FEASIBLE);
            prop_assert_eq!(why.feasible, feasible.len().min(enough), "{}", name);
            let named: BTreeSet<String> = why.best.iter().map(|candidate| candidate.node.to_string()).collect();
            prop_assert!(named.is_subset(&feasible), "{name}: {named:?}, not {feasible:?}");
            named
        };
        prop_assert_eq!(why.feasible, compared.len(), "{}", name);
        let best = self.cluster.best_of(&found.pod, &compared);
        prop_assert!(best.contains(&*found.node), "{name} on {}, not {best:?}", found.node);
        explained(found, &best, self.named)?;
        let rejected: usize = why.rejected.iter().map(|rejected| rejected.nodes).sum();
        prop_assert!(why.feasible + rejected <= why.nodes && (!all || why.feasible + rejected == why.nodes));
        Ok(())
    }
}

/// What is told of a placement is true: the node that was taken is the first of the best, the points add up, and nobody who
/// has as many is worse.
fn explained(found: &Reservation, best: &BTreeSet<String>, named: usize) -> Result<(), TestCaseError> {
    let why = &found.why;
    prop_assert_eq!(why.best.first().map(|candidate| &candidate.node), Some(&found.node));
    prop_assert!(why.best.len() == why.feasible.min(named), "{} of {}", why.best.len(), why.feasible);
    for candidate in &why.best {
        prop_assert_eq!(candidate.parts.iter().sum::<i64>(), candidate.score);
        prop_assert_eq!(candidate.parts.len(), why.scorers.len());
        prop_assert_eq!(candidate.score == why.best[0].score, best.contains(&*candidate.node));
    }
    prop_assert!(why.best.is_sorted_by_key(|candidate| std::cmp::Reverse(candidate.score)));
    Ok(())
}

fn coarse() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0usize), Just(2), Just(64)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn every_decision_is_one_of_the_oracle(
        steps in prop::collection::vec(step(8, 0..3), 1..60),
        coarse in coarse(),
        seed in any::<u64>(),
    ) {
        let mut run = Run::new(coarse, 3, seed);
        for step in steps {
            run.step(step)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..Default::default() })]

    /// So many that those who come alone look at a part of them only.
    #[test]
    fn among_many_nodes_enough_are_looked_at(
        crowd in crowd(),
        steps in prop::collection::vec(step(160, 1..3), 1..10),
        coarse in coarse(),
        seed in any::<u64>(),
    ) {
        let mut run = Run::new(coarse, usize::MAX, seed);
        for step in [crowd].into_iter().chain(steps) {
            run.step(step)?;
        }
    }
}
