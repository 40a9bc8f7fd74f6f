//! From a completed configuration to what a scheduler runs: for every profile and extension point the plugins in their
//! order, with weights, and every plugin's arguments.
//!
//! Which plugins exist comes in as a [`Catalogue`]: the caller's own belong into it as well as Kubernetes'.

use std::collections::{BTreeMap, HashSet};

use crate::{
    defaults::{ALL, enabled_names},
    duration::GoDuration,
    field::{Aggregate, Path},
    gates::Gates,
    plugins::{Catalogue, Point},
    v1::{
        Args, ClientConnectionConfiguration, DefaultPreemptionArgs, DynamicResourcesArgs, Extender,
        InterPodAffinityArgs, KubeSchedulerConfiguration, KubeSchedulerProfile, LeaderElectionConfiguration,
        NodeAffinityArgs, NodeResourcesBalancedAllocationArgs, NodeResourcesFitArgs, Plugin, PluginConfig,
        PodTopologySpreadArgs, VolumeBindingArgs,
    },
    validate,
    value::Value,
};

/// How long a pod waits at most for an event that helps it, unless a flag says otherwise.
const MAX_IN_UNSCHEDULABLE: GoDuration = GoDuration::seconds(300);
/// The highest score that a plugin gives a node.
const MAX_NODE_SCORE: i64 = 100;

/// All that a scheduler is told by its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    pub parallelism: i32,
    pub leader_election: LeaderElectionConfiguration,
    pub client_connection: ClientConnectionConfiguration,
    pub enable_profiling: bool,
    pub enable_contention_profiling: bool,
    /// For profiles that say nothing else; 0: as the cluster's size suggests.
    pub percentage_of_nodes_to_score: i32,
    pub pod_initial_backoff: GoDuration,
    pub pod_max_backoff: GoDuration,
    /// How long a pod may wait for an event that helps it. Set by a flag.
    pub pod_max_in_unschedulable: GoDuration,
    pub delay_cache_until_active: bool,
    /// At least one, with different names, all with the same order of the queue.
    pub profiles: Vec<Profile>,
    /// In the order in which they are asked: those that can be ignored come last.
    pub extenders: Vec<Extender>,
    pub gates: Gates,
}

/// How the pods that name a scheduler are placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub scheduler_name: String,
    pub percentage_of_nodes_to_score: Option<i32>,
    pub plugins: Enabling,
    pub args: PluginArgs,
}

/// A plugin at an extension point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enabled {
    pub name: String,
    /// At least 1 at `Score` and `PlacementScore`, 0 elsewhere.
    pub weight: i32,
}

/// The plugins at each extension point, in the order of their calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enabling([Vec<Enabled>; Point::ALL.len()]);

impl Enabling {
    pub fn at(&self, point: Point) -> &[Enabled] {
        &self.0[point as usize]
    }

    /// Whether a plugin is enabled there.
    pub fn has(&self, name: &str, point: Point) -> bool {
        self.at(point).iter().any(|enabled| enabled.name == name)
    }

    /// The weight of a plugin's scores, if they count.
    pub fn weight(&self, name: &str) -> Option<i32> {
        self.at(Point::Score).iter().find(|enabled| enabled.name == name).map(|enabled| enabled.weight)
    }

    /// Every enabled plugin once, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().flatten().map(|enabled| enabled.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Every plugin's arguments, given or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginArgs {
    pub default_preemption: DefaultPreemptionArgs,
    pub dynamic_resources: DynamicResourcesArgs,
    pub inter_pod_affinity: InterPodAffinityArgs,
    pub node_affinity: NodeAffinityArgs,
    pub node_resources_balanced_allocation: NodeResourcesBalancedAllocationArgs,
    pub node_resources_fit: NodeResourcesFitArgs,
    pub pod_topology_spread: PodTopologySpreadArgs,
    pub volume_binding: VolumeBindingArgs,
    /// Of plugins that are not Kubernetes', by name, as they stand in the file.
    pub other: BTreeMap<String, Value>,
}

impl PluginArgs {
    fn of(configs: &[PluginConfig]) -> Self {
        let mut all = PluginArgs::default();
        for config in configs {
            match config.args.clone() {
                Args::DefaultPreemption(args) => all.default_preemption = args,
                Args::DynamicResources(args) => all.dynamic_resources = args,
                Args::InterPodAffinity(args) => all.inter_pod_affinity = args,
                Args::NodeAffinity(args) => all.node_affinity = args,
                Args::NodeResourcesBalancedAllocation(args) => all.node_resources_balanced_allocation = args,
                Args::NodeResourcesFit(args) => all.node_resources_fit = args,
                Args::PodTopologySpread(args) => all.pod_topology_spread = args,
                Args::VolumeBinding(args) => all.volume_binding = args,
                Args::Other(value) => {
                    all.other.insert(config.name.clone(), value);
                }
            }
        }
        all
    }
}

