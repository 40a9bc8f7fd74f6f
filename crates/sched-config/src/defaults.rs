//! What Kubernetes fills in where a configuration is silent: profiles, their plugins, the arguments of those.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{duration::GoDuration, v1::ClientConnectionConfiguration};
use crate::{
    gates::{self, Gates},
    plugins::{Point, names},
    v1::{
        Args, DEFAULT_SCHEDULER_NAME, DynamicResourcesArgs, KubeSchedulerConfiguration, KubeSchedulerProfile,
        LeaderElectionConfiguration, Plugin, PluginConfig, PluginSet, Plugins, ResourceSpec, UtilizationShapePoint,
        VolumeBindingArgs,
    },
};

/// The name that stands for all plugins in a list of disabled ones.
pub(crate) const ALL: &str = "*";

/// Completes what was read. What has been completed is not changed by it, except that the default plugins' order is
/// brought back.
pub(crate) fn complete(configuration: &mut KubeSchedulerConfiguration, gates: &Gates) {
    if configuration.profiles.is_empty() {
        configuration.profiles.push(KubeSchedulerProfile::default());
    }
    // With several profiles each has to have a name of its own.
    if let [profile] = configuration.profiles.as_mut_slice() {
        profile.scheduler_name.get_or_insert_with(|| DEFAULT_SCHEDULER_NAME.to_owned());
    }
    for profile in &mut configuration.profiles {
        self::profile(profile, gates);
    }
    leader_election(&mut configuration.leader_election);
    client_connection(&mut configuration.client_connection);
    configuration.enable_contention_profiling.get_or_insert(configuration.enable_profiling);
}

/// Empty and zero stand for the defaults here, as they do in Kubernetes.
fn leader_election(given: &mut LeaderElectionConfiguration) {
    let defaults = LeaderElectionConfiguration::default();
    for (given, default) in [
        (&mut given.lease_duration, defaults.lease_duration),
        (&mut given.renew_deadline, defaults.renew_deadline),
        (&mut given.retry_period, defaults.retry_period),
    ] {
        if *given == GoDuration::default() {
            *given = default;
        }
    }
    for (given, default) in [
        (&mut given.resource_lock, defaults.resource_lock),
        (&mut given.resource_name, defaults.resource_name),
        (&mut given.resource_namespace, defaults.resource_namespace),
    ] {
        if given.is_empty() {
            *given = default;
        }
    }
}

fn client_connection(given: &mut ClientConnectionConfiguration) {
    let defaults = ClientConnectionConfiguration::default();
    if given.content_type.is_empty() {
        given.content_type = defaults.content_type;
    }
    if given.qps == 0.0 {
        given.qps = defaults.qps;
    }
    if given.burst == 0 {
        given.burst = defaults.burst;
    }
}

fn profile(profile: &mut KubeSchedulerProfile, gates: &Gates) {
    let mut plugins = default_plugins(gates);
    plugins.multi_point = merged(plugins.multi_point, &profile.plugins.multi_point);
    for point in Point::ALL {
        *plugins.at_mut(point) = merged(PluginSet::default(), profile.plugins.at(point));
    }
    profile.plugins = plugins;
    let mut configured = HashSet::new();
    for config in &mut profile.plugin_config {
        configured.insert(config.name.clone());
        args(&mut config.args, gates);
    }
    for name in enabled_names(&profile.plugins) {
        let Some(mut args) = Args::of(&name).filter(|_| !configured.contains(&name)) else { continue };
        self::args(&mut args, gates);
        profile.plugin_config.push(PluginConfig { name, args });
    }
}

/// Sorted, each once.
pub(crate) fn enabled_names(plugins: &Plugins) -> BTreeSet<String> {
    let sets = Point::ALL.iter().map(|point| plugins.at(*point)).chain([&plugins.multi_point]);
    sets.flat_map(|set| &set.enabled).map(|plugin| plugin.name.clone()).collect()
}

