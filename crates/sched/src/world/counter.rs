//! How many pods of a kind run in each domain of a topology: what affinity and spreading ask for, kept up to date by each
//! pod that comes or goes instead of being counted for each decision.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    NodeId,
    topology::{Domain, Topology, TopologyId},
};
use crate::{
    Node, TaintEffect, Toleration,
    labels::{Labels, Selector},
    pod::{Peers, PodTerm},
    selector::Term,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId(pub(crate) u32);

/// What is counted, where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey {
    pub what: What,
    pub topology: TopologyId,
    pub eligibility: Eligibility,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Pods that belong to all of these sets.
    Matching(Vec<Peers>),
    /// The same, without those that are being deleted.
    Staying(Peers),
    /// Pods that carry this term themselves.
    Carrying(Arc<Carried>),
}

/// A term of an existing pod, which speaks about pods to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Carried {
    pub kind: TermKind,
    pub term: PodTerm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TermKind {
    RequiredAffinity,
    RequiredAntiAffinity,
    /// With its weight, negative for anti-affinity.
    Preferred(i32),
    /// How much its pods send to those that it speaks about.
    Traffic(u32),
}

/// Which nodes take part in the count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Eligibility {
    /// Labels that the node must have, whatever their values. Sorted.
    pub keys: Vec<Arc<str>>,
    pub node_selector: Vec<(Arc<str>, Arc<str>)>,
    pub affinity: Option<Vec<Term>>,
    /// `Some`: taints that these do not tolerate exclude the node.
    pub tolerations: Option<Vec<Toleration>>,
}

impl Eligibility {
    pub fn admits(&self, node: &Node) -> bool {
        let tolerated = |tolerations: &Vec<Toleration>| {
            let mut hard = node.taints.iter().filter(|taint| taint.effect != TaintEffect::PreferNoSchedule);
            hard.all(|taint| tolerations.iter().any(|toleration| toleration.tolerates(taint)))
        };
        self.keys.iter().all(|key| node.label(key).is_some())
            && self.node_selector.iter().all(|(key, value)| node.label(key) == Some(value))
            && self.affinity.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
            && self.tolerations.as_ref().is_none_or(tolerated)
    }
}

impl Peers {
    /// `namespace_labels`: those of the pod's namespace.
    pub fn contain(&self, namespace: &Arc<str>, labels: &Labels, namespace_labels: Option<&Labels>) -> bool {
        let of_namespace = |selector: &Selector| {
            static NONE: Labels = Labels::new();
            selector.matches(namespace_labels.unwrap_or(&NONE))
        };
        (self.namespaces.binary_search(namespace).is_ok() || self.namespace_selector.as_ref().is_some_and(of_namespace))
            && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }

