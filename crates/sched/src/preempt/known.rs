//! What preemption has found out about each node, kept until the node changes, and in the order of harm: pods of a kind that
//! preempt one after the other find the best node at the cost of what has changed since the one before.

use std::{collections::BTreeSet, sync::Arc};

use super::{Harm, Vain, Victims, harm, victims_on};
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
}

impl Known {
    /// Finds out about the nodes that have changed.
    pub fn catch_up(&mut self, plan: &mut Plan, world: &mut World, pod: &Pod) {
        let changes = self.position.and_then(|position| world.changes_since(position).map(Iterator::collect));
        let mut changed: Vec<NodeId> = match changes {
            Some(changes) => changes,
            None => {
                *self = Known::default();
                world.order().to_vec()
            }
        };
        changed.extend(self.own.take());
        self.own = world.nominated_node(&pod.uid);
        changed.extend(self.own);
        for node in changed {
            self.update(plan, world, pod, node);
        }
        self.position = Some(world.position());
    }

    fn update(&mut self, plan: &mut Plan, world: &mut World, pod: &Pod, node: NodeId) {
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
        if !plan.is_resolvable(world, node) {
            return;
        }
        self.nodes[node.index()] = match victims_on(plan, world, pod, node, &[]) {
            Ok(victims) => {
                let harm = harm(&victims);
                self.best.insert((harm, node));
                Outcome::Evicts(harm, Arc::new(victims))
            }
            Err(refusal) => Outcome::Rejected(self.rejects.add(refusal)),
        };
    }

    /// The evictions that do the least harm, at most so many; or why there are none.
    pub fn candidates(&self, wanted: usize) -> Result<Vec<Arc<Victims>>, Vain> {
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
    pub fn asked(&self) -> usize {
        self.best.len() + self.rejects.iter().map(|(_, _, nodes)| nodes).sum::<usize>()
    }
}
