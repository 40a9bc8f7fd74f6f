//! The extension points. A plugin is one type that implements [`Plugin`] and overrides what it takes part in; it is one file
//! in [`crate::plugins`] and one line in [`crate::plugins::registry`].
//!
//! ```text
//!  pre_enqueue ─▶ sort ─▶ pre_filter ─▶ Filter, GroupFilter ─▶ pre_score ─▶ Score, GroupScore ─▶ reserve ─▶ permit
//!                                 └─ no node ─▶ post_filter              post_bind ◀ bind ◀ may_bind ◀ pre_bind ◀┘
//! ```
//!
//! `pre_filter` and `pre_score` look at a pod once and hand out what is then asked about each node. Pods with the same spec
//! and labels share it ([`crate::plan`]), and a node is asked about again only when it, or a pod on it, has changed. What
//! depends on more than one node is asked about a *group*: nodes that the plugin cannot tell apart, because it describes
//! them by the same key. So the cost of a decision follows the change and the number of groups, not that of nodes.

use std::{sync::Arc, time::Duration};

use crate::{
    Node, NodeInfo, Pod,
    device::DeviceEvent,
    diagnosis::{Diagnosis, Reason, Rejection},
    plan::Plan,
    pre_bind::{PreBind, Progress, Request, Write},
    storage::StorageEvent,
    world::{NodeId, World},
};

/// The best score of a node after normalisation; the worst is 0.
pub const MAX_SCORE: i64 = 100;

/// An extension point, by the name that KubeSchedulerConfiguration has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

/// All that a plugin can take part in. Every method has a default that lets pods pass.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &str;

    /// The extension points that the methods below are meant for; a profile asks only there.
    fn points(&self) -> &'static [Point];

    /// Whether the pod may enter the active queue; a rejection keeps it out until the pod changes or an event helps.
    fn pre_enqueue(&self, _pod: &Pod, _world: &World) -> Result<(), Rejection> {
        Ok(())
    }

    /// Pods with the higher rank go first; among equals, the one that came first.
    fn rank(&self, pod: &Pod) -> i64 {
        i64::from(pod.priority())
    }

    /// What this pod asks of nodes, or why no node will do.
    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        Ok(PreFilter::default())
    }

    /// What is done for a pod that no node takes. Plugins are asked in their order until one has made room for it.
    fn post_filter(&self, _pod: &Pod, _found: &Unplaced<'_>, _world: &World) -> PostFilter {
        PostFilter::Nothing
    }

    /// What makes nodes better for this pod.
    fn pre_score(&self, _pod: &Pod, _world: &mut World) -> PreScore {
        PreScore::default()
    }

    /// Holds something of the plugin's own for a pod while it is bound.
    fn reserve(&mut self, _pod: &Pod, _node: NodeId, _world: &mut World) -> Result<(), Rejection> {
        Ok(())
    }

    /// Gives it back; also called when `reserve` was not, or failed.
    fn unreserve(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {}

    /// Asked when all have reserved and the pod is counted on its node: it may go on, it waits so long at most, or it is to
    /// have another node.
    fn permit(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Option<Duration>, Rejection> {
        Ok(None)
    }

    /// Whether a pod that this plugin has waiting may go on; asked whenever something has changed.
    fn permitted(&self, _pod: &Pod, _node: &str, _world: &World) -> Progress {
        Progress::Done
    }

    /// What must be written, and then come true, before the pod is bound; asked when all have permitted it.
    fn pre_bind(&self, _pod: &Pod, _world: &World) -> PreBind {
        PreBind::default()
    }

    /// How far that is; the node is the one that was reserved.
    fn pre_bound(&self, _pod: &Pod, _node: &str, _world: &World) -> Progress {
        Progress::Done
    }

    /// Whether the pod may be bound now. Asked once, when all that must come before has come true; a rejection gives its node
    /// back.
    fn may_bind(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<(), Rejection> {
        Ok(())
    }

    /// What to say when that takes too long.
    fn waited_in_vain(&self) -> String {
        "timed out waiting for the condition".to_owned()
    }

    /// What is to be written before a pod's placement is given up, so that nothing of it stays. Another attempt begins only after
    /// that.
    fn take_back(&self, _pod: &Pod, _world: &World) -> Vec<Write> {
        Vec::new()
    }

    /// How the pod is bound, asked when all agree that it may be; the first plugin that does not skip it has it. A rejection gives
    /// the node back.
    fn bind(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Bind, Rejection> {
        Ok(Bind::Skip)
    }

    /// The pod is bound.
    fn post_bind(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {}

    /// Takes up what has changed in the plugin itself: called when it was asked for ([`crate::Engine::renew`]), and never
    /// while a decision is made. What the plugin has said before is forgotten.
    fn renew(&mut self) {}

    /// Whether an event can make this plugin accept a pod that it has rejected (the queueing hint).
    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        true
    }

    /// Likewise for a change of the pod itself, from what it was when it was rejected.
    fn helps_itself(&self, _old: &Pod, _new: &Pod) -> bool {
        true
    }
}

/// What [`Plugin::post_filter`] does.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PostFilter {
    #[default]
    Nothing,
    /// Nothing either, and the pod is told why.
    Says(Reason),
    /// This is written, and the pod is told so.
    Writes(Write, Reason),
    /// Others are evicted, if that makes room ([`crate::preempt`]).
    Preempts,
    /// The node is kept for it (status.nominatedNodeName), and the pod is told so. When it is tried again, which is for
    /// [`Plugin::helps`] to say, it has the node if it fits.
    Nominates(Arc<str>, Reason),
}

/// A pod that no node takes, and why.
pub struct Unplaced<'a> {
    pub diagnosis: &'a Diagnosis,
    /// None: it was rejected before any node was looked at.
    pub(crate) plan: Option<&'a Plan>,
}

impl<'a> Unplaced<'a> {
    /// One that was rejected before any node was looked at.
    pub fn before_nodes(diagnosis: &'a Diagnosis) -> Self {
        Unplaced { diagnosis, plan: None }
    }

    /// Whether the pod might have the node if others were taken off.
    pub fn is_resolvable(&self, node: NodeId, world: &World) -> bool {
        self.plan.is_some_and(|plan| plan.is_resolvable(world, node))
    }
}

/// What [`Plugin::bind`] does.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Bind {
    /// The next plugin is asked.
    #[default]
    Skip,
    /// A Binding is written.
    Binding,
    /// This is written instead; whoever serves it binds the pod.
    Request(Request),
}

