//! Pods of a kind are spread over the domains of a topology: as a rule (DoNotSchedule), or as far as it goes
//! (ScheduleAnyway).

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Group, GroupFilter, GroupScore, Grouping, MAX_SCORE, Plugin, Point, PreFilter, PreScore},
    labels::Selector,
    pod::{Peers, SpreadConstraint},
    world::{CounterId, CounterKey, Domain, Eligibility, TopologyId, What, World},
};

const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
const MISSING: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// In a key: the node has no such label.
const NONE: i64 = -1;

/// PodTopologySpreadArgs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Args {
    /// The constraints that kube-scheduler comes with.
    #[default]
    System,
    /// These for pods without any of their own.
    List(Vec<SpreadConstraint>),
}

pub struct PodTopologySpread {
    defaults: Vec<SpreadConstraint>,
    system: bool,
}

impl PodTopologySpread {
    pub fn new(args: &Args) -> Self {
        let soft = |topology_key: &str, max_skew: i32| SpreadConstraint {
            topology_key: topology_key.into(),
            max_skew,
            min_domains: 1,
            hard: false,
            selector: None,
            honors_affinity: true,
            honors_taints: false,
        };
        match args {
            Args::System => PodTopologySpread { defaults: vec![soft(HOSTNAME, 3), soft(ZONE, 5)], system: true },
            Args::List(defaults) => PodTopologySpread { defaults: defaults.clone(), system: false },
        }
    }

    /// The pod's own constraints, or else the default ones.
    fn constraints(&self, pod: &Pod, hard: bool, world: &World) -> Vec<SpreadConstraint> {
        let of_kind = |all: &[SpreadConstraint]| -> Vec<_> {
            all.iter().filter(|constraint| constraint.hard == hard).cloned().collect()
        };
        if !pod.spec.spread.is_empty() {
            return of_kind(&pod.spec.spread);
        }
        let mut defaults = of_kind(&self.defaults);
        if defaults.is_empty() {
            return defaults;
        }
        let selector = world.workloads.selector(pod);
        if selector.is_empty() {
            return Vec::new();
        }
        for constraint in &mut defaults {
            constraint.selector = Some(selector.clone());
        }
        defaults
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let constraints = self.constraints(pod, true, world);
        if constraints.is_empty() {
            return Ok(PreFilter::default());
        }
        let keys = keys(&constraints);
        let rules = constraints.iter().map(|constraint| {
            let topology = world.topology(&constraint.topology_key);
            let eligibility = eligibility(pod, constraint, keys.clone());
            let counter = world.counter(CounterKey { what: staying(pod, constraint), topology, eligibility });
            let own = i64::from(constraint.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)));
            Rule {
                spot: Spot { topology, counter },
                own,
                max_skew: constraint.max_skew.into(),
                min_domains: usize::try_from(constraint.min_domains).unwrap_or(1),
            }
        });
        let rules = Rules(rules.collect());
        Ok(PreFilter { group: Some(Box::new(rules)), ..Default::default() })
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        let constraints = self.constraints(pod, false, world);
        if constraints.is_empty() {
            return PreScore::default();
        }
        let all_keys = !pod.spec.spread.is_empty() || !self.system;
        let keys = if all_keys { keys(&constraints) } else { Vec::new() };
        let wishes = constraints.iter().map(|constraint| {
            let topology = world.topology(&constraint.topology_key);
            let hostname = &*constraint.topology_key == HOSTNAME;
            let eligibility =
                if hostname { Eligibility::default() } else { eligibility(pod, constraint, keys.clone()) };
            let counter = world.counter(CounterKey { what: staying(pod, constraint), topology, eligibility });
            Wish { spot: Spot { topology, counter }, hostname, max_skew: constraint.max_skew.into() }
        });
        PreScore::by_group(Wishes { wishes: wishes.collect(), all_keys })
    }

    fn helps(&self, pod: &Pod, event: &Event, world: &World) -> bool {
        let constraints = self.constraints(pod, true, world);
        let counts = |other: &Pod| {
            let selected = |selector: &Selector| selector.matches(&other.labels);
            other.namespace == pod.namespace && constraints.iter().any(|c| c.selector.as_ref().is_some_and(selected))
        };
        let complete = |node: &crate::Node| constraints.iter().all(|c| node.label(&c.topology_key).is_some());
        match event {
            Event::NodeAdded(node) | Event::NodeRemoved(node) => complete(node),
            Event::NodeUpdated { old, new } => {
                let moved = |c: &SpreadConstraint| old.label(&c.topology_key) != new.label(&c.topology_key);
                complete(old) != complete(new)
                    || (complete(new) && (constraints.iter().any(moved) || old.taints != new.taints))
            }
            Event::PodAdded(other) | Event::PodRemoved(other) => counts(other),
            Event::PodUpdated { old, new } => {
                let changes = |selector: &Selector| selector.matches(&old.labels) != selector.matches(&new.labels);
                new.namespace == pod.namespace
                    && old.labels != new.labels
                    && constraints.iter().any(|c| c.selector.as_ref().is_some_and(changes))
            }
            Event::WorkloadChanged => true,
            Event::NamespaceChanged => false,
            Event::Storage(_) | Event::Devices(_) => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        let honors_taints = || new.spec.spread.iter().any(|constraint| constraint.honors_taints);
        old.labels != new.labels || (old.spec.tolerations != new.spec.tolerations && honors_taints())
    }
}