/// Why no scheduler can run with this configuration, in kube-scheduler's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("initializing profiles: creating profile for scheduler name {scheduler}: {reason}")]
    Profile { scheduler: String, reason: ProfileError },
    #[error("initializing profiles: duplicate profile with scheduler name {0:?}")]
    Duplicate(String),
    #[error("initializing profiles: different queue sort plugins for profile {scheduler:?}: {own:?}, first: {first:?}")]
    QueueSort { scheduler: String, own: String, first: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("{point}Plugin {name:?} does not exist")]
    Unknown { point: Point, name: String },
    #[error("plugin {name:?} does not extend {point}Plugin plugin")]
    NotAt { point: Point, name: String },
    #[error("plugin {name:?} already registered as \"{point}Plugin\"")]
    Twice { point: Point, name: String },
    #[error("initializing plugin {name:?}: {reason}")]
    Args { name: String, reason: Aggregate },
    #[error("only one queue sort plugin required for profile with scheduler name {scheduler:?}, but got {count}")]
    QueueSort { scheduler: String, count: usize },
    #[error("at least one bind plugin is needed for profile with scheduler name {0:?}")]
    NoBind(String),
    #[error("at most one placement generate plugin is allowed for profile with scheduler name {0:?}")]
    PlacementGenerate(String),
    #[error("{0} plugins: total score of Score plugins could overflow")]
    Overflow(&'static str),
}

impl Configuration {
    /// Resolves a configuration that was completed and found valid. `unschedulable` comes from a flag.
    pub fn new(
        given: &KubeSchedulerConfiguration,
        unschedulable: GoDuration,
        gates: &Gates,
        catalogue: &Catalogue,
    ) -> Result<Self, ResolveError> {
        let mut profiles: Vec<Profile> = Vec::with_capacity(given.profiles.len());
        let ignored = ignored_resources(&given.extenders);
        for given in &given.profiles {
            let scheduler = given.scheduler_name.clone().unwrap_or_default();
            let wrap = |reason| ResolveError::Profile { scheduler: scheduler.clone(), reason };
            let resolved = profile(given, &ignored, catalogue).map_err(wrap)?;
            if profiles.iter().any(|other| other.scheduler_name == scheduler) {
                return Err(ResolveError::Duplicate(scheduler));
            }
            if let Some(first) = profiles.first() {
                let sort = |profile: &Profile| profile.plugins.at(Point::QueueSort)[0].name.clone();
                let (own, first) = (sort(&resolved), sort(first));
                if own != first {
                    return Err(ResolveError::QueueSort { scheduler, own, first });
                }
            }
            profiles.push(resolved);
        }
        let mut extenders = given.extenders.clone();
        extenders.sort_by_key(|extender| extender.ignorable);
        Ok(Configuration {
            parallelism: given.parallelism,
            leader_election: given.leader_election.clone(),
            client_connection: given.client_connection.clone(),
            enable_profiling: given.enable_profiling,
            enable_contention_profiling: given.enable_contention_profiling.unwrap_or(false),
            percentage_of_nodes_to_score: given.percentage_of_nodes_to_score,
            pod_initial_backoff: GoDuration::seconds(given.pod_initial_backoff_seconds),
            pod_max_backoff: GoDuration::seconds(given.pod_max_backoff_seconds),
            pod_max_in_unschedulable: unschedulable,
            delay_cache_until_active: given.delay_cache_until_active,
            profiles,
            extenders,
            gates: gates.clone(),
        })
    }
}

impl Default for Configuration {
    /// That of a scheduler that was given none.
    fn default() -> Self {
        let gates = Gates::default();
        Configuration::new(&crate::default(&gates), MAX_IN_UNSCHEDULABLE, &gates, &Catalogue::in_tree())
            .expect("what Kubernetes has by default is a configuration, as a test shows")
    }
}

impl Configuration {
    /// The document as it is run: with the arguments of those plugins only that are enabled, sorted, and with what
    /// extenders change of them.
    pub fn completed(&self, mut document: KubeSchedulerConfiguration) -> KubeSchedulerConfiguration {
        for (profile, given) in self.profiles.iter().zip(&mut document.profiles) {
            let names = enabled_names(&given.plugins);
            given.plugin_config.retain(|config| names.contains(&config.name));
            given.plugin_config.sort_by(|a, b| a.name.cmp(&b.name));
            for config in &mut given.plugin_config {
                if let Args::NodeResourcesFit(args) = &mut config.args {
                    args.clone_from(&profile.args.node_resources_fit);
                }
            }
        }
        document
    }
}

/// Resources that extenders look after alone.
fn ignored_resources(extenders: &[Extender]) -> Vec<String> {
    let managed = extenders.iter().flat_map(|extender| &extender.managed_resources);
    managed.filter(|resource| resource.ignored_by_scheduler).map(|resource| resource.name.clone()).collect()
}

