//! The extension points, and the list of plugins that use them. A new plugin is one file beside this one and one line
//! in [`Plugins::default`].

pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod scheduling_gates;
pub mod taint_toleration;

use std::sync::Arc;

use crate::{
    Diagnosis, Node, NodeInfo, Pod,
    diagnosis::{NodeRejection, Rejection},
};

/// The best score of a node after normalization; the worst is 0.
pub const MAX_SCORE: i64 = 100;
/// One bit per plugin says who rejected a pod.
const MAX_PLUGINS: usize = 64;

/// Says whether a pod may enter the active queue at all.
pub trait PreEnqueue: Send + Sync {
    fn may_enqueue(&self, pod: &Pod) -> bool;
}

/// Says whether a node can take a pod.
pub trait Filter: Send + Sync {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection>;

    /// Whether an event can make this plugin accept a pod that it has rejected. As a rule: the node of the event would
    /// pass the filter if it were empty.
    fn wakes(&self, pod: &Pod, event: &Event) -> bool {
        match event {
            Event::NodeAdded(node) | Event::NodeUpdated { new: node, .. } => {
                self.filter(pod, &NodeInfo::empty(node.clone())).is_ok()
            }
            Event::PodRemoved(_) => false,
        }
    }
}

/// Says how good a node is for a pod.
pub trait Score: Send + Sync {
    /// Whether the plugin has nothing to say about this pod.
    fn skips(&self, _pod: &Pod) -> bool {
        false
    }

    fn score(&self, pod: &Pod, info: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into 0 to [`MAX_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Holds something of its own for a pod while it is bound.
pub trait Reserve: Send + Sync {
    fn reserve(&mut self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection>;

    /// Gives it back; also called when `reserve` was not, or failed.
    fn unreserve(&mut self, pod: &Pod, node: &str);
}

/// A change in the cluster that may help pods that wait.
pub enum Event {
    NodeAdded(Arc<Node>),
    NodeUpdated {
        old: Arc<Node>,
        new: Arc<Node>,
    },
    /// A pod left its node, or shrank there.
    PodRemoved(Arc<Pod>),
}

/// One plugin: its name and the extension points that it uses.
pub struct Plugin {
    name: &'static str,
    pre_enqueue: Option<Box<dyn PreEnqueue>>,
    filter: Option<Box<dyn Filter>>,
    score: Option<(Box<dyn Score>, i64)>,
    reserve: Option<Box<dyn Reserve>>,
}

impl Plugin {
    pub fn new(name: &'static str) -> Self {
        Plugin { name, pre_enqueue: None, filter: None, score: None, reserve: None }
    }

    #[must_use]
    pub fn pre_enqueue(mut self, plugin: impl PreEnqueue + 'static) -> Self {
        self.pre_enqueue = Some(Box::new(plugin));
        self
    }

    #[must_use]
    pub fn filter(mut self, plugin: impl Filter + 'static) -> Self {
        self.filter = Some(Box::new(plugin));
        self
    }

    #[must_use]
    pub fn score(mut self, plugin: impl Score + 'static, weight: i64) -> Self {
        self.score = Some((Box::new(plugin), weight));
        self
    }

    #[must_use]
    pub fn reserve(mut self, plugin: impl Reserve + 'static) -> Self {
        self.reserve = Some(Box::new(plugin));
        self
    }
}

/// The plugins in their order. Filters run in it until the first rejection.
pub struct Plugins(Vec<Plugin>);

impl Default for Plugins {
    /// kube-scheduler's order and weights.
    fn default() -> Self {
        Plugins::new(vec![
            Plugin::new("SchedulingGates").pre_enqueue(scheduling_gates::SchedulingGates),
            Plugin::new("NodeUnschedulable").filter(node_unschedulable::NodeUnschedulable),
            Plugin::new("NodeName").filter(node_name::NodeName),
            Plugin::new("TaintToleration")
                .filter(taint_toleration::TaintToleration)
                .score(taint_toleration::TaintToleration, 3),
            Plugin::new("NodeAffinity").filter(node_affinity::NodeAffinity).score(node_affinity::NodeAffinity, 2),
            Plugin::new("NodePorts").filter(node_ports::NodePorts),
            Plugin::new("NodeResourcesFit")
                .filter(node_resources_fit::NodeResourcesFit)
                .score(node_resources_fit::NodeResourcesFit, 1),
        ])
    }
}

impl Plugins {
    /// At most 64 plugins.
    pub fn new(list: Vec<Plugin>) -> Self {
        assert!(list.len() <= MAX_PLUGINS, "more than {MAX_PLUGINS} plugins");
        Plugins(list)
    }

    pub(crate) fn name(&self, index: usize) -> &'static str {
        self.0[index].name
    }

    pub(crate) fn may_enqueue(&self, pod: &Pod) -> bool {
        self.0.iter().filter_map(|plugin| plugin.pre_enqueue.as_ref()).all(|plugin| plugin.may_enqueue(pod))
    }

    /// The first plugin that rejects, and its rejection.
    pub(crate) fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), (usize, Rejection)> {
        for (index, plugin) in self.0.iter().enumerate() {
            if let Some(filter) = &plugin.filter {
                filter.filter(pod, info).map_err(|rejection| (index, rejection))?;
            }
        }
        Ok(())
    }

    pub(crate) fn scores(&self, pod: &Pod) -> impl Iterator<Item = (&dyn Score, i64)> {
        let scores = self.0.iter().filter_map(|plugin| plugin.score.as_ref());
        scores.map(|(score, weight)| (&**score, *weight)).filter(|(score, _)| !score.skips(pod))
    }

    /// All plugins reserve, or none does.
    pub(crate) fn reserve(&mut self, pod: &Pod, info: &NodeInfo) -> Result<(), (usize, Rejection)> {
        let mut refused = None;
        for (index, plugin) in self.0.iter_mut().enumerate() {
            if let Some(reserve) = &mut plugin.reserve
                && let Err(rejection) = reserve.reserve(pod, info)
            {
                refused = Some((index, rejection));
                break;
            }
        }
        match refused {
            None => Ok(()),
            Some(refused) => {
                self.unreserve(pod, &info.node.name);
                Err(refused)
            }
        }
    }

    pub(crate) fn unreserve(&mut self, pod: &Pod, node: &str) {
        for reserve in self.0.iter_mut().rev().filter_map(|plugin| plugin.reserve.as_mut()) {
            reserve.unreserve(pod, node);
        }
    }

    /// The diagnosis of a pod whose chosen node could not be reserved.
    pub(crate) fn refused(
        &self,
        nodes: usize,
        info: &NodeInfo,
        plugin: &'static str,
        rejection: Rejection,
    ) -> Diagnosis {
        let rejection = NodeRejection { node: info.node.name.clone(), plugin, rejection };
        Diagnosis { nodes, rejections: vec![rejection], never_preempts: false }
    }

    /// Whether an event may help a pod that these plugins have rejected. Without any, there was no node to try.
    pub(crate) fn wakes(&self, pod: &Pod, rejected_by: u64, event: &Event) -> bool {
        if rejected_by == 0 {
            return matches!(event, Event::NodeAdded(_));
        }
        self.0.iter().enumerate().any(|(index, plugin)| {
            rejected_by & (1 << index) != 0
                // A plugin that only reserves cannot tell: then every event is worth a try.
                && plugin.filter.as_ref().is_none_or(|filter| filter.wakes(pod, event))
        })
    }
}

/// Scales scores to 0 to [`MAX_SCORE`] by the highest; `reverse` makes the highest the worst.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MAX_SCORE / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
