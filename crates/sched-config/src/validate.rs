//! Kubernetes' rules for a configuration, in its words.

mod affinity;
mod args;
mod names;

pub(crate) use args::fit;

use std::collections::HashSet;

use serde::Serialize;

use crate::{
    duration::GoDuration,
    field::{Aggregate, FieldError, Path},
    gates::Gates,
    plugins::Point,
    v1::{
        API_VERSION, Args, Extender, KubeSchedulerConfiguration, KubeSchedulerProfile, LeaderElectionConfiguration,
        Plugin, PluginConfig, PluginSet,
    },
};

/// Plugins that Kubernetes has no more, and the version that took them away.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];
const REMOVED_IN: &str = "v1";

/// Says all that is wrong with a completed configuration.
pub fn validate(configuration: &KubeSchedulerConfiguration, gates: &Gates) -> Result<(), Aggregate> {
    let mut errors = Vec::new();
    if configuration.client_connection.burst < 0 {
        let path = Path::new("clientConnection").child("burst");
        errors.push(FieldError::invalid(&path, configuration.client_connection.burst, "must be non-negative"));
    }
    leader_election(&configuration.leader_election, &mut errors);
    if configuration.parallelism <= 0 {
        let path = Path::new("parallelism");
        errors.push(FieldError::invalid(
            &path,
            configuration.parallelism,
            "should be an integer value greater than zero",
        ));
    }
    profiles(configuration, gates, &mut errors);
    percentage(&Path::new("percentageOfNodesToScore"), Some(configuration.percentage_of_nodes_to_score), &mut errors);
    let (initial, max) = (configuration.pod_initial_backoff_seconds, configuration.pod_max_backoff_seconds);
    if initial <= 0 {
        errors.push(FieldError::invalid(&Path::new("podInitialBackoffSeconds"), initial, "must be greater than 0"));
    }
    if max < initial {
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.push(FieldError::invalid(&Path::new("podMaxBackoffSeconds"), max, detail));
    }
    extenders(&configuration.extenders, &mut errors);
    Aggregate::of(errors)
}

fn leader_election(election: &LeaderElectionConfiguration, errors: &mut Vec<FieldError>) {
    if !election.leader_elect {
        return;
    }
    let path = Path::new("leaderElection");
    for (name, value) in [
        ("leaseDuration", election.lease_duration),
        ("renewDeadline", election.renew_deadline),
        ("retryPeriod", election.retry_period),
    ] {
        if value <= GoDuration::default() {
            errors.push(FieldError::invalid(&path.child(name), value, "must be greater than zero"));
        }
    }
    if election.lease_duration <= election.renew_deadline {
        let detail = "must be greater than `RenewDeadline`";
        errors.push(FieldError::invalid(&path.child("leaseDuration"), election.renew_deadline, detail));
    }
    for (name, value) in [
        ("resourceLock", &election.resource_lock),
        ("resourceNamespace", &election.resource_namespace),
        ("resourceName", &election.resource_name),
    ] {
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    if election.resource_lock != "leases" {
        let detail = "resourceLock value must be \"leases\"";
        errors.push(FieldError::invalid(&path.child("resourceLock"), &election.resource_lock, detail));
    }
}

fn percentage(path: &Path, percentage: Option<i32>, errors: &mut Vec<FieldError>) {
    if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
        errors.push(FieldError::invalid(path, percentage, "not in valid range [0-100]"));
    }
}

fn profiles(configuration: &KubeSchedulerConfiguration, gates: &Gates, errors: &mut Vec<FieldError>) {
    let path = Path::new("profiles");
    if configuration.profiles.is_empty() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    let mut seen = HashSet::new();
    for (index, profile) in configuration.profiles.iter().enumerate() {
        let at = path.index(index);
        self::profile(&at, profile, gates, errors);
        let name = profile.scheduler_name.as_deref().unwrap_or_default();
        if !seen.insert(name) {
            // Kubernetes means to name the first field as the value, and writes an empty object.
            errors.push(FieldError::duplicate(&at.child("schedulerName"), serde_json::json!({})));
        }
    }
    queue_sort(&path, &configuration.profiles, errors);
}

fn profile(path: &Path, profile: &KubeSchedulerProfile, gates: &Gates, errors: &mut Vec<FieldError>) {
    if profile.scheduler_name.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("schedulerName"), ""));
    }
    percentage(&path.child("percentageOfNodesToScore"), profile.percentage_of_nodes_to_score, errors);
    let plugins = path.child("plugins");
    for point in Point::ALL.iter().filter(|point| !matches!(point, Point::PlacementGenerate | Point::PlacementScore)) {
        removed_plugins(&plugins.child(&camel(*point)), profile.plugins.at(*point), errors);
    }
    let mut seen = HashSet::new();
    for (index, config) in profile.plugin_config.iter().enumerate() {
        let at = path.child("pluginConfig").index(index);
        if !seen.insert(config.name.as_str()) {
            errors.push(FieldError::duplicate(&at, &config.name));
        }
        if REMOVED.contains(&config.name.as_str()) {
            errors.push(removed(&at, &config.name));
        } else {
            plugin_config(&at.child("args"), config, gates, errors);
        }
    }
}

