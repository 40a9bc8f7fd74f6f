//! A profile: the plugins in their order at each extension point, and the scores' weights.

use std::{sync::Arc, time::Duration};

use crate::{
    Pod,
    diagnosis::Rejection,
    framework::{Bind, Event, Plugin, Point},
    plugins::default_preemption,
    pre_bind::{PreBind, Progress, Write},
    world::{NodeId, World},
};

/// One bit per plugin says who rejected a pod.
pub const MAX_PLUGINS: usize = 63;

/// The bit of all extenders together.
pub(crate) const EXTENDERS: u64 = 1 << MAX_PLUGINS;

/// A plugin's place in its profile.
pub type PluginIndex = usize;

/// A plugin that binds a pod, and how it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Binder {
    pub plugin: Arc<str>,
    pub how: Bind,
}

/// One profile: pods name it as their scheduler.
pub struct Profile {
    pub scheduler_name: String,
    /// How many of the nodes that fit are looked for when a search must not look at all: `None` adapts to their number.
    pub percentage_of_nodes_to_score: Option<u32>,
    /// How many nodes are looked at for pods to evict.
    pub preemption: default_preemption::Args,
    plugins: Vec<Box<dyn Plugin>>,
    pre_enqueue: Vec<PluginIndex>,
    sort: Option<PluginIndex>,
    pre_filter: Vec<PluginIndex>,
    filter: Vec<PluginIndex>,
    post_filter: Vec<PluginIndex>,
    score: Vec<(PluginIndex, i64)>,
    reserve: Vec<PluginIndex>,
    permit: Vec<PluginIndex>,
    pre_bind: Vec<PluginIndex>,
    bind: Vec<PluginIndex>,
    post_bind: Vec<PluginIndex>,
}

impl Profile {
    /// A profile without plugins: every node is as good as any other.
    pub fn new(scheduler_name: impl Into<String>) -> Self {
        Profile {
            scheduler_name: scheduler_name.into(),
            percentage_of_nodes_to_score: None,
            preemption: default_preemption::Args::default(),
            plugins: Vec::new(),
            pre_enqueue: Vec::new(),
            sort: None,
            pre_filter: Vec::new(),
            filter: Vec::new(),
            post_filter: Vec::new(),
            score: Vec::new(),
            reserve: Vec::new(),
            permit: Vec::new(),
            pre_bind: Vec::new(),
            bind: Vec::new(),
            post_bind: Vec::new(),
        }
    }

    /// Adds a plugin at all of its extension points, behind those that are there. At most [`MAX_PLUGINS`].
    #[must_use]
    pub fn with(mut self, plugin: Box<dyn Plugin>, weight: i64) -> Self {
        let points = plugin.points();
        let index = self.add(plugin);
        for point in points {
            self.enable(*point, index, weight);
        }
        self
    }

    /// Adds a plugin that is not asked yet.
    pub fn add(&mut self, plugin: Box<dyn Plugin>) -> PluginIndex {
        assert!(self.plugins.len() < MAX_PLUGINS, "more than {MAX_PLUGINS} plugins");
        self.plugins.push(plugin);
        self.plugins.len() - 1
    }

    /// Asks a plugin at an extension point, after those that are asked there already.
    pub fn enable(&mut self, point: Point, index: PluginIndex, weight: i64) {
        match point {
            Point::PreEnqueue => self.pre_enqueue.push(index),
            Point::QueueSort => self.sort = Some(index),
            Point::PreFilter => self.pre_filter.push(index),
            Point::Filter => self.filter.push(index),
            Point::PostFilter => self.post_filter.push(index),
            Point::Score => self.score.push((index, weight)),
            Point::Reserve => self.reserve.push(index),
            Point::Permit => self.permit.push(index),
            Point::PreBind => self.pre_bind.push(index),
            Point::Bind => self.bind.push(index),
            Point::PostBind => self.post_bind.push(index),
            // Who scores prepares for it.
            Point::PreScore => {}
        }
    }

    pub fn plugin(&self, index: PluginIndex) -> &dyn Plugin {
        &*self.plugins[index]
    }

    /// Has a plugin take up what has changed in it.
    pub(crate) fn renew(&mut self, index: PluginIndex) {
        self.plugins[index].renew();
    }

    pub fn find(&self, name: &str) -> Option<PluginIndex> {
        self.plugins.iter().position(|plugin| plugin.name() == name)
    }

    /// The names of plugins, one bit each.
    pub(crate) fn named(&self, bits: u64) -> impl Iterator<Item = &str> {
        self.rejecting(bits).map(|plugin| plugin.name())
    }

    /// Those that look at a pod before nodes are looked at; for one that only filters, that hands out its filter.
    pub(crate) fn pre_filters(&self) -> impl Iterator<Item = PluginIndex> {
        let only_filters = self.filter.iter().filter(|index| !self.pre_filter.contains(index));
        self.pre_filter.iter().chain(only_filters).copied()
    }

    /// A plugin's place among those that filter, if it does.
    pub(crate) fn filter_place(&self, index: PluginIndex) -> Option<usize> {
        self.filter.iter().position(|known| *known == index)
    }

    pub(crate) fn scores(&self) -> &[(PluginIndex, i64)] {
        &self.score
    }

    /// Those that do something for a pod that no node takes.
    pub(crate) fn post_filters(&self) -> &[PluginIndex] {
        &self.post_filter
    }

    pub(crate) fn rank(&self, pod: &Pod) -> i64 {
        self.sort.map_or(0, |index| self.plugins[index].rank(pod))
    }

