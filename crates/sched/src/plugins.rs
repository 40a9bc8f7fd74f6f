//! kube-scheduler's plugins. A new one is a file beside these and a line in [`registry`].

pub mod default_binder;
pub mod default_preemption;
pub mod dynamic_resources;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_declared_features;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod priority_sort;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod traffic_locality;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

mod amounts;
mod claims;

use crate::{framework::Plugin, profile::Profile};

/// The arguments of all plugins; their defaults are kube-scheduler's.
#[derive(Clone, Debug, Default)]
pub struct Args {
    pub default_preemption: default_preemption::Args,
    pub dynamic_resources: dynamic_resources::Args,
    pub inter_pod_affinity: inter_pod_affinity::Args,
    pub node_affinity: node_affinity::Args,
    pub node_resources_balanced_allocation: node_resources_balanced_allocation::Args,
    pub node_resources_fit: node_resources_fit::Args,
    pub pod_topology_spread: pod_topology_spread::Args,
    pub volume_binding: volume_binding::Args,
}

/// A plugin, and the weight of its scores unless the profile says otherwise.
pub type Registered = (Box<dyn Plugin>, i64);

/// All plugins, in the order in which a profile has them by default.
pub fn registry(args: &Args) -> Vec<Registered> {
    vec![
        (Box::new(scheduling_gates::SchedulingGates), 0),
        (Box::new(priority_sort::PrioritySort), 0),
        (Box::new(node_unschedulable::NodeUnschedulable), 0),
        (Box::new(node_name::NodeName), 0),
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity::new(&args.node_affinity)), 2),
        (Box::new(node_ports::NodePorts), 0),
        (Box::new(node_resources_fit::NodeResourcesFit::new(&args.node_resources_fit)), 1),
        (Box::new(volume_restrictions::VolumeRestrictions), 0),
        (Box::new(node_volume_limits::NodeVolumeLimits), 0),
        (Box::new(volume_binding::VolumeBinding::new(&args.volume_binding)), 0),
        (Box::new(volume_zone::VolumeZone), 0),
        (Box::new(pod_topology_spread::PodTopologySpread::new(&args.pod_topology_spread)), 2),
        (Box::new(inter_pod_affinity::InterPodAffinity::new(&args.inter_pod_affinity)), 2),
        (Box::new(dynamic_resources::DynamicResources::new(&args.dynamic_resources)), 2),
        (Box::new(default_preemption::DefaultPreemption), 0),
        (
            Box::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation::new(
                &args.node_resources_balanced_allocation,
            )),
            1,
        ),
        (Box::new(image_locality::ImageLocality), 1),
        (Box::new(default_binder::DefaultBinder), 0),
        (Box::new(node_declared_features::NodeDeclaredFeatures), 0),
    ]
}

/// Plugins that Kubernetes does not have: a profile has them only if it enables them.
pub fn further() -> Vec<Registered> {
    vec![(Box::new(traffic_locality::TrafficLocality), 2)]
}

/// The profile that kube-scheduler has without any configuration.
pub fn default_profile(scheduler_name: &str) -> Profile {
    let plugins = registry(&Args::default());
    plugins.into_iter().fold(Profile::new(scheduler_name), |profile, (plugin, weight)| profile.with(plugin, weight))
}
