//! Why no node takes a pod, by plugin and reason, and the sentence that users know.

use std::{borrow::Cow, collections::BTreeMap};

/// A reason as it stands in the message after its count.
pub type Reason = Cow<'static, str>;

/// One node's answer to a pod that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

    /// The reasons as one text.
    pub fn text(&self) -> String {
        self.reasons.join(", ")
    }
}

/// A rejection, the plugin that spoke it, and of how many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub plugin: String,
    pub rejection: Rejection,
    pub nodes: usize,
}

/// What came of the attempt to make room by evicting other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Preemption {
    /// The profile has no plugin for it, or there was nothing to try.
    #[default]
    NotTried,
    /// The pod must not have others evicted, for this reason.
    NotEligible(Reason),
    /// It was tried in vain: how many nodes gave which reason.
    Failed(BTreeMap<Reason, usize>),
    /// A node is being freed for it.
    Nominated(String),
}

/// Everything that is known about a pod that cannot be placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// All nodes that there are.
    pub nodes: usize,
    pub rejected: Vec<Rejected>,
    /// A plugin rejected the pod before it looked at any node.
    pub before_nodes: Option<(String, String)>,
    pub preemption: Preemption,
    /// What plugins say that could have done something for it, and could not.
    pub said: Vec<Reason>,
}

impl Diagnosis {
    pub fn of(nodes: usize, rejected: Vec<Rejected>) -> Self {
        Diagnosis { nodes, rejected, ..Default::default() }
    }

    /// The names of the plugins that rejected the pod somewhere, sorted.
    pub fn plugins(&self) -> Vec<&str> {
        let before = self.before_nodes.iter().map(|(plugin, _)| plugin.as_str());
        let mut names: Vec<_> = self.rejected.iter().map(|rejected| rejected.plugin.as_str()).chain(before).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// kube-scheduler's message for the event and for the pod's condition.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let why = match &self.before_nodes {
            Some((_, text)) => format!("0/{} nodes are available: {text}.", self.nodes),
            None => {
                let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
                for rejected in &self.rejected {
                    for reason in &rejected.rejection.reasons {
                        *counts.entry(reason.clone()).or_default() += rejected.nodes;
                    }
                }
                self.sentence(&counts)
            }
        };
        let mut said: Vec<String> = self.said.iter().map(ToString::to_string).collect();
        match &self.preemption {
            Preemption::NotTried => {}
            Preemption::Nominated(_) => said.clear(),
            Preemption::NotEligible(reason) => said.push(format!("preemption: {reason}")),
            Preemption::Failed(counts) => said.push(format!("preemption: {}", self.sentence(counts))),
        }
        if said.is_empty() { why } else { format!("{why} {}", said.join(", ")) }
    }

    fn sentence(&self, counts: &BTreeMap<Reason, usize>) -> String {
        // The order is that of the texts with their counts: "10 a" comes before "2 b".
        let mut parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort_unstable();
        format!("0/{} nodes are available: {}.", self.nodes, parts.join(", "))
    }
}