/// What [`Plugin::pre_filter`] found out.
#[derive(Default)]
pub struct PreFilter {
    pub filter: Option<Box<dyn Filter>>,
    pub group: Option<Box<dyn GroupFilter>>,
    /// Only these nodes, by name, can come into question.
    pub only: Option<Vec<Arc<str>>>,
    /// It holds for this very pod, and not for others with the same spec and labels.
    pub own: bool,
}

/// What [`Plugin::pre_score`] found out.
#[derive(Default)]
pub struct PreScore {
    pub score: Option<Box<dyn Score>>,
    pub group: Option<Box<dyn GroupScore>>,
    /// As [`PreFilter::own`].
    pub own: bool,
}

/// Whether a node can take the pod, by what is known of the node and of the pods on it.
pub trait Filter: Send + Sync {
    fn filter(&self, node: &NodeInfo, world: &World) -> Result<(), Rejection>;
}

/// How good a node is for the pod, 0 to [`MAX_SCORE`], by what is known of the node and of the pods on it. A plugin that fails
/// to say so rejects the node.
pub trait Score: Send + Sync {
    fn score(&self, node: &NodeInfo, world: &World) -> Result<i64, Rejection>;
}

/// Describes nodes by numbers such that nodes with equal numbers are all the same to the plugin.
pub trait Grouping: Send + Sync {
    /// How many numbers there are.
    fn width(&self) -> usize;

    /// Appends them. Asked again when the node or a pod on it has changed.
    fn key(&self, node: &NodeInfo, world: &World, key: &mut Vec<i64>);
}

/// Whether a group of nodes can take the pod; asked at every decision.
pub trait GroupFilter: Grouping {
    fn filter(&self, key: &[i64], world: &World) -> Result<(), Rejection>;
}