/// The field of an extension point: `preFilter`.
pub(crate) fn camel(point: Point) -> String {
    let name = point.to_string();
    name[..1].to_ascii_lowercase() + &name[1..]
}

fn removed_plugins(path: &Path, set: &PluginSet, errors: &mut Vec<FieldError>) {
    for (index, plugin) in set.enabled.iter().enumerate() {
        if REMOVED.contains(&plugin.name.as_str()) {
            errors.push(removed(&path.child("enabled").index(index), &plugin.name));
        }
    }
}

fn removed(path: &Path, name: &str) -> FieldError {
    let detail =
        format!("was invalid in version {REMOVED_IN:?} (KubeSchedulerConfiguration is version {API_VERSION:?})");
    FieldError::invalid(path, name, &detail)
}

/// NodeResourcesFit's arguments are looked at only when the plugin is set up, see [`fit`].
fn plugin_config(path: &Path, config: &PluginConfig, gates: &Gates, errors: &mut Vec<FieldError>) {
    match &config.args {
        Args::DefaultPreemption(args) => args::default_preemption(path, args, errors),
        Args::InterPodAffinity(args) => args::inter_pod_affinity(path, args, errors),
        Args::NodeAffinity(args) => affinity::node_affinity(path, args, errors),
        Args::NodeResourcesBalancedAllocation(args) => args::balanced_allocation(path, args, errors),
        Args::PodTopologySpread(args) => args::topology_spread(path, args, errors),
        Args::VolumeBinding(args) => args::volume_binding(path, args, gates, errors),
        Args::DynamicResources(args) => args::dynamic_resources(path, args, gates, errors),
        Args::NodeResourcesFit(_) | Args::Other(_) => {}
    }
}

/// Pods of all profiles wait in one queue, which has one order.
fn queue_sort(path: &Path, profiles: &[KubeSchedulerProfile], errors: &mut Vec<FieldError>) {
    let Some((first, others)) = profiles.split_first() else { return };
    let canon = &first.plugins.queue_sort;
    if canon.enabled.len() > 1 {
        let path = path.index(0).child("plugins").child("queueSort").child("Enabled");
        errors.push(FieldError::invalid(&path, canon.enabled.len(), "only one queue sort plugin can be enabled"));
    }
    let name = canon.enabled.first().map(|plugin| plugin.name.as_str());
    let args_of = |profile: &KubeSchedulerProfile| {
        profile
            .plugin_config
            .iter()
            .filter(|config| Some(config.name.as_str()) == name)
            .map(|c| c.args.clone())
            .next_back()
    };
    let args = args_of(first);
    for (index, profile) in others.iter().enumerate() {
        let path = path.index(index + 1);
        let current = &profile.plugins.queue_sort;
        if canon != current {
            let shown = go_set(current);
            let path = path.child("plugins").child("queueSort");
            errors.push(FieldError::invalid(&path, shown, "must be the same for all profiles"));
        }
        if let Some(own) = args_of(profile).filter(|own| Some(own) != args.as_ref()) {
            let path = path.child("pluginConfig").child("args");
            errors.push(FieldError::invalid(&path, own, "queueSort must be the same for all profiles"));
        }
    }
}

/// A set of plugins as Go's encoder writes the type without names for its fields.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GoSet<'a> {
    enabled: Option<Vec<GoPlugin<'a>>>,
    disabled: Option<Vec<GoPlugin<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GoPlugin<'a> {
    name: &'a str,
    weight: i32,
}

fn go_set(set: &PluginSet) -> GoSet<'_> {
    fn list(plugins: &[Plugin]) -> Option<Vec<GoPlugin<'_>>> {
        let all = plugins.iter().map(|plugin| GoPlugin { name: &plugin.name, weight: plugin.weight });
        (!plugins.is_empty()).then(|| all.collect())
    }
    GoSet { enabled: list(&set.enabled), disabled: list(&set.disabled) }
}

fn extenders(extenders: &[Extender], errors: &mut Vec<FieldError>) {
    let path = Path::new("extenders");
    let mut managed = HashSet::new();
    for (index, extender) in extenders.iter().enumerate() {
        let at = path.index(index);
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let detail = "must have a positive weight applied to it";
            errors.push(FieldError::invalid(&at.child("weight"), extender.weight, detail));
        }
        for (index, resource) in extender.managed_resources.iter().enumerate() {
            let at = at.child("managedResources").index(index).child("name");
            names::extended_resource(&at, &resource.name, errors);
            if !managed.insert(resource.name.as_str()) {
                errors.push(FieldError::invalid(&at, &resource.name, "duplicate extender managed resource name"));
            }
        }
    }
    let binders = extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count();
    if binders > 1 {
        let found = format!("found {binders} extenders implementing bind");
        errors.push(FieldError::invalid(&path, found, "only one extender can implement bind"));
    }
}
