//! A plain, slow scheduler that is obviously right: it looks at every pod and every node for every question, and keeps nothing.
//! Rules and scores are those of kube-scheduler's default profile.

#[path = "oracle/victims.rs"]
mod victims;

pub use victims::Eviction;

use std::collections::{BTreeMap, BTreeSet};

use sched::{
    Node, Pod, TaintEffect,
    labels::{Labels, Selector},
    pod::{Peers, PodTerm, SpreadConstraint},
    preempt::Budget,
};

/// What there is.
#[derive(Clone, Default)]
pub struct Cluster {
    pub nodes: BTreeMap<String, Node>,
    /// Pods with the name of their node.
    pub placed: BTreeMap<String, (Pod, String)>,
    /// Pods that wait, with the name of the node that is being freed for them.
    pub nominated: BTreeMap<String, (Pod, String)>,
    pub budgets: BTreeMap<String, Budget>,
    pub namespaces: BTreeMap<String, Labels>,
}

/// Why a node does not take a pod.
pub struct Refusal {
    pub reasons: Vec<String>,
    /// Evictions would not help.
    pub unresolvable: bool,
}

/// A constraint, and how many pods it counts in each domain.
type Spread<'a> = (&'a SpreadConstraint, BTreeMap<&'a str, i64>);

fn resolvable(reason: &str) -> Option<Refusal> {
    Some(Refusal { reasons: vec![reason.to_owned()], unresolvable: false })
}

fn unresolvable(reason: &str) -> Option<Refusal> {
    Some(Refusal { reasons: vec![reason.to_owned()], unresolvable: true })
}

impl Cluster {
    /// The nodes that take the pod, by name; and how many of the others give which reason.
    pub fn sorted(&self, pod: &Pod) -> (BTreeSet<String>, BTreeMap<String, usize>) {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let mut feasible = BTreeSet::new();
        let spread = self.hard_spread(pod);
        for (name, node) in &self.nodes {
            match self.refuses_beside_nominated(pod, node).or_else(|| self.rejects(pod, node, &spread)) {
                None => drop(feasible.insert(name.clone())),
                Some(found) => found.reasons.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
            }
        }
        (feasible, reasons)
    }

    /// The best of these nodes, which are compared with each other only.
    pub fn best_of(&self, pod: &Pod, names: &BTreeSet<String>) -> BTreeSet<String> {
        let nodes: Vec<&Node> = names.iter().map(|name| &self.nodes[name]).collect();
        let totals = self.totals(pod, &nodes);
        let best = totals.iter().max().copied().unwrap_or(0);
        let winners = nodes.iter().zip(&totals).filter(|(_, total)| **total == best);
        winners.map(|(node, _)| node.name.to_string()).collect()
    }

    /// Whether the node as it is takes the pod, with and without those of no lower priority for which it is being freed.
    pub fn refuses(&self, pod: &Pod, node: &Node) -> Option<Refusal> {
        self.refuses_beside_nominated(pod, node).or_else(|| self.rejects(pod, node, &self.hard_spread(pod)))
    }

    fn refuses_beside_nominated(&self, pod: &Pod, node: &Node) -> Option<Refusal> {
        let counts = |(other, at): &&(Pod, String)| {
            **at == *node.name && other.uid != pod.uid && other.priority() >= pod.priority()
        };
        let nominated: Vec<_> = self.nominated.values().filter(counts).collect();
        if nominated.is_empty() {
            return None;
        }
        let mut with = self.clone();
        with.placed.extend(nominated.into_iter().map(|placed| (placed.0.name.to_string(), placed.clone())));
        with.rejects(pod, node, &with.hard_spread(pod))
    }

    fn on(&self, node: &Node) -> impl Iterator<Item = &Pod> {
        self.placed.values().filter(move |(_, at)| **at == *node.name).map(|(pod, _)| pod)
    }

    /// Pods on nodes that the cluster knows, with their nodes.
    fn everywhere(&self) -> impl Iterator<Item = (&Pod, &Node)> {
        self.placed.values().filter_map(|(pod, at)| Some((pod, self.nodes.get(at)?)))
    }

    fn contain(&self, peers: &Peers, pod: &Pod) -> bool {
        peers.contain(&pod.namespace, &pod.labels, self.namespaces.get(&*pod.namespace))
    }