    pub(crate) fn pre_enqueue(&self, pod: &Pod, world: &World) -> Result<(), (PluginIndex, Rejection)> {
        for index in &self.pre_enqueue {
            self.plugins[*index].pre_enqueue(pod, world).map_err(|rejection| (*index, rejection))?;
        }
        Ok(())
    }

    /// All plugins reserve, or none does.
    pub(crate) fn reserve(
        &mut self,
        pod: &Pod,
        node: NodeId,
        world: &mut World,
    ) -> Result<(), (PluginIndex, Rejection)> {
        for at in 0..self.reserve.len() {
            let index = self.reserve[at];
            if let Err(rejection) = self.plugins[index].reserve(pod, node, world) {
                let name = world.info(node).node.name.clone();
                self.unreserve(pod, &name, world);
                return Err((index, rejection));
            }
        }
        Ok(())
    }

    pub(crate) fn unreserve(&mut self, pod: &Pod, node: &str, world: &mut World) {
        for index in self.reserve.iter().rev() {
            self.plugins[*index].unreserve(pod, node, world);
        }
    }

    pub(crate) fn pre_bind(&self, pod: &Pod, world: &World) -> PreBind {
        let mut all = PreBind::default();
        for index in &self.pre_bind {
            all.add(self.plugins[*index].pre_bind(pod, world));
        }
        all
    }

    /// How far everything is that goes before the binding; `over`: there was time enough for it.
    pub(crate) fn pre_bound(&self, pod: &Pod, node: &str, world: &World, over: bool) -> Progress {
        self.progress(&self.pre_bind, |plugin| {
            let why = match plugin.pre_bound(pod, node, world) {
                Progress::Failed(why) => why,
                Progress::Waiting if over => plugin.waited_in_vain(),
                progress => return progress,
            };
            Progress::Failed(format!("running PreBind plugin {:?}: {why}", plugin.name()))
        })
    }

    pub(crate) fn take_back(&self, pod: &Pod, world: &World) -> Vec<Write> {
        self.reserve.iter().rev().flat_map(|index| self.plugins[*index].take_back(pod, world)).collect()
    }

    /// All plugins agree that the pod is bound now, or one does not.
    pub(crate) fn may_bind(&self, pod: &Pod, node: &str, world: &World) -> Result<(), (PluginIndex, Rejection)> {
        for index in &self.pre_bind {
            self.plugins[*index].may_bind(pod, node, world).map_err(|rejection| (*index, rejection))?;
        }
        Ok(())
    }

    /// How the pod is bound; `None`: no plugin does.
    pub(crate) fn bind(
        &self,
        pod: &Pod,
        node: &str,
        world: &World,
    ) -> Result<Option<Binder>, (PluginIndex, Rejection)> {
        for index in &self.bind {
            let plugin = self.plugin(*index);
            match plugin.bind(pod, node, world).map_err(|rejection| (*index, rejection))? {
                Bind::Skip => {}
                how => return Ok(Some(Binder { plugin: plugin.name().into(), how })),
            }
        }
        Ok(None)
    }

    /// The longest that a plugin has the pod wait; the first that rejects it has the last word.
    pub(crate) fn permit(
        &self,
        pod: &Pod,
        node: &str,
        world: &World,
    ) -> Result<Option<Duration>, (PluginIndex, Rejection)> {
        let mut wait = None;
        for index in &self.permit {
            let own = self.plugins[*index].permit(pod, node, world).map_err(|rejection| (*index, rejection))?;
            wait = wait.max(own);
        }
        Ok(wait)
    }

    pub(crate) fn permitted(&self, pod: &Pod, node: &str, world: &World) -> Progress {
        self.progress(&self.permit, |plugin| plugin.permitted(pod, node, world))
    }

    pub(crate) fn post_bind(&mut self, pod: &Pod, node: &str, world: &mut World) {
        for index in &self.post_bind {
            self.plugins[*index].post_bind(pod, node, world);
        }
    }

    /// The first that has failed, or else that is not done.
    fn progress(&self, plugins: &[PluginIndex], ask: impl Fn(&dyn Plugin) -> Progress) -> Progress {
        let mut all = Progress::Done;
        for index in plugins {
            match ask(self.plugin(*index)) {
                Progress::Done => {}
                Progress::Waiting => all = Progress::Waiting,
                failed @ Progress::Failed(_) => return failed,
            }
        }
        all
    }

    /// Whether an event may help a pod that these plugins, one bit each, have rejected. Without any, there was no node.
    pub(crate) fn helps(&self, pod: &Pod, rejected_by: u64, event: &Event, world: &World) -> bool {
        if rejected_by == 0 {
            return matches!(event, Event::NodeAdded(_));
        }
        if rejected_by & EXTENDERS != 0 {
            // What helps with them, only they know.
            return true;
        }
        self.rejecting(rejected_by).any(|plugin| plugin.helps(pod, event, world))
    }

    /// Whether a change of the pod itself may help it.
    pub(crate) fn helps_itself(&self, rejected_by: u64, old: &Pod, new: &Pod) -> bool {
        rejected_by == 0
            || rejected_by & EXTENDERS != 0
            || self.rejecting(rejected_by).any(|plugin| plugin.helps_itself(old, new))
    }

    fn rejecting(&self, bits: u64) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().enumerate().filter(move |(index, _)| bits & (1 << index) != 0).map(|(_, plugin)| &**plugin)
    }
}