fn default_plugins(gates: &Gates) -> Plugins {
    let mut enabled = vec![
        (names::SCHEDULING_GATES, 0),
        (names::PRIORITY_SORT, 0),
        (names::NODE_UNSCHEDULABLE, 0),
        (names::NODE_NAME, 0),
        (names::TAINT_TOLERATION, 3),
        (names::NODE_AFFINITY, 2),
        (names::NODE_PORTS, 0),
        (names::NODE_RESOURCES_FIT, 1),
        (names::VOLUME_RESTRICTIONS, 0),
        (names::NODE_VOLUME_LIMITS, 0),
        (names::VOLUME_BINDING, 0),
        (names::VOLUME_ZONE, 0),
        (names::POD_TOPOLOGY_SPREAD, 2),
        (names::INTER_POD_AFFINITY, 2),
    ];
    if gates.enabled(gates::DYNAMIC_RESOURCE_ALLOCATION) {
        // Before preemption: giving back an idle claim costs less than evicting a pod.
        enabled.push((names::DYNAMIC_RESOURCES, 2));
    }
    enabled.extend([
        (names::DEFAULT_PREEMPTION, 0),
        (names::NODE_RESOURCES_BALANCED_ALLOCATION, 1),
        (names::IMAGE_LOCALITY, 1),
        (names::DEFAULT_BINDER, 0),
    ]);
    if gates.enabled(gates::NODE_DECLARED_FEATURES) {
        enabled.push((names::NODE_DECLARED_FEATURES, 0));
    }
    if gates.enabled(gates::GANG_SCHEDULING) {
        enabled.push((names::GANG_SCHEDULING, 0));
    }
    if gates.enabled(gates::TOPOLOGY_AWARE_WORKLOAD_SCHEDULING) {
        enabled.extend([(names::TOPOLOGY_PLACEMENT_GENERATOR, 0), (names::POD_GROUP_PODS_COUNT, 1)]);
    }
    let enabled = enabled.into_iter().map(|(name, weight)| Plugin { name: name.to_owned(), weight }).collect();
    Plugins { multi_point: PluginSet { enabled, disabled: Vec::new() }, ..Plugins::default() }
}

/// The default plugins as the given set changes them: without those that it disables, those that it enables, too, in
/// their old places with their new weights, and the rest of what it enables at the end.
fn merged(defaults: PluginSet, given: &PluginSet) -> PluginSet {
    let disabled: Vec<Plugin> =
        given.disabled.iter().map(|plugin| Plugin { name: plugin.name.clone(), weight: 0 }).collect();
    let names: HashSet<&str> = disabled.iter().map(|plugin| plugin.name.as_str()).collect();
    // Of a plugin that is given twice, the last is the one that takes the default's place.
    let given_at: HashMap<&str, usize> =
        given.enabled.iter().enumerate().map(|(at, plugin)| (plugin.name.as_str(), at)).collect();
    let mut replaced = HashSet::new();
    let mut enabled = Vec::new();
    if !names.contains(ALL) {
        for default in defaults.enabled.into_iter().filter(|plugin| !names.contains(plugin.name.as_str())) {
            match given_at.get(default.name.as_str()) {
                Some(at) => {
                    replaced.insert(*at);
                    enabled.push(given.enabled[*at].clone());
                }
                None => enabled.push(default),
            }
        }
    }
    let rest = given.enabled.iter().enumerate().filter(|(at, _)| !replaced.contains(at));
    enabled.extend(rest.map(|(_, plugin)| plugin.clone()));
    PluginSet { enabled, disabled }
}

/// Completes a plugin's arguments, where that depends on gates or on what is empty.
fn args(args: &mut Args, gates: &Gates) {
    match args {
        Args::NodeResourcesBalancedAllocation(args) => resources(&mut args.resources),
        Args::NodeResourcesFit(args) => resources(&mut args.scoring_strategy.resources),
        Args::PodTopologySpread(args) if args.defaulting_type.is_empty() => {
            "System".clone_into(&mut args.defaulting_type);
        }
        Args::DynamicResources(args) => dynamic_resources(args, gates),
        Args::VolumeBinding(args) => volume_binding(args, gates),
        _ => {}
    }
}

fn resources(resources: &mut Vec<ResourceSpec>) {
    if resources.is_empty() {
        *resources = ResourceSpec::defaults();
    }
    for resource in resources {
        if resource.weight == 0 {
            resource.weight = 1;
        }
    }
}

fn dynamic_resources(args: &mut DynamicResourcesArgs, gates: &Gates) {
    if gates.enabled(gates::DRA_SCHEDULER_FILTER_TIMEOUT) {
        args.filter_timeout.get_or_insert(DynamicResourcesArgs::FILTER_TIMEOUT);
    }
    if binds_with_conditions(gates) {
        args.binding_timeout.get_or_insert(GoDuration::seconds(600));
    }
}

/// Whether a pod's binding waits until its devices are ready.
pub(crate) fn binds_with_conditions(gates: &Gates) -> bool {
    gates.enabled(gates::DRA_DEVICE_BINDING_CONDITIONS) && gates.enabled(gates::DRA_RESOURCE_CLAIM_DEVICE_STATUS)
}

fn volume_binding(args: &mut VolumeBindingArgs, gates: &Gates) {
    if args.shape.is_empty() && gates.enabled(gates::STORAGE_CAPACITY_SCORING) {
        let point = |utilization, score| UtilizationShapePoint { utilization, score };
        args.shape = vec![point(0, 10), point(100, 0)];
    }
}
