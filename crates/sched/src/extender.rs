//! Extenders: those outside the process that have a say in where a pod goes (kube-scheduler's extender webhook).
//!
//! The engine waits for nobody. A pod that an extender is interested in is decided in two steps: the nodes that fit by what is
//! known here are handed out ([`crate::Decision::Consult`]), and the [`Advice`] that comes back is the input of the decision.
//! In between, others are decided, and nodes fill; what no longer fits when the advice comes is not taken, so answers may be
//! slow, and many may be asked for at one time.

use std::{collections::HashMap, sync::Arc};

use crate::{Pod, diagnosis::Rejected, framework::MAX_SCORE, preempt::Victims};

/// The best priority that an extender gives to a node.
pub const MAX_PRIORITY: i64 = 10;

/// What the engine needs to know of an extender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extender {
    pub name: String,
    /// Only pods that ask for one of these are its business; none: all pods are.
    pub resources: Vec<Arc<str>>,
    /// It is asked about nodes, before one is chosen.
    pub nodes: bool,
    /// It is asked about pods, before they are evicted.
    pub victims: bool,
}

impl Extender {
    pub fn is_interested(&self, pod: &Pod) -> bool {
        let asks = |name: &Arc<str>| match &**name {
            "cpu" => pod.spec.requests.milli_cpu > 0,
            "memory" => pod.spec.requests.memory > 0,
            "ephemeral-storage" => pod.spec.requests.ephemeral_storage > 0,
            other => pod.spec.requests.scalars.iter().any(|(known, _)| **known == *other),
        };
        self.resources.is_empty() || self.resources.iter().any(asks)
    }
}

/// An eviction as the extenders see it: pods are their uids. They may name others on the node than they were asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub node: Arc<str>,
    pub pods: Vec<Arc<str>>,
    /// How many of them their budgets do not allow to be evicted.
    pub violations: usize,
}

impl From<&Victims> for Eviction {
    fn from(victims: &Victims) -> Self {
        Eviction {
            node: victims.node.clone(),
            pods: victims.pods.iter().map(|pod| pod.uid.clone()).collect(),
            violations: victims.violations,
        }
    }
}

/// What the extenders said about the nodes that were handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Those that may be taken, and what the extenders' priorities, times their weights, add up to.
    pub nodes: HashMap<Arc<str>, i64>,
    /// The others, by extender and reason.
    pub rejected: Vec<Rejected>,
}

impl Advice {
    /// What an extender's priorities are worth beside the plugins' scores.
    pub(crate) fn score(priority: i64) -> i64 {
        priority.saturating_mul(MAX_SCORE / MAX_PRIORITY)
    }
}
