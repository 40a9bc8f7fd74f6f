//! Pods that are counted alike: the same namespace, labels and spec, and either all or none of them being deleted.

use std::{collections::HashMap, sync::Arc};

use super::{Carried, CounterId, NodeId, TermKind, What};
use crate::{
    Pod, Spec,
    labels::Labels,
    pod::{Peers, PodTerm},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PopulationId(u32);

#[derive(Clone, Debug)]
pub(crate) struct PopulationKey {
    pub namespace: Arc<str>,
    pub labels: Arc<Labels>,
    pub spec: Arc<Spec>,
    pub deleting: bool,
}

impl PopulationKey {
    fn of(pod: &Pod) -> Self {
        let (labels, spec) = (pod.labels.clone(), pod.spec.clone());
        PopulationKey { namespace: pod.namespace.clone(), labels, spec, deleting: pod.deleting }
    }

    pub fn belongs_to(&self, what: &What, namespace_labels: Option<&Labels>) -> bool {
        let within = |peers: &Peers| peers.contain(&self.namespace, &self.labels, namespace_labels);
        match what {
            What::Matching(sets) => sets.iter().all(within),
            What::Staying(peers) => !self.deleting && within(peers),
            What::Carrying(_) => false,
        }
    }

    /// The terms that its pods carry.
    pub fn carried(&self) -> Vec<Arc<Carried>> {
        let of = |kind: TermKind, term: &PodTerm| Arc::new(Carried { kind, term: term.clone() });
        let spec = &self.spec;
        let required = spec.affinity.iter().map(|term| of(TermKind::RequiredAffinity, term));
        let anti = spec.anti_affinity.iter().map(|term| of(TermKind::RequiredAntiAffinity, term));
        let preferred = spec.preferred_pods.iter().map(|term| of(TermKind::Preferred(term.weight), &term.term));
        let avoided = spec.avoided_pods.iter().map(|term| of(TermKind::Preferred(-term.weight), &term.term));
        let talks = spec.traffic.talks.iter();
        let traffic = talks.flat_map(|talk| talk.terms().map(|term| (TermKind::Traffic(talk.rate), term)));
        let traffic = traffic.map(|(kind, term)| of(kind, &term));
        required.chain(anti).chain(preferred).chain(avoided).chain(traffic).collect()
    }
}

impl What {
    pub fn selects_namespaces(&self) -> bool {
        let selects = |peers: &Peers| peers.namespace_selector.is_some();
        match self {
            What::Matching(sets) => sets.iter().any(selects),
            What::Staying(peers) => selects(peers),
            What::Carrying(carried) => selects(&carried.term.peers),
        }
    }
}

/// Specs and labels are interned and held by the population, so their addresses stand for them.
type Address = (Arc<str>, usize, usize, bool);

fn address(pod: &Pod) -> Address {
    (pod.namespace.clone(), Arc::as_ptr(&pod.labels).addr(), Arc::as_ptr(&pod.spec).addr(), pod.deleting)
}

#[derive(Debug)]
pub(crate) struct Population {
    pub key: PopulationKey,
    address: Address,
    /// Pods on nodes and nominated ones.
    members: usize,
    /// How many of them are on which node.
    pub nodes: HashMap<NodeId, u32>,
    pub counters: Vec<CounterId>,
}

#[derive(Default)]
pub(crate) struct Populations {
    list: Vec<Option<Population>>,
    free: Vec<PopulationId>,
    by_address: HashMap<Address, PopulationId>,
}

impl Populations {
    /// The population of a pod, with one member more; whether it is new.
    pub fn acquire(&mut self, pod: &Pod) -> (PopulationId, bool) {
        let address = address(pod);
        if let Some(id) = self.by_address.get(&address).copied() {
            self.get_mut(id).members += 1;
            return (id, false);
        }
        let population = Population {
            key: PopulationKey::of(pod),
            address: address.clone(),
            members: 1,
            nodes: HashMap::new(),
            counters: Vec::new(),
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            PopulationId(u32::try_from(self.list.len() - 1).expect("there are fewer pods than four billion"))
        });
        self.list[id.0 as usize] = Some(population);
        self.by_address.insert(address, id);
        (id, true)
    }

    /// Gives back what [`Populations::acquire`] gave.
    pub fn release(&mut self, id: PopulationId) {
        let population = self.get_mut(id);
        population.members -= 1;
        if population.members == 0 {
            let address = population.address.clone();
            self.by_address.remove(&address);
            self.list[id.0 as usize] = None;
            self.free.push(id);
        }
    }

    pub fn settle(&mut self, id: PopulationId, node: NodeId) {
        *self.get_mut(id).nodes.entry(node).or_default() += 1;
    }

    pub fn leave(&mut self, id: PopulationId, node: NodeId) {
        let nodes = &mut self.get_mut(id).nodes;
        if let Some(pods) = nodes.get_mut(&node) {
            *pods -= 1;
            if *pods == 0 {
                nodes.remove(&node);
            }
        }
    }

    pub fn get(&self, id: PopulationId) -> &Population {
        self.list[id.0 as usize].as_ref().expect("whoever holds a number holds a member")
    }

    pub fn get_mut(&mut self, id: PopulationId) -> &mut Population {
        self.list[id.0 as usize].as_mut().expect("whoever holds a number holds a member")
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Population> {
        self.list.iter_mut().flatten()
    }

    pub fn ids(&self) -> Vec<PopulationId> {
        self.by_address.values().copied().collect()
    }
}