/// How good each group is for the pod; asked at every decision, of the groups that can take it.
pub trait GroupScore: Grouping {
    /// Writes each group's score, 0 to [`MAX_SCORE`]. A plugin that fails to say so rejects the pod.
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection>;
}

/// Nodes that are all the same to a plugin.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    pub key: &'a [i64],
    pub nodes: usize,
}

/// Pods that are placed together or not at all (a PodGroup with the gang policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gang {
    /// So many at least.
    pub min_count: usize,
}

/// A change in the cluster that may help pods that wait.
#[derive(Clone, Debug)]
pub enum Event {
    NodeAdded(Arc<Node>),
    NodeUpdated {
        old: Arc<Node>,
        new: Arc<Node>,
    },
    NodeRemoved(Arc<Node>),
    /// A pod was placed on a node.
    PodAdded(Arc<Pod>),
    /// A pod on a node has changed.
    PodUpdated {
        old: Arc<Pod>,
        new: Arc<Pod>,
    },
    /// A pod left its node.
    PodRemoved(Arc<Pod>),
    /// An object of storage was added, changed or removed.
    Storage(StorageEvent),
    /// A claim to devices was added, changed or removed, or what devices there are.
    Devices(DeviceEvent),
    /// Labels of a namespace.
    NamespaceChanged,
    /// What Services and workloads select, which default spreading goes by.
    WorkloadChanged,
}

impl Event {
    /// kube-scheduler's name of it, as its metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Event::NodeAdded(_) => "NodeAdd",
            Event::NodeUpdated { .. } => "NodeUpdate",
            Event::NodeRemoved(_) => "NodeDelete",
            Event::PodAdded(_) => "AssignedPodAdd",
            Event::PodUpdated { .. } => "AssignedPodUpdate",
            Event::PodRemoved(_) => "AssignedPodDelete",
            Event::Storage(event) => event.label(),
            Event::Devices(event) => event.label(),
            Event::NamespaceChanged => "NamespaceUpdate",
            Event::WorkloadChanged => "WorkloadUpdate",
        }
    }
}

/// Scales numbers to 0 to [`MAX_SCORE`] by the highest; `reverse` makes the highest the worst (DefaultNormalizeScore).
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MAX_SCORE / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

/// A group score whose key is one number, scaled by the highest of all groups.
pub struct Scaled<F> {
    /// The number of a node.
    pub number: F,
    /// The highest is the worst.
    pub reverse: bool,
}

impl<F: Fn(&NodeInfo, &World) -> i64 + Send + Sync> Grouping for Scaled<F> {
    fn width(&self) -> usize {
        1
    }

    fn key(&self, node: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        key.push((self.number)(node, world));
    }
}

impl<F: Fn(&NodeInfo, &World) -> i64 + Send + Sync> GroupScore for Scaled<F> {
    fn score(&self, groups: &[Group<'_>], _world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        for (score, group) in scores.iter_mut().zip(groups) {
            *score = group.key[0];
        }
        normalize(scores, self.reverse);
        Ok(())
    }
}

/// A closure is a filter.
impl<F: Fn(&NodeInfo, &World) -> Result<(), Rejection> + Send + Sync> Filter for F {
    fn filter(&self, node: &NodeInfo, world: &World) -> Result<(), Rejection> {
        self(node, world)
    }
}

/// A closure that returns a number is a score.
impl<F: Fn(&NodeInfo, &World) -> i64 + Send + Sync> Score for F {
    fn score(&self, node: &NodeInfo, world: &World) -> Result<i64, Rejection> {
        Ok(self(node, world))
    }
}

impl PreFilter {
    /// A filter that depends on the node alone.
    pub fn by_node(filter: impl Filter + 'static) -> Self {
        PreFilter { filter: Some(Box::new(filter)), ..Default::default() }
    }
}

impl PreScore {
    pub fn by_node(score: impl Score + 'static) -> Self {
        PreScore { score: Some(Box::new(score)), ..Default::default() }
    }

    pub fn by_group(group: impl GroupScore + 'static) -> Self {
        PreScore { group: Some(Box::new(group)), ..Default::default() }
    }
}
