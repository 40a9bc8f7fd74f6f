//! What was thought of the nodes when a pod was placed: who rejected how many, and the scores of the best.

use std::sync::Arc;

use crate::diagnosis::Rejected;

/// So many of the best nodes are named, unless it is said otherwise.
pub const NAMED: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// All nodes that there are.
    pub nodes: usize,
    /// How many of them fitted; the others were rejected or not looked at.
    pub feasible: usize,
    pub rejected: Vec<Rejected>,
    /// Who gave the points of [`Candidate::parts`], in their order.
    pub scorers: Arc<[Arc<str>]>,
    /// The chosen node first. Empty: there was nothing to choose, because a node had been freed for the pod.
    pub best: Vec<Candidate>,
}

/// A node that fitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: Arc<str>,
    /// The sum of the parts.
    pub score: i64,
    /// Scores times weights.
    pub parts: Vec<i64>,
}