fn profile(given: &KubeSchedulerProfile, ignored: &[String], catalogue: &Catalogue) -> Result<Profile, ProfileError> {
    let scheduler = given.scheduler_name.clone().unwrap_or_default();
    let mut args = PluginArgs::of(&given.plugin_config);
    if !ignored.is_empty() {
        args.node_resources_fit.ignored_resources = ignored.to_vec();
    }
    let mut plugins = Enabling::default();
    for point in Point::ALL {
        explicit(given, point, catalogue)?;
    }
    for point in Point::ALL {
        plugins.0[point as usize] = expanded(given, point, catalogue)?;
    }
    let fit = crate::plugins::names::NODE_RESOURCES_FIT;
    if plugins.names().contains(&fit) {
        Aggregate::of(validate::fit(&Path::default(), &args.node_resources_fit))
            .map_err(|reason| ProfileError::Args { name: fit.to_owned(), reason })?;
    }
    let count = plugins.at(Point::QueueSort).len();
    if count != 1 {
        return Err(ProfileError::QueueSort { scheduler, count });
    }
    if plugins.at(Point::Bind).is_empty() {
        return Err(ProfileError::NoBind(scheduler));
    }
    if plugins.at(Point::PlacementGenerate).len() > 1 {
        return Err(ProfileError::PlacementGenerate(scheduler));
    }
    for (point, words) in [(Point::Score, "score"), (Point::PlacementScore, "placement score")] {
        weigh(given, point, &mut plugins.0[point as usize]).ok_or(ProfileError::Overflow(words))?;
    }
    Ok(Profile {
        scheduler_name: scheduler,
        percentage_of_nodes_to_score: given.percentage_of_nodes_to_score,
        plugins,
        args,
    })
}

/// Checks what an extension point's own list names.
fn explicit(given: &KubeSchedulerProfile, point: Point, catalogue: &Catalogue) -> Result<(), ProfileError> {
    let mut seen = HashSet::new();
    for Plugin { name, .. } in &given.plugins.at(point).enabled {
        let name = name.clone();
        if !catalogue.contains(&name) {
            return Err(ProfileError::Unknown { point, name });
        }
        if !catalogue.has(&name, point) {
            return Err(ProfileError::NotAt { point, name });
        }
        if !seen.insert(name.clone()) {
            return Err(ProfileError::Twice { point, name });
        }
    }
    Ok(())
}

/// An extension point's plugins: first those of its own list that are also enabled for all points, as its own list
/// orders them; then those enabled for all points; then the rest of its own list.
fn expanded(given: &KubeSchedulerProfile, point: Point, catalogue: &Catalogue) -> Result<Vec<Enabled>, ProfileError> {
    let set = given.plugins.at(point);
    let own: Vec<&str> = set.enabled.iter().map(|plugin| plugin.name.as_str()).collect();
    let disabled: HashSet<&str> = set.disabled.iter().map(|plugin| plugin.name.as_str()).collect();
    let enabled = |name: &str| Enabled { name: name.to_owned(), weight: 0 };
    if disabled.contains(ALL) {
        return Ok(own.into_iter().map(enabled).collect());
    }
    let (mut overriding, mut everywhere) = (HashSet::new(), Vec::new());
    for Plugin { name, .. } in &given.plugins.multi_point.enabled {
        if !catalogue.contains(name) {
            return Err(ProfileError::Unknown { point, name: name.clone() });
        }
        if !catalogue.has(name, point) || disabled.contains(name.as_str()) {
            continue;
        }
        if own.contains(&name.as_str()) {
            overriding.insert(name.as_str());
        } else if everywhere.contains(&name.as_str()) {
            return Err(ProfileError::Twice { point, name: name.clone() });
        } else {
            everywhere.push(name.as_str());
        }
    }
    let first = own.iter().copied().filter(|name| overriding.contains(name));
    let last = own.iter().copied().filter(|name| !overriding.contains(name));
    Ok(first.chain(everywhere).chain(last).map(enabled).collect())
}

/// Gives plugins their weights: those of the point's own list, else those for all points. `None`: the sum of scores
/// could be more than fits.
fn weigh(given: &KubeSchedulerProfile, point: Point, plugins: &mut [Enabled]) -> Option<()> {
    let lists = given.plugins.at(point).enabled.iter().chain(&given.plugins.multi_point.enabled);
    let mut total: i64 = 0;
    for plugin in plugins {
        let found = lists.clone().find(|listed| listed.name == plugin.name).map_or(0, |listed| listed.weight);
        plugin.weight = if found == 0 { 1 } else { found };
        total = total.checked_add(i64::from(plugin.weight).checked_mul(MAX_NODE_SCORE)?)?;
    }
    Some(())
}
