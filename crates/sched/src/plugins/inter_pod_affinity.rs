//! Pods that want to be, or must not be, in the same domain as others; and what pods that are there already say about those to
//! come.

use std::sync::Arc;

use crate::{
    Node, NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Group, GroupFilter, GroupScore, Grouping, MAX_SCORE, Plugin, Point, PreFilter, PreScore},
    pod::{Peers, PodTerm},
    world::{CounterId, CounterKey, Domain, Eligibility, TermKind, TopologyId, What, World},
};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
/// In a key: the node has no such label.
pub(super) const NONE: i64 = -1;

/// InterPodAffinityArgs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// What a required affinity of an existing pod is worth to a pod that it speaks about.
    pub hard_pod_affinity_weight: i32,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for Args {
    fn default() -> Self {
        Args { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

pub struct InterPodAffinity {
    args: Args,
}

impl InterPodAffinity {
    pub fn new(args: &Args) -> Self {
        InterPodAffinity { args: args.clone() }
    }

    /// What existing pods' terms of a kind are worth, if they count.
    fn worth(&self, kind: TermKind) -> i64 {
        match kind {
            TermKind::RequiredAffinity => self.args.hard_pod_affinity_weight.into(),
            TermKind::RequiredAntiAffinity | TermKind::Traffic(_) => 0,
            TermKind::Preferred(weight) => weight.into(),
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let all: Vec<Peers> = pod.spec.affinity.iter().map(|term| term.peers.clone()).collect();
        let wanted = pod.spec.affinity.iter().map(|term| spot(world, term, What::Matching(all.clone()))).collect();
        let anti = pod.spec.anti_affinity.iter();
        let hated = anti.map(|term| spot(world, term, What::Matching(vec![term.peers.clone()]))).collect();
        let about = world.terms_about(pod).into_iter().filter(|term| term.kind == TermKind::RequiredAntiAffinity);
        let hating = about.map(|term| spot(world, &term.term, What::Carrying(term.clone()))).collect();
        let rules = Rules { wanted, hated, hating, is_first_of_series: matches_all(&pod.spec.affinity, pod, world) };
        if rules.is_empty() {
            return Ok(PreFilter::default());
        }
        Ok(PreFilter { group: Some(Box::new(rules.planned(world))), ..Default::default() })
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        let (preferred, avoided) = (&pod.spec.preferred_pods, &pod.spec.avoided_pods);
        if self.args.ignore_preferred_terms_of_existing_pods && preferred.is_empty() && avoided.is_empty() {
            return PreScore::default();
        }
        let own = preferred.iter().map(|term| (term, 1)).chain(avoided.iter().map(|term| (term, -1)));
        let own = own.map(|(term, sign)| {
            let what = What::Matching(vec![term.term.peers.clone()]);
            (spot(world, &term.term, what), sign * i64::from(term.weight))
        });
        let mut wishes: Vec<(Spot, i64)> = own.collect();
        for term in world.terms_about(pod) {
            let worth = self.worth(term.kind);
            if worth != 0 {
                wishes.push((spot(world, &term.term, What::Carrying(term.clone())), worth));
            }
        }
        if wishes.is_empty() {
            return PreScore::default();
        }
        let (coarse, fine) = wishes.into_iter().partition(|(spot, _)| world.is_coarse(spot.topology));
        let coarse: Vec<(Spot, i64)> = coarse;
        let topologies = topologies(coarse.iter().map(|(spot, _)| spot));
        PreScore::by_group(Wishes { topologies, coarse, fine })
    }

    fn helps(&self, pod: &Pod, event: &Event, world: &World) -> bool {
        let (wanted, hated) = (&pod.spec.affinity, &pod.spec.anti_affinity);
        let matches = |terms: &[PodTerm], other: &Pod| matches_all(terms, other, world);
        match event {
            Event::NodeAdded(node) => {
                !hated.is_empty() || wanted.iter().any(|term| has(node, term)) || wanted.is_empty()
            }
            Event::NodeUpdated { old, new } => {
                let moved = |term: &&PodTerm| old.label(&term.topology_key) != new.label(&term.topology_key);
                wanted.iter().filter(moved).any(|term| has(new, term))
                    || hated.iter().filter(moved).any(|term| has(old, term))
            }
            Event::NodeRemoved(_) => false,
            Event::PodAdded(other) => matches(wanted, other),
            Event::PodRemoved(other) => matches(hated, other) || matches(&other.spec.anti_affinity, pod),
            Event::PodUpdated { old, new } => {
                (!matches(wanted, old) && matches(wanted, new)) || (matches(hated, old) && !matches(hated, new))
            }
            Event::NamespaceChanged => true,
            Event::WorkloadChanged => false,
            Event::Storage(_) | Event::Devices(_) => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        old.labels != new.labels
    }
}

fn has(node: &Node, term: &PodTerm) -> bool {
    node.label(&term.topology_key).is_some()
}

/// Whether the pod belongs to the peers of all of the terms; not, when there are none.
fn matches_all(terms: &[PodTerm], pod: &Pod, world: &World) -> bool {
    let of_namespace = world.namespace_labels(&pod.namespace);
    !terms.is_empty() && terms.iter().all(|term| term.peers.contain(&pod.namespace, &pod.labels, of_namespace))
}

/// Where a term looks, and what it counts there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub topology: TopologyId,
    pub counter: CounterId,
}

pub(super) fn spot(world: &mut World, term: &PodTerm, what: What) -> Spot {
    let topology = world.topology(&term.topology_key);
    let counter = world.counter(CounterKey { what, topology, eligibility: Eligibility::default() });
    Spot { topology, counter }
}

impl Spot {
    pub fn count(&self, info: &NodeInfo, world: &World) -> i64 {
        world.domain(self.topology, info.id).map_or(0, |domain| world.count(self.counter, domain))
    }
}

pub(super) fn topologies<'a>(spots: impl Iterator<Item = &'a Spot>) -> Vec<TopologyId> {
    let mut topologies: Vec<TopologyId> = spots.map(|spot| spot.topology).collect();
    topologies.sort_unstable();
    topologies.dedup();
    topologies
}

pub(super) fn domain_key(topology: TopologyId, info: &NodeInfo, world: &World) -> i64 {
    world.domain(topology, info.id).map_or(NONE, i64::from)
}

/// Required terms.
struct Rules {
    /// In each of these, a pod that all of the terms want.
    wanted: Vec<Spot>,
    /// In none of these, a pod that one of the terms does not want.
    hated: Vec<Spot>,
    /// In none of these, a pod that does not want this one.
    hating: Vec<Spot>,
    /// The pod is wanted by its own terms: while there is no other like it, it may begin anywhere.
    is_first_of_series: bool,
}

impl Rules {
    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.hated.is_empty() && self.hating.is_empty()
    }

    fn planned(self, world: &World) -> PlannedRules {
        let spots = self.wanted.iter().chain(&self.hated).chain(&self.hating);
        let topologies = topologies(spots.filter(|spot| world.is_coarse(spot.topology)));
        let split = |spots: &[Spot]| -> (Vec<(usize, Spot)>, Vec<Spot>) {
            let place = |spot: &Spot| topologies.binary_search(&spot.topology).ok();
            let coarse = spots.iter().filter_map(|spot| Some((place(spot)?, *spot))).collect();
            (coarse, spots.iter().filter(|spot| place(spot).is_none()).copied().collect())
        };
        let (wanted, hated, hating) = (split(&self.wanted), split(&self.hated), split(&self.hating));
        PlannedRules { rules: self, topologies: Arc::from(topologies.clone()), wanted, hated, hating }
    }
}

/// A key is the domains of the coarse topologies, followed by: for each fine term that wants pods, whether there are any; and
/// whether any fine term objects, and any existing pod's.
struct PlannedRules {
    rules: Rules,
    topologies: Arc<[TopologyId]>,
    /// With the domain's place in the key; and the fine ones.
    wanted: (Vec<(usize, Spot)>, Vec<Spot>),
    hated: (Vec<(usize, Spot)>, Vec<Spot>),
    hating: (Vec<(usize, Spot)>, Vec<Spot>),
}

impl Grouping for PlannedRules {
    fn width(&self) -> usize {
        self.topologies.len() + self.wanted.1.len() + 2
    }

    fn key(&self, info: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        key.extend(self.topologies.iter().map(|topology| domain_key(*topology, info, world)));
        key.extend(self.wanted.1.iter().map(|spot| match world.domain(spot.topology, info.id) {
            None => NONE,
            Some(domain) => i64::from(world.count(spot.counter, domain) > 0),
        }));
        let any = |spots: &[Spot]| i64::from(spots.iter().any(|spot| spot.count(info, world) > 0));
        key.push(any(&self.hated.1));
        key.push(any(&self.hating.1));
    }
}

impl GroupFilter for PlannedRules {
    fn filter(&self, key: &[i64], world: &World) -> Result<(), Rejection> {
        let (domains, rest) = key.split_at(self.topologies.len());
        let (fine, objections) = rest.split_at(self.wanted.1.len());
        let count = |(place, spot): &(usize, Spot)| match domains[*place] {
            NONE => None,
            domain => Some(world.count(spot.counter, Domain::from(domain))),
        };
        let coarse = self.wanted.0.iter().map(count);
        let counts = coarse.chain(fine.iter().map(|count| (*count != NONE).then_some(*count)));
        let mut all_there = true;
        for count in counts {
            match count {
                None => return Err(Rejection::unresolvable(AFFINITY)),
                Some(count) => all_there &= count > 0,
            }
        }
        let alone = || self.rules.wanted.iter().all(|spot| world.total(spot.counter) == 0);
        let begins = || self.rules.is_first_of_series && alone();
        if !(all_there || begins()) {
            return Err(Rejection::unresolvable(AFFINITY));
        }
        let objects = |spots: &[(usize, Spot)]| spots.iter().any(|spot| count(spot).is_some_and(|count| count > 0));
        if objections[0] > 0 || objects(&self.hated.0) {
            return Err(Rejection::resolvable(ANTI_AFFINITY));
        }
        if objections[1] > 0 || objects(&self.hating.0) {
            return Err(Rejection::resolvable(EXISTING));
        }
        Ok(())
    }
}

/// Preferred terms. A key is the domains of the coarse topologies, and the sum of what the fine ones are worth.
struct Wishes {
    topologies: Vec<TopologyId>,
    coarse: Vec<(Spot, i64)>,
    fine: Vec<(Spot, i64)>,
}

impl Grouping for Wishes {
    fn width(&self) -> usize {
        self.topologies.len() + 1
    }

    fn key(&self, info: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        key.extend(self.topologies.iter().map(|topology| domain_key(*topology, info, world)));
        key.push(self.fine.iter().map(|(spot, worth)| worth * spot.count(info, world)).sum());
    }
}

impl GroupScore for Wishes {
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        let of_coarse = |key: &[i64], (spot, worth): &(Spot, i64)| {
            let place = self.topologies.binary_search(&spot.topology).ok();
            match place.map(|place| key[place]) {
                None | Some(NONE) => 0,
                Some(domain) => worth * world.count(spot.counter, Domain::from(domain)),
            }
        };
        for (score, group) in scores.iter_mut().zip(groups) {
            let coarse: i64 = self.coarse.iter().map(|wish| of_coarse(group.key, wish)).sum();
            *score = coarse + group.key[self.topologies.len()];
        }
        let (lowest, highest) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
        let range = highest - lowest;
        for score in scores {
            *score = if range > 0 { (MAX_SCORE as f64 * ((*score - lowest) as f64 / range as f64)) as i64 } else { 0 };
        }
        Ok(())
    }
}