    /// What the first plugin says that does not take the pod.
    fn rejects(&self, pod: &Pod, node: &Node, spread: &[Spread<'_>]) -> Option<Refusal> {
        let cordon = sched::Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: "".into(),
            effect: TaintEffect::NoSchedule,
        };
        if node.unschedulable && !pod.spec.tolerates(&cordon) {
            return unresolvable("node(s) were unschedulable");
        }
        let hard = |taint: &&sched::Taint| taint.effect != TaintEffect::PreferNoSchedule;
        if node.taints.iter().filter(hard).any(|taint| !pod.spec.tolerates(taint)) {
            return unresolvable("node(s) had untolerated taint(s)");
        }
        if !pod.spec.admits(node) {
            return unresolvable("node(s) didn't match Pod's node affinity/selector");
        }
        let ports = |other: &Pod| {
            other.spec.host_ports.iter().any(|used| pod.spec.host_ports.iter().any(|port| used.conflicts(port)))
        };
        if self.on(node).any(ports) {
            return resolvable("node(s) didn't have free ports for the requested pod ports");
        }
        self.lacks(pod, node).or_else(|| skews(pod, node, spread)).or_else(|| self.objects(pod, node))
    }

    fn lacks(&self, pod: &Pod, node: &Node) -> Option<Refusal> {
        let mut refusal = Refusal { reasons: Vec::new(), unresolvable: false };
        let (asked, all) = (&pod.spec.requests, &node.allocatable);
        if i64::try_from(self.on(node).count()).unwrap() + 1 > node.allowed_pods {
            refusal.reasons.push("Too many pods".to_owned());
        }
        let cpu: i64 = self.on(node).map(|other| other.spec.requests.milli_cpu).sum();
        let memory: i64 = self.on(node).map(|other| other.spec.requests.memory).sum();
        for (name, asked, all, used) in
            [("cpu", asked.milli_cpu, all.milli_cpu, cpu), ("memory", asked.memory, all.memory, memory)]
        {
            if asked > 0 && used + asked > all {
                refusal.reasons.push(format!("Insufficient {name}"));
                // Not even an empty node has so much.
                refusal.unresolvable |= asked > all;
            }
        }
        (!refusal.reasons.is_empty()).then_some(refusal)
    }

    /// Nodes that count for a constraint.
    fn counts(&self, pod: &Pod, constraint: &SpreadConstraint, all: &[&SpreadConstraint], node: &Node) -> bool {
        let hard = |taint: &&sched::Taint| taint.effect != TaintEffect::PreferNoSchedule;
        all.iter().all(|other| node.label(&other.topology_key).is_some())
            && (!constraint.honors_affinity || pod.spec.admits(node))
            && (!constraint.honors_taints || node.taints.iter().filter(hard).all(|taint| pod.spec.tolerates(taint)))
    }

    fn alike(&self, pod: &Pod, selector: Option<&Selector>, node: &Node) -> i64 {
        let selects = |other: &&Pod| {
            !other.deleting
                && other.namespace == pod.namespace
                && selector.is_some_and(|selector| !selector.is_empty() && selector.matches(&other.labels))
        };
        i64::try_from(self.on(node).filter(selects).count()).unwrap()
    }

    fn hard_spread<'a>(&'a self, pod: &'a Pod) -> Vec<Spread<'a>> {
        let hard: Vec<&SpreadConstraint> = pod.spec.spread.iter().filter(|constraint| constraint.hard).collect();
        hard.iter().map(|constraint| (*constraint, self.in_domains(pod, constraint, &hard))).collect()
    }

    /// How many pods a constraint counts in each domain.
    fn in_domains(&self, pod: &Pod, constraint: &SpreadConstraint, all: &[&SpreadConstraint]) -> BTreeMap<&str, i64> {
        let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
        for node in self.nodes.values().filter(|node| self.counts(pod, constraint, all, node)) {
            let domain = node.label(&constraint.topology_key).unwrap();
            *domains.entry(domain).or_default() += self.alike(pod, constraint.selector.as_ref(), node);
        }
        domains
    }

    /// Whether pods of the peers run in the node's domain.
    fn any_in_domain(&self, term: &PodTerm, node: &Node, which: impl Fn(&Pod) -> bool) -> bool {
        let domain = node.label(&term.topology_key);
        domain.is_some() && self.everywhere().any(|(other, at)| at.label(&term.topology_key) == domain && which(other))
    }

