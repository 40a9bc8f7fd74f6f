//! The arguments of the plugins that take any.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::API_VERSION;
use crate::{
    decode::{self, Mismatch},
    duration::GoDuration,
    plugins::names,
    value::Value,
};

/// What stands below `args`.
#[derive(Clone, Debug, PartialEq)]
pub enum Args {
    DefaultPreemption(DefaultPreemptionArgs),
    DynamicResources(DynamicResourcesArgs),
    InterPodAffinity(InterPodAffinityArgs),
    NodeAffinity(NodeAffinityArgs),
    NodeResourcesBalancedAllocation(NodeResourcesBalancedAllocationArgs),
    NodeResourcesFit(NodeResourcesFitArgs),
    PodTopologySpread(PodTopologySpreadArgs),
    VolumeBinding(VolumeBindingArgs),
    /// Of a plugin that only the caller knows, as they stand there.
    Other(Value),
}

impl Default for Args {
    fn default() -> Self {
        Args::Other(Value::Null)
    }
}

impl Args {
    /// The defaults of a plugin that takes arguments.
    pub fn of(plugin: &str) -> Option<Self> {
        Some(match plugin {
            names::DEFAULT_PREEMPTION => Args::DefaultPreemption(DefaultPreemptionArgs::default()),
            names::DYNAMIC_RESOURCES => Args::DynamicResources(DynamicResourcesArgs::default()),
            names::INTER_POD_AFFINITY => Args::InterPodAffinity(InterPodAffinityArgs::default()),
            names::NODE_AFFINITY => Args::NodeAffinity(NodeAffinityArgs::default()),
            names::NODE_RESOURCES_BALANCED_ALLOCATION => {
                Args::NodeResourcesBalancedAllocation(NodeResourcesBalancedAllocationArgs::default())
            }
            names::NODE_RESOURCES_FIT => Args::NodeResourcesFit(NodeResourcesFitArgs::default()),
            names::POD_TOPOLOGY_SPREAD => Args::PodTopologySpread(PodTopologySpreadArgs::default()),
            names::VOLUME_BINDING => Args::VolumeBinding(VolumeBindingArgs::default()),
            _ => return None,
        })
    }

    /// Reads the arguments of a plugin that takes any, with what strictness objects to.
    pub(crate) fn read(plugin: &str, value: &Value) -> Option<Result<(Self, Vec<String>), Mismatch>> {
        fn typed<'de, T: Deserialize<'de>>(
            value: &'de Value,
            wrap: impl FnOnce(T) -> Args,
        ) -> Result<(Args, Vec<String>), Mismatch> {
            // What every argument type has besides its own fields.
            let (args, mut strict) = decode::decode::<T>(value)?;
            strict.retain(|told| told != "unknown field \"apiVersion\"" && told != "unknown field \"kind\"");
            Ok((wrap(args), strict))
        }
        Some(match Args::of(plugin)? {
            Args::DefaultPreemption(_) => typed(value, Args::DefaultPreemption),
            Args::DynamicResources(_) => typed(value, Args::DynamicResources),
            Args::InterPodAffinity(_) => typed(value, Args::InterPodAffinity),
            Args::NodeAffinity(_) => typed(value, Args::NodeAffinity),
            Args::NodeResourcesBalancedAllocation(_) => typed(value, Args::NodeResourcesBalancedAllocation),
            Args::NodeResourcesFit(_) => typed(value, Args::NodeResourcesFit),
            Args::PodTopologySpread(_) => typed(value, Args::PodTopologySpread),
            Args::VolumeBinding(_) => typed(value, Args::VolumeBinding),
            Args::Other(_) => return None,
        })
    }

    /// The name of the plugin that takes arguments of this type.
    pub fn plugin(&self) -> Option<&'static str> {
        Some(match self {
            Args::DefaultPreemption(_) => names::DEFAULT_PREEMPTION,
            Args::DynamicResources(_) => names::DYNAMIC_RESOURCES,
            Args::InterPodAffinity(_) => names::INTER_POD_AFFINITY,
            Args::NodeAffinity(_) => names::NODE_AFFINITY,
            Args::NodeResourcesBalancedAllocation(_) => names::NODE_RESOURCES_BALANCED_ALLOCATION,
            Args::NodeResourcesFit(_) => names::NODE_RESOURCES_FIT,
            Args::PodTopologySpread(_) => names::POD_TOPOLOGY_SPREAD,
            Args::VolumeBinding(_) => names::VOLUME_BINDING,
            Args::Other(_) => return None,
        })
    }
}

