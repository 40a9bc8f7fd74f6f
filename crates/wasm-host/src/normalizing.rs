//! Scores that a guest compares with each other before they count (`normalizescore`): it sees those of all nodes that fit, by
//! name, at each decision. So each node is a group of its own here, and a decision costs as much as there are nodes that fit.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sched::{
    NodeInfo, World,
    diagnosis::Rejection,
    framework::{Group, GroupScore, Grouping},
};

use crate::{
    guest::{Cycle, Guest, On},
    module::Export,
    scores::Scores,
};

pub(crate) struct Normalizing {
    guest: Arc<Guest>,
    cycle: Arc<Cycle>,
    /// By their numbers, as the keys have them.
    nodes: Mutex<HashMap<i64, Known>>,
}

struct Known {
    name: Arc<str>,
    /// The guest has failed to score it.
    failed: Option<Rejection>,
}

impl Normalizing {
    pub fn new(guest: Arc<Guest>, cycle: Arc<Cycle>) -> Self {
        Normalizing { guest, cycle, nodes: Mutex::default() }
    }

    /// What the nodes have, unless one could not be scored.
    fn given(&self, groups: &[Group<'_>]) -> Result<Scores, Rejection> {
        let nodes = self.nodes.lock();
        let given = groups.iter().map(|group| {
            let known = nodes.get(&group.key[0]).expect("a node is known as soon as it has a key");
            known.failed.clone().map_or_else(|| Ok((known.name.clone(), group.key[1])), Err)
        });
        given.collect()
    }
}

impl Grouping for Normalizing {
    /// The node's number, and its score as it is.
    fn width(&self) -> usize {
        2
    }

    fn key(&self, node: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        let verdict = self.guest.ask(&self.cycle, world, Export::Score, On::Node(node));
        let (score, failed) = match verdict {
            Ok(verdict) => (verdict.map_or(0, |verdict| verdict.score), None),
            Err(rejection) => (0, Some(rejection)),
        };
        let number = i64::try_from(node.id.index()).expect("a node has a number of 32 bits");
        self.nodes.lock().insert(number, Known { name: node.node.name.clone(), failed });
        key.extend([number, score]);
    }
}

impl GroupScore for Normalizing {
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        let given = self.given(groups)?;
        // Without an answer all nodes are the same to it, as if the plugin were not there.
        if let Some(verdict) = self.guest.ask(&self.cycle, world, Export::NormalizeScore, On::Scores(given))? {
            scores.copy_from_slice(&verdict.scores);
        }
        Ok(())
    }
}
