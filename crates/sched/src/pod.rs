//! What scheduling needs to know of a pod, and no more: two pods that are equal here are scheduled alike, so an update
//! that leaves this equal (a status, a label) wakes nobody.

use std::sync::Arc;

use crate::{Resources, Taint, TaintEffect, selector::Term};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// The node it is bound to.
    pub node_name: Option<Arc<str>>,
    pub priority: i32,
    pub requests: Resources,
    /// The requests that scores count: a container without any counts as a small one.
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
    /// Labels that the node must have, sorted.
    pub node_selector: Vec<(Arc<str>, Arc<str>)>,
    /// Terms of which one must match; `None`: any node does.
    pub required_affinity: Option<Vec<Term>>,
    pub preferred_affinity: Vec<PreferredTerm>,
    pub tolerations: Vec<Toleration>,
    pub host_ports: Vec<HostPort>,
    pub scheduling_gates: Vec<Arc<str>>,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// Being deleted: it is not placed any more.
    pub deleting: bool,
    /// Succeeded or failed: it uses nothing any more.
    pub terminal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferredTerm {
    pub weight: i32,
    pub term: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TolerationOperator {
    Equal,
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Empty: every key.
    pub key: Arc<str>,
    pub operator: TolerationOperator,
    pub value: Arc<str>,
    /// `None`: every effect.
    pub effect: Option<TaintEffect>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.operator == TolerationOperator::Exists || self.value == taint.value)
    }
}

/// A port of the node that a container wants for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: Arc<str>,
    /// Empty: all addresses of the node.
    pub ip: Arc<str>,
    pub port: u16,
}

impl HostPort {
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

impl Pod {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}
