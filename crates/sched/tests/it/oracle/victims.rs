//! Whom kube-scheduler's DefaultPreemption evicts, in the plainest way: each node is emptied and filled again in thought.

use std::{cmp::Reverse, collections::BTreeMap};

use sched::{Node, Pod};

use super::Cluster;

/// What is evicted from a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The names of the pods, the most important first.
    pub pods: Vec<String>,
    /// How many of them their budgets do not allow to be evicted.
    pub violations: usize,
}

/// What counts first stands first, and less is better.
type Harm = (usize, i32, i64, usize, Reverse<i64>);

impl Cluster {
    /// The evictions that would make room for the pod and do the least harm, by node; any of them may be chosen. Empty: none
    /// would help.
    pub fn least_harm(&self, pod: &Pod) -> BTreeMap<String, Eviction> {
        let resolvable = |node: &&Node| self.refuses(pod, node).is_some_and(|refusal| !refusal.unresolvable);
        let nodes = self.nodes.values().filter(resolvable);
        let all: Vec<(&Node, Eviction)> =
            nodes.filter_map(|node| Some((node, self.evicted_from(pod, node)?))).collect();
        let least = all.iter().map(|(_, eviction)| self.harm(eviction)).min();
        let best = all.into_iter().filter(|(_, eviction)| Some(self.harm(eviction)) == least);
        best.map(|(node, eviction)| (node.name.to_string(), eviction)).collect()
    }

    /// All of lower priority leave the node, and as many as possible come back: those whose budgets speak for them first, and
    /// the more important before the less important.
    fn evicted_from(&self, pod: &Pod, node: &Node) -> Option<Eviction> {
        let lower = self.on(node).filter(|other| other.priority() < pod.priority());
        let mut lower: Vec<Pod> = lower.cloned().collect();
        lower.sort_by_key(importance);
        let mut left = self.clone();
        lower.iter().for_each(|other| drop(left.placed.remove(&*other.name)));
        if left.refuses(pod, node).is_some() {
            return None;
        }
        let violates = self.violations(&lower);
        let in_turn = |which: bool| lower.iter().zip(&violates).filter(move |(_, violates)| **violates == which);
        let (mut evicted, mut violations) = (Vec::new(), 0);
        for (other, violates) in in_turn(true).chain(in_turn(false)) {
            left.placed.insert(other.name.to_string(), (other.clone(), node.name.to_string()));
            if left.refuses(pod, node).is_some() {
                left.placed.remove(&*other.name);
                evicted.push(other);
                violations += usize::from(*violates);
            }
        }
        evicted.sort_by_key(|other| importance(other));
        let pods: Vec<String> = evicted.iter().map(|other| other.name.to_string()).collect();
        (!pods.is_empty()).then_some(Eviction { pods, violations })
    }

    /// For each of the pods, whether a budget would be broken if it and all before it were evicted.
    fn violations(&self, pods: &[Pod]) -> Vec<bool> {
        let mut allowed: BTreeMap<&String, i32> =
            self.budgets.iter().map(|(name, budget)| (name, budget.disruptions_allowed)).collect();
        let violates = |pod: &Pod| {
            let mut broken = false;
            for (name, budget) in &self.budgets {
                let selects = budget.selector.as_ref().is_some_and(|selector| {
                    !selector.is_empty() && !pod.labels.is_empty() && selector.matches(&pod.labels)
                });
                if selects && budget.namespace == pod.namespace && !budget.disrupted.contains(&pod.name) {
                    let allowed = allowed.get_mut(name).unwrap();
                    *allowed -= 1;
                    broken |= *allowed < 0;
                }
            }
            broken
        };
        pods.iter().map(violates).collect()
    }

    fn harm(&self, eviction: &Eviction) -> Harm {
        let pods: Vec<&Pod> = eviction.pods.iter().map(|name| &self.placed[name].0).collect();
        let highest = pods.iter().map(|pod| pod.priority()).max().unwrap();
        // kube-scheduler makes all priorities positive, so that each pod more is more harm.
        let sum = pods.iter().map(|pod| i64::from(pod.priority()) + (1 << 31)).sum();
        let started = pods.iter().filter(|pod| pod.priority() == highest).map(|pod| pod.started).min().unwrap();
        (eviction.violations, highest, sum, pods.len(), Reverse(started))
    }
}

fn importance(pod: &Pod) -> (Reverse<i32>, i64) {
    (Reverse(pod.priority()), pod.started)
}
