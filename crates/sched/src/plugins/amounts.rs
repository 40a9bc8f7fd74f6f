//! Amounts of one resource: what a node has and has given, what a pod asks for.

use std::sync::Arc;

use crate::{NodeInfo, Spec};

/// A resource by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
    EphemeralStorage,
    /// Extended resources and huge pages.
    Scalar(Arc<str>),
}

impl Resource {
    pub fn named(name: &str) -> Self {
        match name {
            "cpu" => Resource::Cpu,
            "memory" => Resource::Memory,
            "ephemeral-storage" => Resource::EphemeralStorage,
            other => Resource::Scalar(other.into()),
        }
    }

    pub fn allocatable(&self, info: &NodeInfo) -> i64 {
        let all = &info.node.allocatable;
        match self {
            Resource::Cpu => all.milli_cpu,
            Resource::Memory => all.memory,
            Resource::EphemeralStorage => all.ephemeral_storage,
            Resource::Scalar(name) => all.scalar(name),
        }
    }

    /// What the node's pods ask for.
    pub fn requested(&self, info: &NodeInfo) -> i64 {
        match self {
            Resource::Cpu => info.requested.milli_cpu,
            Resource::Memory => info.requested.memory,
            Resource::EphemeralStorage => info.requested.ephemeral_storage,
            Resource::Scalar(name) => info.requested.scalar(name),
        }
    }

    /// The same as scores count it: containers that ask for nothing count as small ones.
    pub fn scored(&self, info: &NodeInfo) -> i64 {
        match self {
            Resource::Cpu => info.scored_milli_cpu,
            Resource::Memory => info.scored_memory,
            Resource::EphemeralStorage | Resource::Scalar(_) => self.requested(info),
        }
    }

    pub fn asked(&self, spec: &Spec) -> i64 {
        match self {
            Resource::Cpu => spec.requests.milli_cpu,
            Resource::Memory => spec.requests.memory,
            Resource::EphemeralStorage => spec.requests.ephemeral_storage,
            Resource::Scalar(name) => spec.requests.scalar(name),
        }
    }

    pub fn asked_scored(&self, spec: &Spec) -> i64 {
        match self {
            Resource::Cpu => spec.scored_milli_cpu,
            Resource::Memory => spec.scored_memory,
            Resource::EphemeralStorage | Resource::Scalar(_) => self.asked(spec),
        }
    }

    /// Whether nodes are compared by it for a pod that asks for so much: extended resources only if it asks for any.
    pub fn counts(&self, asked: i64) -> bool {
        asked != 0 || !matches!(self, Resource::Scalar(_))
    }
}
