//! What scheduling needs to know of a node. Two nodes that are equal here attract pods alike, so a heartbeat changes
//! nothing and wakes nobody.

use std::sync::Arc;

use crate::{
    Resources,
    labels::{self, Labels},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    /// Sorted by key.
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// How many pods it takes.
    pub allowed_pods: i64,
    /// Images that are there already: normalised name and size in bytes, sorted by name.
    pub images: Vec<(Arc<str>, i64)>,
    /// What its agent says it can do.
    pub features: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    pub fn label(&self, key: &str) -> Option<&Arc<str>> {
        labels::value(&self.labels, key)
    }

    pub fn image(&self, name: &str) -> Option<i64> {
        let found = self.images.binary_search_by(|(known, _)| (**known).cmp(name));
        found.ok().map(|at| self.images[at].1)
    }
}
