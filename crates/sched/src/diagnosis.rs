//! Why no node takes a pod, per node and per plugin, and the sentence that users know.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// A reason as it stands in the message after its count.
pub type Reason = Cow<'static, str>;

/// One node's answer to a pod that it does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<Reason>,
    /// No removal of other pods would help.
    pub unresolvable: bool,
}

impl Rejection {
    /// Taking pods off the node might help.
    pub fn resolvable(reason: impl Into<Reason>) -> Self {
        Rejection { reasons: vec![reason.into()], unresolvable: false }
    }

    /// Nothing but a change of the node or the pod helps.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Rejection { reasons: vec![reason.into()], unresolvable: true }
    }
}

/// A rejection with its node and the plugin that spoke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRejection {
    pub node: Arc<str>,
    pub plugin: &'static str,
    pub rejection: Rejection,
}

/// Everything that is known about a pod that cannot be placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// All nodes that there are.
    pub nodes: usize,
    pub rejections: Vec<NodeRejection>,
    /// The pod's `preemptionPolicy` is Never.
    pub never_preempts: bool,
}

impl Diagnosis {
    /// The names of the plugins that rejected the pod somewhere.
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.rejections.iter().map(|rejection| rejection.plugin).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// kube-scheduler's message for the event and for the pod's condition.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let reasons = self.rejections.iter().flat_map(|rejection| rejection.rejection.reasons.iter());
        let why = self.sentence(reasons.map(|reason| &**reason));
        if self.never_preempts {
            return format!("{why} preemption: not eligible due to preemptionPolicy=Never.");
        }
        format!("{why} preemption: {}", self.sentence(self.rejections.iter().map(preemption_reason)))
    }

    fn sentence<'a>(&self, reasons: impl Iterator<Item = &'a str>) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in reasons {
            *counts.entry(reason).or_default() += 1;
        }
        // The order is that of the texts with their counts: "10 a" comes before "2 b".
        let mut parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort_unstable();
        format!("0/{} nodes are available: {}.", self.nodes, parts.join(", "))
    }
}

/// Pods are not evicted for others here, so a node that could be freed has no victims to offer.
fn preemption_reason(rejection: &NodeRejection) -> &'static str {
    if rejection.rejection.unresolvable {
        "Preemption is not helpful for scheduling"
    } else {
        "No preemption victims found for incoming pod"
    }
}