    fn objects(&self, pod: &Pod, node: &Node) -> Option<Refusal> {
        let wanted = &pod.spec.affinity;
        let all = |other: &Pod| wanted.iter().all(|term| self.contain(&term.peers, other));
        if wanted.iter().any(|term| node.label(&term.topology_key).is_none()) {
            return unresolvable("node(s) didn't match pod affinity rules");
        }
        if !wanted.iter().all(|term| self.any_in_domain(term, node, all)) {
            let somewhere = |(other, at): (&Pod, &Node)| {
                all(other) && wanted.iter().any(|term| at.label(&term.topology_key).is_some())
            };
            if self.everywhere().any(somewhere) || !all(pod) {
                return unresolvable("node(s) didn't match pod affinity rules");
            }
        }
        let hates = |term: &PodTerm| self.any_in_domain(term, node, |other| self.contain(&term.peers, other));
        if pod.spec.anti_affinity.iter().any(hates) {
            return resolvable("node(s) didn't match pod anti-affinity rules");
        }
        let hated = |(other, at): (&Pod, &Node)| {
            other.spec.anti_affinity.iter().any(|term| {
                let domain = at.label(&term.topology_key);
                domain.is_some() && node.label(&term.topology_key) == domain && self.contain(&term.peers, pod)
            })
        };
        if self.everywhere().any(hated) {
            return resolvable("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        None
    }

    fn totals(&self, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
        let soft = |node: &&Node| {
            let soft = node.taints.iter().filter(|taint| taint.effect == TaintEffect::PreferNoSchedule);
            i64::try_from(soft.filter(|taint| !pod.spec.tolerates(taint)).count()).unwrap()
        };
        let preferred = |node: &&Node| {
            let matching = pod.spec.preferred_affinity.iter().filter(|preferred| preferred.term.matches(node));
            matching.map(|preferred| i64::from(preferred.weight)).sum()
        };
        let parts: Vec<(i64, Vec<i64>)> = vec![
            (3, scaled(nodes.iter().map(soft).collect(), true)),
            (2, scaled(nodes.iter().map(preferred).collect(), false)),
            (1, nodes.iter().map(|node| self.least_allocated(pod, node)).collect()),
            (2, self.spread(pod, nodes)),
            (2, self.company(pod, nodes)),
            (1, nodes.iter().map(|node| self.balanced(pod, node)).collect()),
        ];
        (0..nodes.len()).map(|at| parts.iter().map(|(weight, scores)| weight * scores[at]).sum()).collect()
    }

    fn least_allocated(&self, pod: &Pod, node: &Node) -> i64 {
        let all_on = || self.on(node).chain([pod]);
        let cpu: i64 = all_on().map(|pod| pod.spec.scored_milli_cpu).sum();
        let memory: i64 = all_on().map(|pod| pod.spec.scored_memory).sum();
        let left = |all: i64, used: i64| if used > all { 0 } else { (all - used) * 100 / all };
        let parts = [(node.allocatable.milli_cpu, cpu), (node.allocatable.memory, memory)];
        let parts: Vec<i64> =
            parts.into_iter().filter(|(all, _)| *all > 0).map(|(all, used)| left(all, used)).collect();
        if parts.is_empty() { 0 } else { parts.iter().sum::<i64>() / i64::try_from(parts.len()).unwrap() }
    }

    fn balanced(&self, pod: &Pod, node: &Node) -> i64 {
        let asked = &pod.spec.requests;
        if asked.milli_cpu == 0 && asked.memory == 0 {
            return 0;
        }
        let balance = |with: bool| {
            let all_on = || self.on(node).chain(with.then_some(pod));
            let cpu: i64 = all_on().map(|pod| pod.spec.requests.milli_cpu).sum();
            let memory: i64 = all_on().map(|pod| pod.spec.requests.memory).sum();
            let share = |used: i64, all: i64| (used as f64 / all as f64).min(1.0);
            if node.allocatable.milli_cpu == 0 || node.allocatable.memory == 0 {
                return 100;
            }
            let (a, b) = (share(cpu, node.allocatable.milli_cpu), share(memory, node.allocatable.memory));
            ((1.0 - ((a - b) / 2.0).abs()) * 100.0) as i64
        };
        50 + (50 + balance(true) - balance(false)) / 2
    }

    fn spread(&self, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
        let soft: Vec<&SpreadConstraint> = pod.spec.spread.iter().filter(|constraint| !constraint.hard).collect();
        if soft.is_empty() {
            return vec![0; nodes.len()];
        }
        let complete = |node: &&&Node| soft.iter().all(|constraint| node.label(&constraint.topology_key).is_some());
        let scored: Vec<&&Node> = nodes.iter().filter(complete).collect();
        let mut raw: BTreeMap<&str, f64> = BTreeMap::new();
        for constraint in &soft {
            let key = &constraint.topology_key;
            let hostname = &**key == "kubernetes.io/hostname";
            let domains: BTreeSet<&str> = scored.iter().map(|node| &**node.label(key).unwrap()).collect();
            let size = if hostname { scored.len() } else { domains.len() };
            let counted = self.in_domains(pod, constraint, &soft);
            for node in &scored {
                let count: i64 = if hostname {
                    self.alike(pod, constraint.selector.as_ref(), node)
                } else {
                    counted.get(&**node.label(key).unwrap()).copied().unwrap_or(0)
                };
                *raw.entry(&node.name).or_default() +=
                    count as f64 * ((size + 2) as f64).ln() + f64::from(constraint.max_skew - 1);
            }
        }
        let raw: BTreeMap<&str, i64> = raw.into_iter().map(|(name, score)| (name, score.round() as i64)).collect();
        let (lowest, highest) = (raw.values().min().copied().unwrap_or(0), raw.values().max().copied().unwrap_or(0));
        let of = |node: &&Node| match raw.get(&*node.name) {
            None => 0,
            Some(_) if highest == 0 => 100,
            Some(own) => 100 * (highest + lowest - own) / highest,
        };
        nodes.iter().map(of).collect()
    }

    fn company(&self, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
        let worth = |node: &Node| {
            let mut sum = 0;
            let mut add = |term: &PodTerm, at: &Node, weight: i64| {
                let domain = at.label(&term.topology_key);
                if domain.is_some() && domain == node.label(&term.topology_key) {
                    sum += weight;
                }
            };
            for (other, at) in self.everywhere() {
                let own = pod.spec.preferred_pods.iter().map(|term| (term, 1));
                for (term, sign) in own.chain(pod.spec.avoided_pods.iter().map(|term| (term, -1))) {
                    if self.contain(&term.term.peers, other) {
                        add(&term.term, at, sign * i64::from(term.weight));
                    }
                }
                let theirs = other.spec.preferred_pods.iter().map(|term| (term, 1));
                for (term, sign) in theirs.chain(other.spec.avoided_pods.iter().map(|term| (term, -1))) {
                    if self.contain(&term.term.peers, pod) {
                        add(&term.term, at, sign * i64::from(term.weight));
                    }
                }
                for term in other.spec.affinity.iter().filter(|term| self.contain(&term.peers, pod)) {
                    add(term, at, 1);
                }
            }
            sum
        };
        let raw: Vec<i64> = nodes.iter().map(|node| worth(node)).collect();
        let (lowest, highest) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
        let range = highest - lowest;
        let scale = |own: &i64| {
            if range > 0 { (100.0 * ((own - lowest) as f64 / range as f64)) as i64 } else { 0 }
        };
        raw.iter().map(scale).collect()
    }
}

fn scaled(raw: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = raw.iter().max().copied().unwrap_or(0);
    let scale = |own: i64| {
        let own = if highest == 0 { 0 } else { own * 100 / highest };
        if reverse { 100 - own } else { own }
    };
    raw.into_iter().map(scale).collect()
}

fn skews(pod: &Pod, node: &Node, hard: &[Spread<'_>]) -> Option<Refusal> {
    for (constraint, domains) in hard {
        let Some(own) = node.label(&constraint.topology_key) else {
            return unresolvable("node(s) didn't match pod topology spread constraints (missing required label)");
        };
        let lowest = match domains.values().min() {
            _ if domains.len() < usize::try_from(constraint.min_domains).unwrap() => 0,
            Some(lowest) => *lowest,
            None => continue,
        };
        let itself = i64::from(constraint.selector.as_ref().is_some_and(|s| s.matches(&pod.labels)));
        let count = domains.get(&**own).copied().unwrap_or(0);
        if count + itself - lowest > i64::from(constraint.max_skew) {
            return resolvable("node(s) didn't match pod topology spread constraints");
        }
    }
    None
}
