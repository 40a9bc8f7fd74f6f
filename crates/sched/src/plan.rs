//! What pods with the same spec and labels need to know of the nodes, kept from one decision to the next.
//!
//! ```text
//!   world ── nodes that changed ──▶ evaluate: Filter, key, Score ──▶ rejected, or a place in a group
//!                                                                          │ at each decision
//!                                       chosen ◀── GroupScore ◀── GroupFilter
//! ```
//!
//! The first decision evaluates nodes, each further one only those that changed since, usually the one that the decision
//! before has filled. All nodes take part in each, so nothing is lost by it: it is the serial scheduler, computed
//! incrementally. A pod that is alone with its spec is not worth that: for it a plan looks at nodes in rotation until
//! enough fit, and is thrown away.

mod choice;
mod groups;
mod rejects;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use crate::{
    Pod,
    diagnosis::Rejection,
    explanation::{Explanation, NAMED},
    framework::{Filter, GroupFilter, GroupScore, MAX_SCORE, Score},
    preempt::Known,
    profile::{PluginIndex, Profile},
    world::{NodeId, Resident, World},
};
use groups::{GroupId, Groups, Members, Standing};
pub(crate) use rejects::{RejectId, Rejects};

/// Groups that have lost their nodes are kept up to this number beside the live ones; past it the plan begins anew.
const MAX_EMPTY_GROUPS: usize = 1024;

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not known to the API, or not looked at.
    Nowhere,
    Standing(Standing),
    Rejected(RejectId),
}

struct Filtering<F: ?Sized> {
    plugin: PluginIndex,
    /// Its place among those that filter.
    place: usize,
    filter: Box<F>,
    /// Its part of the key.
    range: Range<usize>,
}

struct Scoring<S: ?Sized> {
    plugin: PluginIndex,
    score: Box<S>,
    weight: i64,
    range: Range<usize>,
}

/// Nodes that a plugin has singled out; all others are out of the question.
struct Only {
    plugin: PluginIndex,
    nodes: HashSet<Arc<str>>,
}

pub(crate) struct Plan {
    /// One of the pods that it is for.
    pub pod: Arc<Pod>,
    filters: Vec<Filtering<dyn Filter>>,
    group_filters: Vec<Filtering<dyn GroupFilter>>,
    scores: Vec<Scoring<dyn Score>>,
    group_scores: Vec<Scoring<dyn GroupScore>>,
    /// The plugins of `scores` and then of `group_scores`.
    scorers: Arc<[Arc<str>]>,
    only: Option<Only>,
    places: Vec<Place>,
    groups: Groups,
    rejects: Rejects,
    position: u64,
    epoch: u64,
    terms: usize,
    key: Vec<i64>,
    /// The pod in question, when it is one in particular: its own nomination does not stand in its way.
    pub asking: Option<Arc<str>>,
    /// A node of which what is known is true for one pod only, because it is kept for that one.
    kept_for_one: Option<NodeId>,
    workloads: u64,
    /// The version of everything about storage; `None`: the pod has nothing to do with it.
    volumes: Option<u64>,
    kept: bool,
    /// What plugins have found out holds for this one pod only.
    own: bool,
    /// So many of the best nodes are named when one is chosen.
    pub named: usize,
    /// What preemption has found out about nodes.
    pub known: Known,
}

/// A node that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub node: NodeId,
    pub why: Explanation,
}

/// A rejection and the plugin that spoke it.
pub(crate) type Refusal = (PluginIndex, Rejection);

