//! What the scheduler reads of the API's objects: the fields that [`crate::convert`] looks at. Everything else is skipped while
//! an object is decoded, which is most of it.

pub mod storage;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, ContainerPort, PersistentVolumeClaimVolumeSource, PodCondition, PodResourceClaim,
        PodResourceClaimStatus, PodSchedulingGate, PodSchedulingGroup, ResourceRequirements, Taint, Toleration,
        TopologySpreadConstraint,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, OwnerReference, Time},
    },
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// ObjectMeta.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub generation: Option<i64>,
    pub labels: Option<BTreeMap<String, String>>,
    pub creation_timestamp: Option<Time>,
    pub deletion_timestamp: Option<IgnoredAny>,
    pub owner_references: Option<Vec<OwnerReference>>,
    pub annotations: Annotations,
}

/// Those that mean something here; the others are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// See [`crate::convert::traffic`].
    pub talks_to: Option<String>,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Known {
            #[serde(rename = "scheduler.plinth.io/talks-to")]
            talks_to: Option<String>,
        }
        let known = Option::<Known>::deserialize(deserializer)?;
        Ok(Annotations { talks_to: known.and_then(|known| known.talks_to) })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Meta,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub affinity: Option<Affinity>,
    pub containers: Option<Vec<Container>>,
    pub host_network: Option<bool>,
    pub host_users: Option<bool>,
    pub init_containers: Option<Vec<Container>>,
    pub node_name: Option<String>,
    pub node_selector: Option<BTreeMap<String, String>>,
    pub overhead: Option<BTreeMap<String, Quantity>>,
    pub preemption_policy: Option<String>,
    pub priority: Option<i32>,
    pub resource_claims: Option<Vec<PodResourceClaim>>,
    pub resources: Option<ResourceRequirements>,
    pub scheduler_name: Option<String>,
    pub scheduling_gates: Option<Vec<PodSchedulingGate>>,
    pub scheduling_group: Option<PodSchedulingGroup>,
    pub tolerations: Option<Vec<Toleration>>,
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    pub volumes: Option<Vec<Volume>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub image: Option<String>,
    pub ports: Option<Vec<ContainerPort>>,
    pub resources: Option<ResourceRequirements>,
    pub restart_policy: Option<String>,
    pub restart_policy_rules: Option<Vec<RestartRule>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RestartRule {
    pub action: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    pub name: String,
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    pub ephemeral: Option<IgnoredAny>,
    pub gce_persistent_disk: Option<GceDisk>,
    pub aws_elastic_block_store: Option<AwsDisk>,
    pub iscsi: Option<Iscsi>,
    pub rbd: Option<Rbd>,
    pub azure_disk: Option<AzureDisk>,
    pub cinder: Option<CinderDisk>,
    pub portworx_volume: Option<PortworxDisk>,
    pub image: Option<ImageVolume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GceDisk {
    pub pd_name: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AwsDisk {
    #[serde(rename = "volumeID")]
    pub volume_id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Iscsi {
    pub iqn: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rbd {
    pub image: String,
    pub monitors: Vec<String>,
    pub pool: Option<String>,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AzureDisk {
    #[serde(rename = "diskURI")]
    pub disk_uri: String,
    /// Only managed disks were taken over by the CSI driver.
    pub kind: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CinderDisk {
    #[serde(rename = "volumeID")]
    pub volume_id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PortworxDisk {
    #[serde(rename = "volumeID")]
    pub volume_id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImageVolume {
    pub reference: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Option<String>,
    pub start_time: Option<Time>,
    pub nominated_node_name: Option<String>,
    pub conditions: Option<Vec<PodCondition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    pub resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
}

/// What a container has, which may be another than its spec asks for while it is resized.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    /// What the node has set aside for it.
    pub allocated_resources: Option<BTreeMap<String, Quantity>>,
    /// What it runs with.
    pub resources: Option<ResourceRequirements>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Meta,
    pub spec: Option<NodeSpec>,
    pub status: Option<NodeStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub taints: Option<Vec<Taint>>,
    pub unschedulable: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub allocatable: Option<BTreeMap<String, Quantity>>,
    pub images: Option<Vec<Image>>,
    #[serde(rename = "declaredFeatures")]
    pub declared_features: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    pub names: Option<Vec<String>>,
    pub size_bytes: Option<i64>,
}

/// A namespace: its labels.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: Meta,
}

/// A Service or a ReplicationController, which select by a map.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ByMap {
    pub metadata: Meta,
    pub spec: Option<MapSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MapSelector {
    pub selector: Option<BTreeMap<String, String>>,
}

/// A ReplicaSet or a StatefulSet, which select by a label selector.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BySelector {
    pub metadata: Meta,
    pub spec: Option<Selecting>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Selecting {
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodDisruptionBudget {
    pub metadata: Meta,
    pub spec: Option<Selecting>,
    pub status: Option<BudgetStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    pub disruptions_allowed: Option<i32>,
    pub disrupted_pods: Option<BTreeMap<String, IgnoredAny>>,
}

/// A PodGroup of scheduling.k8s.io/v1alpha2.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodGroup {
    pub metadata: Meta,
    pub spec: Option<PodGroupSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGroupSpec {
    pub scheduling_policy: Option<PodGroupPolicy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodGroupPolicy {
    pub gang: Option<Gang>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gang {
    pub min_count: Option<i32>,
}
