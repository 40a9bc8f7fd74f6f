//! One decision: filter the nodes of a snapshot, score those that are left, take the best.

use std::sync::Arc;

use crate::{
    Diagnosis, NodeInfo, Pod, Snapshot,
    diagnosis::NodeRejection,
    plugins::{MAX_SCORE, Plugins},
};

/// Up to so many nodes, all are looked at; above, a share that shrinks with their number is good enough.
const MIN_FEASIBLE: usize = 100;
const MIN_PERCENTAGE: usize = 5;

pub(crate) enum Outcome {
    Placed(Arc<NodeInfo>),
    /// The diagnosis, and the plugins that rejected the pod, one bit each.
    Unfit(Diagnosis, u64),
}

/// What goes on from decision to decision: where to begin, so that all nodes get their turn, and how ties fall.
pub(crate) struct Rotation {
    start: usize,
    random: u64,
}

impl Rotation {
    pub fn new(seed: u64) -> Self {
        // The generator (xorshift64*) must not begin at zero.
        Rotation { start: 0, random: seed | 1 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

pub(crate) fn decide(plugins: &Plugins, snapshot: &Snapshot, pod: &Pod, rotation: &mut Rotation) -> Outcome {
    let nodes = &snapshot.nodes;
    let wanted = feasible_to_find(nodes.len());
    let (mut feasible, mut rejections, mut rejected_by, mut looked) = (Vec::new(), Vec::new(), 0u64, 0);
    for step in 0..nodes.len() {
        let info = &nodes[(rotation.start + step) % nodes.len()];
        looked += 1;
        match plugins.filter(pod, info) {
            Ok(()) => feasible.push(info),
            Err((index, rejection)) => {
                rejected_by |= 1 << index;
                let plugin = plugins.name(index);
                rejections.push(NodeRejection { node: info.node.name.clone(), plugin, rejection });
            }
        }
        if feasible.len() >= wanted {
            break;
        }
    }
    if !nodes.is_empty() {
        rotation.start = (rotation.start + looked) % nodes.len();
    }
    match feasible.as_slice() {
        [] => {
            let diagnosis = Diagnosis { nodes: nodes.len(), rejections, never_preempts: pod.never_preempts };
            Outcome::Unfit(diagnosis, rejected_by)
        }
        [only] => Outcome::Placed((*only).clone()),
        several => Outcome::Placed(best(plugins, pod, several, rotation).clone()),
    }
}

/// How many nodes that fit are enough to choose from: kube-scheduler's adaptive share.
fn feasible_to_find(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes.max(1);
    }
    let percentage = 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE);
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}

/// The node with the highest sum of weighted scores; among equals each is as likely.
fn best<'a>(
    plugins: &Plugins,
    pod: &Pod,
    feasible: &[&'a Arc<NodeInfo>],
    rotation: &mut Rotation,
) -> &'a Arc<NodeInfo> {
    let mut totals = vec![0i64; feasible.len()];
    let mut scores = vec![0i64; feasible.len()];
    for (score, weight) in plugins.scores(pod) {
        for (slot, info) in scores.iter_mut().zip(feasible) {
            *slot = score.score(pod, info);
        }
        score.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += weight * (*score).clamp(0, MAX_SCORE);
        }
    }
    let (mut chosen, mut equals) = (0, 1);
    for index in 1..totals.len() {
        if totals[index] > totals[chosen] {
            (chosen, equals) = (index, 1);
        } else if totals[index] == totals[chosen] {
            equals += 1;
            if rotation.below(equals) == 0 {
                chosen = index;
            }
        }
    }
    feasible[chosen]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_many_nodes_is_enough() {
        for (nodes, expected) in
            [(0, 1), (3, 3), (99, 99), (100, 100), (250, 120), (1000, 420), (5000, 500), (6000, 300)]
        {
            assert_eq!(feasible_to_find(nodes), expected, "{nodes} nodes");
        }
    }
}
