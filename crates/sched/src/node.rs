//! What scheduling needs to know of a node. Two nodes that are equal here attract pods alike, so a heartbeat changes
//! nothing and wakes nobody.

use std::sync::Arc;

use crate::Resources;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    /// Sorted by key.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// How many pods it takes.
    pub allowed_pods: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: Arc<str>,
    pub value: Arc<str>,
    pub effect: TaintEffect,
}

impl Node {
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|(known, _)| (**known).cmp(key));
        found.ok().map(|at| &*self.labels[at].1)
    }
}