    /// The only namespace that its pods can be in, if there is one.
    pub fn namespace(&self) -> Option<&Arc<str>> {
        match self.namespaces.as_slice() {
            [only] if self.namespace_selector.is_none() => Some(only),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    pods: i64,
    /// Eligible nodes of the domain; without any it is no domain.
    nodes: u32,
}

#[derive(Debug)]
pub(crate) struct Counter {
    pub key: CounterKey,
    eligible: Vec<bool>,
    by_domain: Vec<Tally>,
    /// How many domains have how many pods.
    levels: BTreeMap<i64, u32>,
    total: i64,
}

impl Counter {
    pub fn new(key: CounterKey) -> Self {
        Counter { key, eligible: Vec::new(), by_domain: Vec::new(), levels: BTreeMap::new(), total: 0 }
    }

    pub fn count(&self, domain: Domain) -> i64 {
        self.by_domain.get(domain.0 as usize).map_or(0, |tally| tally.pods)
    }

    /// The pods of all domains.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// The fewest pods in a domain; `None` without any.
    pub fn lowest(&self) -> Option<i64> {
        self.levels.first_key_value().map(|(count, _)| *count)
    }

    /// How many domains have an eligible node.
    pub fn domains(&self) -> usize {
        self.levels.values().map(|domains| *domains as usize).sum()
    }

    pub fn is_eligible(&self, node: NodeId) -> bool {
        self.eligible.get(node.index()).copied().unwrap_or(false)
    }

    /// Returns the domain, if the node takes part.
    pub fn add(&mut self, topology: &Topology, node: NodeId, pods: i64) -> Option<Domain> {
        if !self.is_eligible(node) {
            return None;
        }
        let domain = topology.domain(node)?;
        self.change(domain, |tally| tally.pods += pods);
        self.total += pods;
        Some(domain)
    }

    pub fn attach(&mut self, topology: &Topology, id: NodeId, node: &Node) {
        if self.eligible.len() <= id.index() {
            self.eligible.resize(id.index() + 1, false);
        }
        if let Some(domain) = topology.domain(id)
            && self.key.eligibility.admits(node)
        {
            self.eligible[id.index()] = true;
            self.change(domain, |tally| tally.nodes += 1);
        }
    }

    /// Its pods must have been taken off before.
    pub fn detach(&mut self, topology: &Topology, id: NodeId) {
        if self.is_eligible(id) {
            self.eligible[id.index()] = false;
            if let Some(domain) = topology.domain(id) {
                self.change(domain, |tally| tally.nodes -= 1);
                // Only pods on eligible nodes are counted. So the number of a domain without nodes may become another's.
                let left = self.by_domain[domain.0 as usize];
                debug_assert!(left.nodes > 0 || left.pods == 0, "{left:?} in a domain of {:?}", self.key);
            }
        }
    }

    fn change(&mut self, domain: Domain, with: impl FnOnce(&mut Tally)) {
        let index = domain.0 as usize;
        if self.by_domain.len() <= index {
            self.by_domain.resize(index + 1, Tally::default());
        }
        let before = self.by_domain[index];
        with(&mut self.by_domain[index]);
        let after = self.by_domain[index];
        if before.nodes > 0
            && let Some(domains) = self.levels.get_mut(&before.pods)
        {
            *domains -= 1;
            if *domains == 0 {
                self.levels.remove(&before.pods);
            }
        }
        if after.nodes > 0 {
            *self.levels.entry(after.pods).or_default() += 1;
        }
    }
}

/// The counters by what they count, and which of them a set of labels concerns.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub list: Vec<Counter>,
    by_key: HashMap<CounterKey, CounterId>,
    /// Of those that match labels: by their only namespace, and the others.
    by_namespace: HashMap<Arc<str>, Vec<CounterId>>,
    everywhere: Vec<CounterId>,
    /// Terms that existing pods carry, likewise by the namespace that they speak about.
    pub terms: Vec<Arc<Carried>>,
    terms_by_namespace: HashMap<Arc<str>, Vec<usize>>,
    terms_everywhere: Vec<usize>,
}

impl Counters {
    pub fn find(&self, key: &CounterKey) -> Option<CounterId> {
        self.by_key.get(key).copied()
    }

    pub fn get(&self, id: CounterId) -> &Counter {
        &self.list[id.0 as usize]
    }

    pub fn insert(&mut self, counter: Counter) -> CounterId {
        let id = CounterId(u32::try_from(self.list.len()).expect("the number of counters is bounded"));
        let namespace = match &counter.key.what {
            What::Matching(sets) => Some(sets.iter().find_map(Peers::namespace)),
            What::Staying(peers) => Some(peers.namespace()),
            What::Carrying(_) => None,
        };
        match namespace {
            Some(Some(namespace)) => self.by_namespace.entry(namespace.clone()).or_default().push(id),
            Some(None) => self.everywhere.push(id),
            None => {}
        }
        self.by_key.insert(counter.key.clone(), id);
        self.list.push(counter);
        id
    }

    /// Counters that may count pods of a namespace.
    pub fn concerning(&self, namespace: &Arc<str>) -> impl Iterator<Item = CounterId> {
        self.by_namespace.get(namespace).into_iter().flatten().chain(&self.everywhere).copied()
    }

    /// Remembers a term that a pod carries.
    pub fn add_term(&mut self, term: &Arc<Carried>) {
        let index = self.terms.len();
        self.terms.push(term.clone());
        match term.term.peers.namespace() {
            Some(namespace) => self.terms_by_namespace.entry(namespace.clone()).or_default().push(index),
            None => self.terms_everywhere.push(index),
        }
    }

    /// Terms that may speak about pods of a namespace.
    pub fn terms_about(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Arc<Carried>> {
        let indexes = self.terms_by_namespace.get(namespace).into_iter().flatten().chain(&self.terms_everywhere);
        indexes.map(|index| &self.terms[*index])
    }
}
