//! From kube-scheduler's configuration to the engine's profiles.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sched::{
    Pauses, Profile, convert,
    framework::Point,
    plugins::{self, Args, node_resources_fit::Strategy, pod_topology_spread},
    profile::MAX_PLUGINS,
};
use sched_config::{Configuration, Enabling, Gates, GoDuration, PluginArgs, Point as ConfiguredPoint, gates};

use crate::{
    measured::{Measured, Meter},
    plugins::{Outside, Place, Plugins},
};

/// A configuration that the engine cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("profile {profile:?}: {reason}")]
    Arguments { profile: String, reason: convert::ConvertError },
    #[error("extender at {url:?}: {reason}")]
    Extender { url: String, reason: String },
    #[error("profile {profile:?}: plugin {plugin:?}: {reason}")]
    Plugin { profile: String, plugin: String, reason: String },
    #[error("profile {profile:?} enables {count} plugins: at most {MAX_PLUGINS} are possible")]
    TooMany { profile: String, count: usize },
}

/// The extension points that the engine asks at, as the configuration calls them.
pub(crate) const POINTS: [(ConfiguredPoint, Point); 12] = [
    (ConfiguredPoint::PreEnqueue, Point::PreEnqueue),
    (ConfiguredPoint::QueueSort, Point::QueueSort),
    (ConfiguredPoint::PreFilter, Point::PreFilter),
    (ConfiguredPoint::Filter, Point::Filter),
    (ConfiguredPoint::PostFilter, Point::PostFilter),
    (ConfiguredPoint::PreScore, Point::PreScore),
    (ConfiguredPoint::Score, Point::Score),
    (ConfiguredPoint::Reserve, Point::Reserve),
    (ConfiguredPoint::Permit, Point::Permit),
    (ConfiguredPoint::PreBind, Point::PreBind),
    (ConfiguredPoint::Bind, Point::Bind),
    (ConfiguredPoint::PostBind, Point::PostBind),
];

/// The engine that a configuration asks for, with the plugins of others that it names.
pub(crate) fn engine(
    configuration: &Configuration,
    plugins: &[Arc<dyn Plugins>],
    place: &Place,
    meter: &Arc<Meter>,
) -> Result<sched::Options, ProfileError> {
    let percentage = configuration.percentage_of_nodes_to_score;
    let mut outside = Outside { plugins, place, made: HashSet::new() };
    let gates = &configuration.gates;
    let profiles = configuration.profiles.iter().map(|profile| build(profile, percentage, gates, &mut outside, meter));
    Ok(sched::Options {
        profiles: profiles.collect::<Result<_, _>>()?,
        pauses: Pauses {
            initial_backoff: duration(configuration.pod_initial_backoff),
            max_backoff: duration(configuration.pod_max_backoff),
            max_unschedulable: duration(configuration.pod_max_in_unschedulable),
        },
        devices: devices(gates),
        extended_resources: gates.enabled(gates::DRA_EXTENDED_RESOURCE),
        parallelism: count(configuration.parallelism),
        ..Default::default()
    })
}

fn duration(given: GoDuration) -> Duration {
    given.get()
}

/// Done by the engine itself, whether it is named or not.
const BUILT_IN: &str = "GangScheduling";