/// Arguments together with their type's name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<'a, T> {
    api_version: &'static str,
    kind: String,
    #[serde(flatten)]
    args: &'a T,
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = format!("{}Args", self.plugin().unwrap_or_default());
        macro_rules! typed {
            ($args:expr) => {
                Typed { api_version: API_VERSION, kind, args: $args }.serialize(serializer)
            };
        }
        match self {
            Args::DefaultPreemption(args) => typed!(args),
            Args::DynamicResources(args) => typed!(args),
            Args::InterPodAffinity(args) => typed!(args),
            Args::NodeAffinity(args) => typed!(args),
            Args::NodeResourcesBalancedAllocation(args) => typed!(args),
            Args::NodeResourcesFit(args) => typed!(args),
            Args::PodTopologySpread(args) => typed!(args),
            Args::VolumeBinding(args) => typed!(args),
            Args::Other(value) => value.serialize(serializer),
        }
    }
}

/// At first as a tree: whose arguments they are stands beside them.
impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Args::Other)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultPreemptionArgs {
    /// Nodes that are looked at as candidates, in percent of all, and at least so many.
    pub min_candidate_nodes_percentage: i32,
    pub min_candidate_nodes_absolute: i32,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        DefaultPreemptionArgs { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// Both are there unless a feature gate takes them away; zero stands for no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DynamicResourcesArgs {
    /// How long the search for devices on one node may take.
    pub filter_timeout: Option<GoDuration>,
    /// How long devices may take to get ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding_timeout: Option<GoDuration>,
}

impl DynamicResourcesArgs {
    /// When nothing else is said.
    pub const FILTER_TIMEOUT: GoDuration = GoDuration::seconds(10);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterPodAffinityArgs {
    /// What an existing pod's required affinity to the new one counts when nodes are scored.
    pub hard_pod_affinity_weight: i32,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        InterPodAffinityArgs { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinityArgs {
    /// Goes on top of what pods ask for themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesBalancedAllocationArgs {
    pub resources: Vec<ResourceSpec>,
}

impl Default for NodeResourcesBalancedAllocationArgs {
    fn default() -> Self {
        NodeResourcesBalancedAllocationArgs { resources: ResourceSpec::defaults() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesFitArgs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_resources: Vec<String>,
    /// All resources whose names begin with one of these and a slash.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_resource_groups: Vec<String>,
    pub scoring_strategy: ScoringStrategy,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoringStrategy {
    /// `LeastAllocated`, `MostAllocated` or `RequestedToCapacityRatio`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    pub resources: Vec<ResourceSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_to_capacity_ratio: Option<RequestedToCapacityRatioParam>,
}

impl ScoringStrategy {
    pub const LEAST_ALLOCATED: &str = "LeastAllocated";
    pub const MOST_ALLOCATED: &str = "MostAllocated";
    pub const REQUESTED_TO_CAPACITY_RATIO: &str = "RequestedToCapacityRatio";
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        ScoringStrategy {
            kind: ScoringStrategy::LEAST_ALLOCATED.to_owned(),
            resources: ResourceSpec::defaults(),
            requested_to_capacity_ratio: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestedToCapacityRatioParam {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<UtilizationShapePoint>,
}

/// A score of 0 to 10 at a utilization of 0 to 100 percent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UtilizationShapePoint {
    pub utilization: i32,
    pub score: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceSpec {
    pub name: String,
    /// 0 stands for 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight: i64,
}

impl ResourceSpec {
    pub(crate) fn defaults() -> Vec<Self> {
        ["cpu", "memory"].map(|name| ResourceSpec { name: name.to_owned(), weight: 1 }).into()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTopologySpreadArgs {
    /// For pods without constraints of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_constraints: Vec<TopologySpreadConstraint>,
    /// `System`: Kubernetes' constraints by zone and host; `List`: those above.
    pub defaulting_type: String,
}

impl PodTopologySpreadArgs {
    pub const SYSTEM: &str = "System";
    pub const LIST: &str = "List";
}

impl Default for PodTopologySpreadArgs {
    fn default() -> Self {
        PodTopologySpreadArgs { default_constraints: Vec::new(), defaulting_type: Self::SYSTEM.to_owned() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeBindingArgs {
    pub bind_timeout_seconds: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<UtilizationShapePoint>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        VolumeBindingArgs { bind_timeout_seconds: 600, shape: Vec::new() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}