impl Plan {
    /// Asks the plugins what they want to know; looks at no node yet.
    pub fn new(profile: &Profile, pod: Arc<Pod>, world: &mut World) -> Result<Self, Refusal> {
        let mut plan = Plan {
            filters: Vec::new(),
            group_filters: Vec::new(),
            scores: Vec::new(),
            group_scores: Vec::new(),
            scorers: Arc::default(),
            only: None,
            places: Vec::new(),
            groups: Groups::default(),
            rejects: Rejects::default(),
            position: 0,
            epoch: 0,
            terms: 0,
            key: Vec::new(),
            asking: None,
            kept_for_one: None,
            named: NAMED,
            known: Known::default(),
            kept: false,
            own: pod.spec.has_own_claims(),
            workloads: world.workloads.version(&pod.namespace),
            volumes: (!pod.spec.volumes.is_empty()).then(|| world.volumes.version()),
            pod,
        };
        for plugin in profile.pre_filters() {
            let found = profile.plugin(plugin).pre_filter(&plan.pod, world).map_err(|rejection| (plugin, rejection))?;
            plan.own |= found.own;
            if let Some(nodes) = found.only {
                plan.narrow(plugin, nodes);
            }
            let Some(place) = profile.filter_place(plugin) else { continue };
            if let Some(filter) = found.filter {
                plan.filters.push(Filtering { plugin, place, filter, range: 0..0 });
            }
            if let Some(filter) = found.group {
                plan.group_filters.push(Filtering { plugin, place, filter, range: 0..0 });
            }
        }
        // Who speaks first is the one whose reason is told.
        plan.filters.sort_by_key(|filtering| filtering.place);
        plan.group_filters.sort_by_key(|filtering| filtering.place);
        let mut width = 0;
        let mut part = |own: usize| {
            width += own;
            width - own..width
        };
        for filtering in &mut plan.group_filters {
            filtering.range = part(filtering.filter.width());
        }
        let (mut by_node, mut by_group) = (Vec::new(), Vec::new());
        for &(plugin, weight) in profile.scores() {
            let name: Arc<str> = profile.plugin(plugin).name().into();
            let found = profile.plugin(plugin).pre_score(&plan.pod, world);
            plan.own |= found.own;
            if let Some(score) = found.score {
                by_node.push(name.clone());
                plan.scores.push(Scoring { plugin, score, weight, range: 0..0 });
            }
            if let Some(score) = found.group {
                by_group.push(name);
                let range = part(score.width());
                plan.group_scores.push(Scoring { plugin, score, weight, range });
            }
        }
        plan.scorers = by_node.into_iter().chain(by_group).collect();
        (plan.epoch, plan.terms) = (world.epoch(), world.terms());
        Ok(plan)
    }

    /// Worth keeping: all nodes are evaluated, and each again when it changes.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Whether it is of no use to other pods of this kind.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Whether all filters depend on the node in question alone.
    pub fn looks_at_nodes_alone(&self) -> bool {
        self.group_filters.is_empty()
    }