fn keys(constraints: &[SpreadConstraint]) -> Vec<Arc<str>> {
    let keys: BTreeSet<&Arc<str>> = constraints.iter().map(|constraint| &constraint.topology_key).collect();
    keys.into_iter().cloned().collect()
}

fn staying(pod: &Pod, constraint: &SpreadConstraint) -> What {
    // A selector that selects everything counts nothing, as in kube-scheduler.
    let selector = constraint.selector.clone().filter(|selector| !selector.is_empty());
    What::Staying(Peers { namespaces: vec![pod.namespace.clone()], namespace_selector: None, selector })
}

fn eligibility(pod: &Pod, constraint: &SpreadConstraint, keys: Vec<Arc<str>>) -> Eligibility {
    let mut eligibility = Eligibility { keys, ..Default::default() };
    if constraint.honors_affinity {
        eligibility.node_selector = pod.spec.node_selector.clone();
        eligibility.affinity = pod.spec.required_affinity.clone();
    }
    if constraint.honors_taints {
        eligibility.tolerations = Some(pod.spec.tolerations.clone());
    }
    eligibility
}

/// Where a constraint looks.
struct Spot {
    topology: TopologyId,
    counter: CounterId,
}

impl Spot {
    /// The domain, or what is counted in it.
    fn key(&self, info: &NodeInfo, world: &World) -> i64 {
        match world.domain(self.topology, info.id) {
            None => NONE,
            Some(domain) if world.is_coarse(self.topology) => domain.into(),
            Some(domain) => world.count(self.counter, domain),
        }
    }

    fn count(&self, key: i64, world: &World) -> i64 {
        if world.is_coarse(self.topology) { world.count(self.counter, Domain::from(key)) } else { key }
    }
}

struct Rule {
    spot: Spot,
    /// 1 when the pod itself will be counted.
    own: i64,
    max_skew: i64,
    min_domains: usize,
}

struct Rules(Vec<Rule>);

impl Grouping for Rules {
    fn width(&self) -> usize {
        self.0.len()
    }

    fn key(&self, info: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        key.extend(self.0.iter().map(|rule| rule.spot.key(info, world)));
    }
}

impl GroupFilter for Rules {
    fn filter(&self, key: &[i64], world: &World) -> Result<(), Rejection> {
        for (rule, key) in self.0.iter().zip(key) {
            if *key == NONE {
                return Err(Rejection::unresolvable(MISSING));
            }
            let (lowest, domains) = world.lowest(rule.spot.counter);
            // Domains that are not there yet have no pods.
            let lowest = if domains < rule.min_domains { Some(0) } else { lowest };
            let skew = |lowest: i64| rule.spot.count(*key, world) + rule.own - lowest;
            if lowest.is_some_and(|lowest| skew(lowest) > rule.max_skew) {
                return Err(Rejection::resolvable(MISMATCH));
            }
        }
        Ok(())
    }
}

struct Wish {
    spot: Spot,
    hostname: bool,
    max_skew: i64,
}

struct Wishes {
    wishes: Vec<Wish>,
    /// Nodes that lack one of the labels are the worst.
    all_keys: bool,
}

impl Wishes {
    fn is_ignored(&self, group: &Group<'_>) -> bool {
        self.all_keys && group.key.contains(&NONE)
    }

    /// How much a pod in a domain weighs: more where there are more domains (the logarithm of their number). Where they are too
    /// many to tell nodes apart by them, all domains count, not only those with a node that fits.
    fn weight(&self, at: usize, groups: &[Group<'_>], world: &World) -> f64 {
        let wish = &self.wishes[at];
        let counted = groups.iter().filter(|group| !self.is_ignored(group));
        let domains = if wish.hostname {
            counted.map(|group| group.nodes).sum()
        } else if world.is_coarse(wish.spot.topology) {
            counted.map(|group| group.key[at]).collect::<BTreeSet<_>>().len()
        } else {
            world.lowest(wish.spot.counter).1
        };
        ((domains + 2) as f64).ln()
    }
}

impl Grouping for Wishes {
    fn width(&self) -> usize {
        self.wishes.len()
    }

    fn key(&self, info: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        key.extend(self.wishes.iter().map(|wish| wish.spot.key(info, world)));
    }
}

impl GroupScore for Wishes {
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        let weights: Vec<f64> = (0..self.wishes.len()).map(|at| self.weight(at, groups, world)).collect();
        let raw = |group: &Group<'_>| {
            let parts = group.key.iter().zip(&self.wishes).zip(&weights).filter(|((key, _), _)| **key != NONE);
            let sum: f64 = parts
                .map(|((key, wish), weight)| wish.spot.count(*key, world) as f64 * weight + (wish.max_skew - 1) as f64)
                .sum();
            sum.round() as i64
        };
        let counted = || groups.iter().filter(|group| !self.is_ignored(group)).map(raw);
        let (lowest, highest) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0).max(0));
        for (score, group) in scores.iter_mut().zip(groups) {
            *score = match (self.is_ignored(group), highest) {
                (true, _) => 0,
                (false, 0) => MAX_SCORE,
                (false, _) => MAX_SCORE * (highest + lowest - raw(group)) / highest,
            };
        }
        Ok(())
    }
}
