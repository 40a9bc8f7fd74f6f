//! What scheduling needs to know of a pod, and no more: two pods whose [`Spec`] and labels are equal are scheduled
//! alike, so an update that leaves them equal (most of a status) wakes nobody.
//!
//! Specs and label sets are shared: a thousand replicas hold one of each.

use std::sync::Arc;

use crate::{
    Resources, Taint, TaintEffect,
    labels::{Labels, Selector},
    selector::Term,
    storage::Source,
};

/// One pod: who it is, and what it shares with its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// The node it is bound to.
    pub node_name: Option<Arc<str>>,
    /// The node that preemption has freed for it (status.nominatedNodeName).
    pub nominated: Option<Arc<str>>,
    /// Seconds since 1970 when it was started, or created if it was not: preemption spares the older.
    pub started: i64,
    /// Being deleted: it is not placed any more.
    pub deleting: bool,
    /// Succeeded or failed: it uses nothing any more.
    pub terminal: bool,
    /// The gang that it belongs to (spec.schedulingGroup.podGroupName).
    pub group: Option<Arc<str>>,
    /// Why it waits, as its condition says already.
    pub told: Option<Arc<str>>,
    pub generation: Option<i64>,
    pub labels: Arc<Labels>,
    pub spec: Arc<Spec>,
}

/// What a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec {
    pub scheduler_name: Arc<str>,
    pub priority: i32,
    pub requests: Resources,
    /// The requests that scores count: a container without any counts as a small one.
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
    /// Labels that the node must have, sorted.
    pub node_selector: Vec<(Arc<str>, Arc<str>)>,
    /// Terms of which one must match; `None`: any node does.
    pub required_affinity: Option<Vec<Term>>,
    pub preferred_affinity: Vec<PreferredTerm>,
    pub tolerations: Vec<Toleration>,
    pub host_ports: Vec<HostPort>,
    pub scheduling_gates: Vec<Arc<str>>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    /// Sorted as declared; the weight is positive.
    pub preferred_pods: Vec<WeightedPodTerm>,
    /// Likewise, away from these.
    pub avoided_pods: Vec<WeightedPodTerm>,
    pub spread: Vec<SpreadConstraint>,
    /// Normalised names of the images of all containers and image volumes, one entry for each use.
    pub images: Vec<Arc<str>>,
    /// How many containers there are, init containers included.
    pub containers: i64,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// The workload that made it, where that has a say in how it is spread by default.
    pub owner: Option<(OwnerKind, Arc<str>)>,
    pub volumes: Vec<Volume>,
    pub traffic: Traffic,
    /// What a node must be able to do, by the names under which nodes declare it.
    pub features: Vec<Arc<str>>,
    /// The devices that it wants.
    pub claims: Vec<PodClaim>,
    /// What its containers want of extended resources, which devices may stand for.
    pub extended: Vec<ExtendedRequest>,
}

/// What a container wants of an extended resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedRequest {
    pub container: Arc<str>,
    /// The container's place: init containers first, then the others.
    pub index: usize,
    /// An init container that ends before those after it begin.
    pub brief: bool,
    /// The resource's place among all that the container requests, sorted by name.
    pub place: usize,
    pub resource: Arc<str>,
    /// At least one.
    pub count: i64,
}

/// A ResourceClaim, as a pod speaks of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodClaim {
    /// What the pod calls it.
    pub name: Arc<str>,
    pub source: ClaimSource,
}

/// Which ResourceClaim it is, by its name in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimSource {
    /// One that pods may share.
    Named(Arc<str>),
    /// One that was made for this pod.
    Made(Arc<str>),
    /// One that is still to be made.
    Unmade,
    /// None was needed.
    Spared,
    /// The pod does not say in a way that is known.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreferredTerm {
    pub weight: i32,
    pub term: Term,
}

/// One term of a pod's (anti-)affinity to other pods. `matchLabelKeys` are part of the selector already.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodTerm {
    pub peers: Peers,
    pub topology_key: Arc<str>,
}

/// A set of pods by their namespaces and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peers {
    /// Sorted.
    pub namespaces: Vec<Arc<str>>,
    /// Namespaces with these labels, too.
    pub namespace_selector: Option<Selector>,
    /// `None` matches no pod.
    pub selector: Option<Selector>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedPodTerm {
    pub weight: i32,
    pub term: PodTerm,
}

/// Where traffic is near: on the node, in the zone.
const TRAFFIC_TOPOLOGIES: [&str; 2] = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"];

/// Whom a pod says it talks to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Traffic {
    pub talks: Vec<Talk>,
    /// It could not be read.
    pub error: Option<Arc<str>>,
}

/// What a pod sends to others, spread evenly over them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Talk {
    pub peers: Peers,
    pub rate: u32,
}

impl Talk {
    /// Where it would be good to be: with the peers, on their nodes and in their zones.
    pub fn terms(&self) -> impl Iterator<Item = PodTerm> {
        TRAFFIC_TOPOLOGIES.iter().map(|key| PodTerm { peers: self.peers.clone(), topology_key: (*key).into() })
    }
}