/// Which parts of the API of devices are looked at.
fn devices(gates: &Gates) -> devices::Features {
    devices::Features {
        admin_access: gates.enabled(gates::DRA_ADMIN_ACCESS),
        prioritized_list: gates.enabled(gates::DRA_PRIORITIZED_LIST),
        partitionable_devices: gates.enabled(gates::DRA_PARTITIONABLE_DEVICES),
        device_taints: gates.enabled(gates::DRA_DEVICE_TAINTS),
        consumable_capacity: gates.enabled(gates::DRA_CONSUMABLE_CAPACITY),
        device_binding_conditions: gates.enabled(gates::DRA_DEVICE_BINDING_CONDITIONS)
            && gates.enabled(gates::DRA_RESOURCE_CLAIM_DEVICE_STATUS),
        list_type_attributes: gates.enabled(gates::DRA_LIST_TYPE_ATTRIBUTES),
    }
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn build(
    given: &sched_config::Profile,
    percentage: i32,
    gates: &Gates,
    outside: &mut Outside<'_>,
    meter: &Arc<Meter>,
) -> Result<Profile, ProfileError> {
    let error = |reason| ProfileError::Arguments { profile: given.scheduler_name.clone(), reason };
    let args = args(&given.args, gates).map_err(error)?;
    let mut profile = Profile::new(&given.scheduler_name);
    let own = given.percentage_of_nodes_to_score.unwrap_or(percentage);
    profile.percentage_of_nodes_to_score = u32::try_from(own).ok().filter(|percentage| *percentage > 0);
    let preemption = &given.args.default_preemption;
    profile.preemption = plugins::default_preemption::Args {
        min_candidate_nodes_percentage: count(preemption.min_candidate_nodes_percentage),
        min_candidate_nodes_absolute: count(preemption.min_candidate_nodes_absolute),
    };
    let all = plugins::registry(&args).into_iter().chain(plugins::further());
    let mut known: Vec<_> = all.map(|(plugin, _)| Some(plugin)).collect();
    let names = given.plugins.names();
    if names.len() > MAX_PLUGINS {
        return Err(ProfileError::TooMany { profile: given.scheduler_name.clone(), count: names.len() });
    }
    for name in names {
        let found = known.iter_mut().find(|plugin| plugin.as_ref().is_some_and(|plugin| plugin.name() == name));
        let made = || outside.make(name, given.args.other.get(name)?);
        match found.and_then(Option::take).map(Ok).or_else(made) {
            Some(Ok(plugin)) => {
                let points = points(&given.plugins, name);
                profile.add(Box::new(Measured::new(plugin, &given.scheduler_name, &points, meter)));
            }
            Some(Err(reason)) => {
                let (profile, plugin) = (given.scheduler_name.clone(), name.to_owned());
                return Err(ProfileError::Plugin { profile, plugin, reason });
            }
            None if name == BUILT_IN => {}
            None => {
                tracing::info!(profile = given.scheduler_name, plugin = name, "plugin is not there and has no effect")
            }
        }
    }
    for (configured, point) in POINTS {
        for enabled in given.plugins.at(configured) {
            if let Some(index) = profile.find(&enabled.name) {
                profile.enable(point, index, enabled.weight.into());
            }
        }
    }
    Ok(profile)
}

/// Where a plugin is asked.
fn points(plugins: &Enabling, name: &str) -> Vec<Point> {
    let asked = |point: &ConfiguredPoint| plugins.at(*point).iter().any(|enabled| enabled.name == name);
    POINTS.iter().filter(|(configured, _)| asked(configured)).map(|(_, point)| *point).collect()
}

fn args(given: &PluginArgs, gates: &Gates) -> Result<Args, convert::ConvertError> {
    let affinity = given.node_affinity.added_affinity.as_ref();
    let (added_required, added_preferred) = match affinity {
        Some(affinity) => convert::node_affinity(affinity)?,
        None => (None, Vec::new()),
    };
    let fit = &given.node_resources_fit;
    let strategy = &fit.scoring_strategy;
    let points = strategy.requested_to_capacity_ratio.iter().flat_map(|ratio| &ratio.shape);
    let points = points.map(|point| (point.utilization.into(), point.score.into())).collect();
    let spread = &given.pod_topology_spread;
    let constraints = spread.default_constraints.iter();
    let constraints = constraints.map(|constraint| convert::spread_constraint(constraint, &Vec::new()));
    Ok(Args {
        dynamic_resources: plugins::dynamic_resources::Args {
            // Without the feature there is no time for it.
            binding_timeout: given.dynamic_resources.binding_timeout.map(duration),
            prioritized_list: gates.enabled(gates::DRA_PRIORITIZED_LIST),
        },
        inter_pod_affinity: plugins::inter_pod_affinity::Args {
            hard_pod_affinity_weight: given.inter_pod_affinity.hard_pod_affinity_weight,
            ignore_preferred_terms_of_existing_pods: given.inter_pod_affinity.ignore_preferred_terms_of_existing_pods,
        },
        node_affinity: plugins::node_affinity::Args { added_required, added_preferred },
        node_resources_balanced_allocation: plugins::node_resources_balanced_allocation::Args {
            resources: given.node_resources_balanced_allocation.resources.iter().map(|r| r.name.clone()).collect(),
        },
        node_resources_fit: plugins::node_resources_fit::Args {
            ignored_resources: fit.ignored_resources.clone(),
            ignored_resource_groups: fit.ignored_resource_groups.clone(),
            strategy: match strategy.kind.as_str() {
                "MostAllocated" => Strategy::MostAllocated,
                "RequestedToCapacityRatio" => Strategy::RequestedToCapacityRatio(points),
                _ => Strategy::LeastAllocated,
            },
            resources: strategy.resources.iter().map(|resource| (resource.name.clone(), resource.weight)).collect(),
        },
        pod_topology_spread: match spread.defaulting_type.as_str() {
            "List" => pod_topology_spread::Args::List(constraints.collect::<Result<_, _>>()?),
            _ => pod_topology_spread::Args::System,
        },
        volume_binding: plugins::volume_binding::Args {
            bind_timeout: Duration::from_secs(u64::try_from(given.volume_binding.bind_timeout_seconds).unwrap_or(0)),
        },
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sched::{Decision, Engine};
    use sched_config::Catalogue;
    use serde_json::json;

    use super::*;

    fn configured(text: &str) -> Configuration {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let gates = Gates::default();
        let read = sched_config::read(format!("{head}{text}").as_bytes(), &gates).unwrap();
        Configuration::new(&read, GoDuration::seconds(300), &gates, &Catalogue::in_tree()).unwrap()
    }

    /// The engine without plugins of others.
    fn alone(configuration: &Configuration) -> Result<sched::Options, ProfileError> {
        let (clock, tasks) = (runtime::Clock::system(), runtime::Tasks::root());
        let metrics = telemetry::Metrics::default();
        let meter = Meter::new(clock.clone(), crate::metrics::Metrics::register(&metrics).plugins);
        let place = Place { clock, tasks, metrics, notices: crate::Notices::new().0 };
        engine(configuration, &[], &place, &meter)
    }

    /// How many of six equal pods each of two nodes gets: the one of them is tainted softly.
    fn placed(configuration: &Configuration) -> BTreeMap<String, usize> {
        let mut engine = Engine::new(alone(configuration).unwrap());
        for (name, taints) in [("plain", json!([])), ("soft", json!([{"key": "t", "effect": "PreferNoSchedule"}]))] {
            let allocatable = json!({"cpu": "8", "memory": "8Gi", "pods": "110"});
            let node = json!({"metadata": {"name": name}, "spec": {"taints": taints},
                "status": {"allocatable": allocatable}});
            engine.upsert_node(convert::node(&serde_json::from_value(node).unwrap()).unwrap(), Duration::ZERO);
        }
        let mut counts = BTreeMap::new();
        for n in 0..6 {
            let container = json!({"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}});
            let pod = json!({"metadata": {"name": format!("p{n}"), "namespace": "d", "uid": format!("p{n}")},
                "spec": {"schedulerName": configuration.profiles[0].scheduler_name, "containers": [container]}});
            engine.upsert_pod(convert::pod(&serde_json::from_value(pod).unwrap()).unwrap(), Duration::ZERO);
            match engine.next(Duration::ZERO) {
                Some(Decision::Bind(found)) => *counts.entry(found.node.to_string()).or_default() += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    }

    #[test]
    fn each_profile_preempts_by_its_own_arguments() {
        let args = "{name: DefaultPreemption, args: {minCandidateNodesAbsolute: 7}}";
        let text = format!("profiles: [{{schedulerName: one}}, {{schedulerName: other, pluginConfig: [{args}]}}]");
        let profiles = alone(&configured(&text)).unwrap().profiles;
        let given = |profile: &Profile| {
            (profile.preemption.min_candidate_nodes_percentage, profile.preemption.min_candidate_nodes_absolute)
        };
        assert_eq!(profiles.iter().map(given).collect::<Vec<_>>(), [(10, 100), (10, 7)]);
    }

    #[test]
    fn what_a_file_says_decides_where_pods_go() {
        let check = |text: &str, plain: usize, soft: usize| {
            let counts = placed(&configured(text));
            let of = |name: &str| counts.get(name).copied().unwrap_or(0);
            assert_eq!((of("plain"), of("soft")), (plain, soft), "{text}");
        };
        // A soft taint weighs more than what six pods leave.
        check("", 6, 0);
        // Without it, the emptier one is the better.
        check("profiles: [{plugins: {score: {disabled: [{name: TaintToleration}]}}}]", 3, 3);
        // A weight can turn that around: from the fourth pod on the other node is better.
        let fit = "{name: NodeResourcesFit, weight: 100}";
        check(&format!("profiles: [{{plugins: {{score: {{enabled: [{fit}]}}}}}}]"), 3, 3);
        // The fuller one is the better.
        let most = "pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]";
        let score = "plugins: {score: {disabled: [{name: TaintToleration}]}}";
        let counts = placed(&configured(&format!("profiles: [{{schedulerName: other, {most}, {score}}}]")));
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [6]);
    }
}