    /// How many nodes it remembers.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    fn narrow(&mut self, plugin: PluginIndex, nodes: Vec<Arc<str>>) {
        let nodes: HashSet<_> = nodes.into_iter().collect();
        self.only = Some(match self.only.take() {
            None => Only { plugin, nodes },
            Some(only) => {
                let both = only.nodes.intersection(&nodes).cloned().collect();
                Only { plugin: only.plugin, nodes: both }
            }
        });
    }

    /// Whether the plugins would answer as they did when the plan was made.
    pub fn is_current(&mut self, world: &World) -> bool {
        if self.epoch != world.epoch()
            || self.workloads != world.workloads.version(&self.pod.namespace)
            || self.volumes.is_some_and(|version| version != world.volumes.version())
            || self.groups.len() > MAX_EMPTY_GROUPS + 2 * self.groups.iter().count()
        {
            return false;
        }
        if self.terms != world.terms() {
            // Pods came that speak about others; whether about these is for the plugins to say.
            let spoken_of = world.terms_since(self.terms, &self.pod);
            self.terms = world.terms();
            return !spoken_of;
        }
        true
    }

    /// Evaluates the nodes that have changed since the last time, or that are kept for the pod in question or the one before.
    pub fn catch_up(&mut self, world: &mut World) {
        let changed: Option<Vec<NodeId>> = world.changes_since(self.position).map(Iterator::collect);
        let mut changed = match changed {
            Some(changed) if !self.places.is_empty() => changed,
            _ => {
                // Nodes may have gone of which nothing is told any more.
                self.places.clear();
                (self.groups, self.rejects) = Default::default();
                self.candidates(world)
            }
        };
        changed.extend(self.kept_for_one.take());
        self.kept_for_one = self.asking.as_ref().and_then(|uid| world.nominated_node(uid));
        changed.extend(self.kept_for_one);
        for node in changed {
            self.update(world, node);
        }
        self.position = world.position();
    }

    fn candidates(&self, world: &mut World) -> Vec<NodeId> {
        match &self.only {
            Some(only) => only.nodes.iter().filter_map(|name| world.find(name)).collect(),
            None => world.order().to_vec(),
        }
    }

    /// Looks at nodes from `start` on, in rotation, until `wanted` fit: also beside the pods that are elsewhere, or all nodes that
    /// were looked at could be in the wrong zone. Returns how many it has looked at.
    pub fn search(&mut self, world: &mut World, start: usize, wanted: usize) -> usize {
        let order = match &self.only {
            Some(_) => self.candidates(world).into(),
            None => world.order(),
        };
        // Of each group, whether its nodes fit: nothing changes meanwhile.
        let mut known: HashMap<GroupId, bool> = HashMap::new();
        let mut fitting = 0;
        for step in 0..order.len() {
            let node = order[(start + step) % order.len()];
            self.update(world, node);
            if let Place::Standing(Standing { group, .. }) = self.place(node) {
                let fits = || self.group_fits(world, &self.groups.get(group).key).is_ok();
                fitting += usize::from(*known.entry(group).or_insert_with(fits));
            }
            if fitting >= wanted {
                return step + 1;
            }
        }
        order.len()
    }

    fn place(&self, node: NodeId) -> Place {
        self.places.get(node.index()).copied().unwrap_or(Place::Nowhere)
    }

    fn update(&mut self, world: &mut World, node: NodeId) {
        if self.places.len() <= node.index() {
            self.places.resize(world.node_slots(), Place::Nowhere);
        }
        match std::mem::replace(&mut self.places[node.index()], Place::Nowhere) {
            Place::Nowhere => {}
            Place::Rejected(id) => self.rejects.remove(id),
            Place::Standing(standing) => {
                if let Some(moved) = self.groups.remove(standing)
                    && let Place::Standing(other) = &mut self.places[moved.index()]
                {
                    other.at = standing.at;
                }
            }
        }
        self.places[node.index()] = self.evaluate(world, node);
    }

    fn evaluate(&mut self, world: &mut World, node: NodeId) -> Place {
        let info = world.info(node);
        if !info.known || self.only.as_ref().is_some_and(|only| !only.nodes.contains(&info.node.name)) {
            return Place::Nowhere;
        }
        if !info.nominated.is_empty()
            && let Err(refusal) = self.fits_beside_nominated(world, node)
        {
            return Place::Rejected(self.rejects.add(refusal));
        }
        if let Err((place, refusal)) = self.fits_alone(world, node) {
            // What is kept is not what groups are in this moment.
            let earlier = if self.kept { Ok(()) } else { self.groups_before(world, node, place) };
            return Place::Rejected(self.rejects.add(earlier.err().unwrap_or(refusal)));
        }
        let info = world.info(node);
        let mut score = 0;
        for part in &self.scores {
            match part.score.score(info, world) {
                Ok(own) => score += part.weight * own.clamp(0, MAX_SCORE),
                Err(rejection) => return Place::Rejected(self.rejects.add((part.plugin, rejection))),
            }
        }
        let mut key = std::mem::take(&mut self.key);
        self.key_of(world, node, &mut key);
        let standing = self.groups.insert(node, &key, score);
        self.key = key;
        Place::Standing(standing)
    }

    fn key_of(&self, world: &World, node: NodeId, key: &mut Vec<i64>) {
        let info = world.info(node);
        key.clear();
        for part in &self.group_filters {
            part.filter.key(info, world, key);
        }
        for part in &self.group_scores {
            part.score.key(info, world, key);
        }
    }

    /// Whether the node takes the pod besides those of no lower priority for which it was freed.
    fn fits_beside_nominated(&mut self, world: &mut World, node: NodeId) -> Result<(), Refusal> {
        let above = self.pod.priority();
        let counts =
            |resident: &&Resident| resident.pod.priority() >= above && self.asking.as_ref() != Some(&resident.pod.uid);
        let nominated = world.info(node).nominated.iter().filter(counts);
        let nominated: Vec<_> = nominated.cloned().collect();
        for resident in &nominated {
            world.count_resident(node, resident, 1);
        }
        let answer = if nominated.is_empty() { Ok(()) } else { self.fits(world, node) };
        for resident in &nominated {
            world.count_resident(node, resident, -1);
        }
        answer
    }

    /// Whether the node as it is now takes the pod, with and without those for which it was freed.
    pub fn fits_now(&mut self, world: &mut World, node: NodeId) -> Result<(), Refusal> {
        self.fits_beside_nominated(world, node)?;
        self.fits(world, node)
    }

    /// Asks all filters about one node as it is now, whatever is known from before.
    pub fn fits(&mut self, world: &World, node: NodeId) -> Result<(), Refusal> {
        let info = world.info(node);
        if let Some(only) = self.only.as_ref().filter(|only| !only.nodes.contains(&info.node.name)) {
            return Err((only.plugin, Rejection::unresolvable("node(s) didn't satisfy plugin(s)")));
        }
        if let Err((place, refusal)) = self.fits_alone(world, node) {
            self.groups_before(world, node, place)?;
            return Err(refusal);
        }
        self.groups_before(world, node, usize::MAX)
    }

    /// Asks the filters that depend on the node alone; the place of the one that rejects it comes with the refusal.
    fn fits_alone(&self, world: &World, node: NodeId) -> Result<(), (usize, Refusal)> {
        let info = world.info(node);
        for Filtering { plugin, place, filter, .. } in &self.filters {
            filter.filter(info, world).map_err(|rejection| (*place, (*plugin, rejection)))?;
        }
        Ok(())
    }

    /// Asks the filters of groups that have their say before a place.
    fn groups_before(&mut self, world: &World, node: NodeId, place: usize) -> Result<(), Refusal> {
        if self.group_filters.first().is_none_or(|first| first.place >= place) {
            return Ok(());
        }
        let mut key = std::mem::take(&mut self.key);
        self.key_of(world, node, &mut key);
        let answer = self.group_fits_before(world, &key, place);
        self.key = key;
        answer
    }

    fn group_fits(&self, world: &World, key: &[i64]) -> Result<(), Refusal> {
        self.group_fits_before(world, key, usize::MAX)
    }

    fn group_fits_before(&self, world: &World, key: &[i64], before: usize) -> Result<(), Refusal> {
        for Filtering { plugin, filter, range, .. } in self.group_filters.iter().take_while(|one| one.place < before) {
            filter.filter(&key[range.clone()], world).map_err(|rejection| (*plugin, rejection))?;
        }
        Ok(())
    }

    /// Nodes that fit, at most `limit`, in rotation from `start`.
    pub fn fitting_nodes(&self, world: &mut World, start: usize, limit: usize) -> Vec<NodeId> {
        let order = world.order();
        let turned = (0..order.len()).map(|step| order[(start + step) % order.len()]);
        let fits = |node: &NodeId| match self.place(*node) {
            Place::Standing(standing) => self.group_fits(world, &self.groups.get(standing.group).key).is_ok(),
            Place::Nowhere | Place::Rejected(_) => false,
        };
        turned.filter(fits).take(limit).collect()
    }

    /// On how many nodes the pod might fit if others were taken off.
    pub fn resolvable_nodes(&self, world: &World) -> usize {
        let rejected = self.rejects.iter().filter(|(_, rejection, _)| !rejection.unresolvable);
        let groups = self.groups.iter().map(|(_, group)| group);
        let resolvable =
            |group: &&Members| self.group_fits(world, &group.key).is_err_and(|(_, rejection)| !rejection.unresolvable);
        rejected.map(|(_, _, nodes)| nodes).sum::<usize>()
            + groups.filter(resolvable).map(|group| group.nodes).sum::<usize>()
    }

    /// Whether the pod cannot fit on the node before the node itself changes.
    pub fn is_hopeless(&self, world: &World, node: NodeId) -> bool {
        match self.place(node) {
            Place::Nowhere => true,
            Place::Rejected(id) => self.rejects.get(id).1.unresolvable,
            Place::Standing(standing) => self
                .group_fits(world, &self.groups.get(standing.group).key)
                .is_err_and(|(_, rejection)| rejection.unresolvable),
        }
    }

    /// Whether the pod might fit on the node if others were taken off.
    pub fn is_resolvable(&self, world: &World, node: NodeId) -> bool {
        match self.place(node) {
            Place::Nowhere => false,
            Place::Rejected(id) => !self.rejects.get(id).1.unresolvable,
            Place::Standing(standing) => match self.group_fits(world, &self.groups.get(standing.group).key) {
                Ok(()) => false,
                Err((_, rejection)) => !rejection.unresolvable,
            },
        }
    }
}