/// One topology spread constraint. `matchLabelKeys` are part of the selector already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    pub topology_key: Arc<str>,
    pub max_skew: i32,
    pub min_domains: i32,
    /// DoNotSchedule; otherwise ScheduleAnyway.
    pub hard: bool,
    /// `None` matches no pod.
    pub selector: Option<Selector>,
    /// Domains and pods count only on nodes that the pod's node affinity admits.
    pub honors_affinity: bool,
    /// Likewise for taints.
    pub honors_taints: bool,
}

/// Workloads whose selectors default spreading goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

/// What of a volume can bind a pod to nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Volume {
    /// A PersistentVolumeClaim of the pod's namespace; `ephemeral` ones are made for the pod.
    Claim { name: Arc<str>, ephemeral: bool, read_only: bool },
    /// A disk by its kind and identity; `source` where a CSI driver has taken it over.
    Disk { kind: DiskKind, id: Arc<str>, read_only: bool, source: Option<Source> },
    /// An image of Ceph: its monitors, and the pool and name of the image.
    Rbd { monitors: Vec<Arc<str>>, image: Arc<str>, read_only: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskKind {
    GcePersistentDisk,
    AwsElasticBlockStore,
    Iscsi,
    /// Of the kinds below, any number of pods may share one.
    AzureDisk,
    Cinder,
    Portworx,
}

impl DiskKind {
    fn is_exclusive(self) -> bool {
        matches!(self, DiskKind::GcePersistentDisk | DiskKind::AwsElasticBlockStore | DiskKind::Iscsi)
    }
}

impl Volume {
    /// Whether two pods must not have them on one node.
    pub fn conflicts(&self, other: &Volume) -> bool {
        match (self, other) {
            (
                Volume::Disk { kind, id, read_only, .. },
                Volume::Disk { kind: other_kind, id: other_id, read_only: other_read_only, .. },
            ) => {
                // Not even readers share a disk of AWS.
                let readers = *read_only && *other_read_only && *kind != DiskKind::AwsElasticBlockStore;
                kind == other_kind && id == other_id && kind.is_exclusive() && !readers
            }
            (
                Volume::Rbd { monitors, image, read_only },
                Volume::Rbd { monitors: other_monitors, image: other_image, read_only: other_read_only },
            ) => {
                image == other_image
                    && monitors.iter().any(|monitor| other_monitors.contains(monitor))
                    && !(*read_only && *other_read_only)
            }
            _ => false,
        }
    }

    /// Whether it can conflict with any other.
    pub fn can_conflict(&self) -> bool {
        match self {
            Volume::Claim { .. } => false,
            Volume::Disk { kind, .. } => kind.is_exclusive(),
            Volume::Rbd { .. } => true,
        }
    }

    /// The name of its claim.
    pub fn claim(&self) -> Option<&Arc<str>> {
        match self {
            Volume::Claim { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The name of its claim, if that was not made for the pod.
    pub fn standing_claim(&self) -> Option<&Arc<str>> {
        match self {
            Volume::Claim { name, ephemeral: false, .. } => Some(name),
            _ => None,
        }
    }

    /// What it is to a CSI driver, where it is a disk inline.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Volume::Disk { source, .. } => source.as_ref(),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TolerationOperator {
    Equal,
    Exists,
    /// The taint's value as a number is less (KEP-5471).
    Lt,
    Gt,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Empty: every key.
    pub key: Arc<str>,
    pub operator: TolerationOperator,
    pub value: Arc<str>,
    /// `None`: every effect.
    pub effect: Option<TaintEffect>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.admits(&taint.value)
    }

    fn admits(&self, value: &Arc<str>) -> bool {
        let numbers = || Some((value.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        match self.operator {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => self.value == *value,
            TolerationOperator::Lt => numbers().is_some_and(|(taint, own)| taint < own),
            TolerationOperator::Gt => numbers().is_some_and(|(taint, own)| taint > own),
        }
    }
}

/// A port of the node that a container wants for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub protocol: Arc<str>,
    /// Empty: all addresses of the node.
    pub ip: Arc<str>,
    pub port: u16,
}

impl HostPort {
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

impl Spec {
    /// Whether a volume has a claim that is made for one pod: its like have others.
    pub fn has_own_claims(&self) -> bool {
        self.volumes.iter().any(|volume| matches!(volume, Volume::Claim { ephemeral: true, .. }))
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }

    /// Whether the node's labels and name are what the pod requires (nodeSelector and required node affinity).
    pub fn admits(&self, node: &crate::Node) -> bool {
        self.node_selector.iter().all(|(key, value)| node.label(key) == Some(value))
            && self.required_affinity.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    pub fn restricts_nodes(&self) -> bool {
        !self.node_selector.is_empty() || self.required_affinity.is_some()
    }
}

impl Pod {
    pub fn priority(&self) -> i32 {
        self.spec.priority
    }
}
