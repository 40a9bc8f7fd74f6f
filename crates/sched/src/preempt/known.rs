//! What preemption has found out about each node, kept until the node changes, and in the order of harm: pods of a kind that
//! preempt one after the other find the best node at the cost of what has changed since the one before.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Budgets, Found, Harm, Vain, Victims, budgets::Key, harm, victims_on};
use crate::{
    Pod,
    plan::{Plan, RejectId, Rejects},
    profile::PluginIndex,
    world::{NodeId, World},
};

#[derive(Clone, Default)]
enum Outcome {
    /// Evictions do not help, or none are needed.
    #[default]
    Nothing,
    Evicts(Harm, Arc<Victims>),
    Rejected(RejectId),
}

#[derive(Default)]
pub(crate) struct Known {
    /// Of the world, when all was true; `None`: nothing is known.
    position: Option<u64>,
    nodes: Vec<Outcome>,
    best: BTreeSet<(Harm, NodeId)>,
    /// `None`: by no plugin, there is nobody to evict.
    rejects: Rejects<Option<PluginIndex>>,
    /// A node whose outcome is true for one pod only, because it was freed for that one.
    own: Option<NodeId>,
    guards: Guards,
}

/// The nodes on which budgets have a say in who is evicted.
#[derive(Default)]
struct Guards {
    /// Of the budgets, when all was true.
    version: u64,
    /// Of the budgets, when too many nodes had to be looked at again.
    put_off_at: Option<u64>,
    nodes: HashMap<Key, BTreeSet<NodeId>>,
    of_node: HashMap<NodeId, Vec<Key>>,
}

impl Guards {
    fn set(&mut self, node: NodeId, keys: Vec<Key>) {
        for key in self.of_node.remove(&node).into_iter().flatten() {
            if let Some(nodes) = self.nodes.get_mut(&key) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    self.nodes.remove(&key);
                }
            }
        }
        for key in &keys {
            self.nodes.entry(key.clone()).or_default().insert(node);
        }
        if !keys.is_empty() {
            self.of_node.insert(node, keys);
        }
    }

    /// The nodes whose budgets have changed; `None`: who knows.
    fn changed(&self, budgets: &Budgets) -> Option<BTreeSet<NodeId>> {
        let changed: HashSet<&Key> = budgets.changed_since(self.version)?.collect();
        Some(changed.into_iter().filter_map(|key| self.nodes.get(key)).flatten().copied().collect())
    }
}

impl Known {
    /// The evictions that do the least harm, at most so many, or why there are none; and how many nodes were asked about.
    /// `None`: so many nodes have to be looked at again, because their budgets have changed, that it is better to look at
    /// others, `affordable` at most.
    pub fn candidates(
        plan: &mut Plan,
        world: &mut World,
        pod: &Pod,
        budgets: &Budgets,
        wanted: usize,
        affordable: usize,
    ) -> Option<(Found, usize)> {
        let mut known = std::mem::take(&mut plan.known);
        let caught_up = known.catch_up(plan, world, pod, budgets, affordable);
        let answer = caught_up.then(|| {
            let found = known.best(wanted);
            let asked = if found.is_err() { known.asked() } else { 0 };
            (found, asked)
        });
        plan.known = known;
        answer
    }

    /// Finds out about the nodes that have changed, unless too many have for their budgets.
    fn catch_up(
        &mut self,
        plan: &mut Plan,
        world: &mut World,
        pod: &Pod,
        budgets: &Budgets,
        affordable: usize,
    ) -> bool {
        let guarded = self.position.and_then(|_| self.guards.changed(budgets));
        let too_many = guarded.as_ref().is_some_and(|guarded| guarded.len() > affordable);
        // Budgets that change no more are worth it.
        if too_many && self.guards.put_off_at != Some(budgets.version()) {
            self.guards.put_off_at = Some(budgets.version());
            return false;
        }
        let changes = self.position.and_then(|position| world.changes_since(position).map(Iterator::collect));
        let mut changed: Vec<NodeId> = match (changes, guarded) {
            (Some(changes), Some(guarded)) => [changes, Vec::from_iter(guarded)].concat(),
            _ => {
                *self = Known::default();
                world.order().to_vec()
            }
        };
        changed.extend(self.own.take());
        self.own = world.nominated_node(&pod.uid);
        changed.extend(self.own);
        for node in changed {
            self.update(plan, world, pod, budgets, node);
        }
        (self.position, self.guards.version) = (Some(world.position()), budgets.version());
        true
    }

    fn update(&mut self, plan: &mut Plan, world: &mut World, pod: &Pod, budgets: &Budgets, node: NodeId) {
        if self.nodes.len() <= node.index() {
            self.nodes.resize(world.node_slots(), Outcome::Nothing);
        }
        match std::mem::take(&mut self.nodes[node.index()]) {
            Outcome::Nothing => {}
            Outcome::Evicts(harm, _) => {
                self.best.remove(&(harm, node));
            }
            Outcome::Rejected(id) => self.rejects.remove(id),
        }
        self.guards.set(node, Vec::new());
        if !plan.is_resolvable(world, node) {
            return;
        }
        self.nodes[node.index()] = match victims_on(plan, world, pod, node, budgets) {
            Ok(victims) => {
                let lower = world.info(node).residents.iter().map(|resident| &*resident.pod);
                self.guards.set(node, budgets.about(lower.filter(|other| other.priority() < pod.priority())));
                let harm = harm(&victims);
                self.best.insert((harm, node));
                Outcome::Evicts(harm, Arc::new(victims))
            }
            Err(refusal) => Outcome::Rejected(self.rejects.add(refusal)),
        };
    }

    fn best(&self, wanted: usize) -> Found {
        let victims = |(_, node): &(Harm, NodeId)| match &self.nodes[node.index()] {
            Outcome::Evicts(_, victims) => Some(victims.clone()),
            Outcome::Nothing | Outcome::Rejected(_) => None,
        };
        let found: Vec<_> = self.best.iter().take(wanted.max(1)).filter_map(victims).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let mut vain = Vain::default();
        for (plugin, rejection, nodes) in self.rejects.iter() {
            vain.add((plugin, rejection), nodes);
        }
        Err(vain)
    }

    /// How many nodes were asked about.
    fn asked(&self) -> usize {
        self.best.len() + self.rejects.iter().map(|(_, _, nodes)| nodes).sum::<usize>()
    }
}
