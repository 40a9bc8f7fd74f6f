//! The extension points of the framework, and which of them Kubernetes' own plugins have.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// The names of Kubernetes' plugins.
pub mod names {
    pub const PRIORITY_SORT: &str = "PrioritySort";
    pub const DEFAULT_BINDER: &str = "DefaultBinder";
    pub const DEFAULT_PREEMPTION: &str = "DefaultPreemption";
    pub const DYNAMIC_RESOURCES: &str = "DynamicResources";
    pub const GANG_SCHEDULING: &str = "GangScheduling";
    pub const IMAGE_LOCALITY: &str = "ImageLocality";
    pub const INTER_POD_AFFINITY: &str = "InterPodAffinity";
    pub const NODE_AFFINITY: &str = "NodeAffinity";
    pub const NODE_DECLARED_FEATURES: &str = "NodeDeclaredFeatures";
    pub const NODE_NAME: &str = "NodeName";
    pub const NODE_PORTS: &str = "NodePorts";
    pub const NODE_RESOURCES_BALANCED_ALLOCATION: &str = "NodeResourcesBalancedAllocation";
    pub const NODE_RESOURCES_FIT: &str = "NodeResourcesFit";
    pub const NODE_UNSCHEDULABLE: &str = "NodeUnschedulable";
    pub const NODE_VOLUME_LIMITS: &str = "NodeVolumeLimits";
    pub const POD_TOPOLOGY_SPREAD: &str = "PodTopologySpread";
    pub const SCHEDULING_GATES: &str = "SchedulingGates";
    pub const TAINT_TOLERATION: &str = "TaintToleration";
    pub const VOLUME_BINDING: &str = "VolumeBinding";
    pub const VOLUME_RESTRICTIONS: &str = "VolumeRestrictions";
    pub const VOLUME_ZONE: &str = "VolumeZone";
    pub const TOPOLOGY_PLACEMENT_GENERATOR: &str = "TopologyPlacementGenerator";
    pub const POD_GROUP_PODS_COUNT: &str = "PodGroupPodsCount";
}

/// Where a plugin is called. In the order in which kube-scheduler sets its plugins up, and so finds what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    PreFilter,
    Filter,
    PostFilter,
    Reserve,
    PreScore,
    Score,
    PreBind,
    Bind,
    PostBind,
    Permit,
    PreEnqueue,
    QueueSort,
    PlacementGenerate,
    PlacementScore,
}

impl Point {
    pub const ALL: [Point; 14] = [
        Point::PreFilter,
        Point::Filter,
        Point::PostFilter,
        Point::Reserve,
        Point::PreScore,
        Point::Score,
        Point::PreBind,
        Point::Bind,
        Point::PostBind,
        Point::Permit,
        Point::PreEnqueue,
        Point::QueueSort,
        Point::PlacementGenerate,
        Point::PlacementScore,
    ];

    /// Whether plugins have weights here.
    pub fn is_scored(self) -> bool {
        matches!(self, Point::Score | Point::PlacementScore)
    }
}

/// The name without which `Plugin` is Go's interface: `PreFilter`.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The plugins that exist, and the extension points that each has.
#[derive(Clone, Debug)]
pub struct Catalogue(HashMap<String, HashSet<Point>>);

impl Catalogue {
    /// Kubernetes' own plugins.
    pub fn in_tree() -> Self {
        let known = IN_TREE.iter().map(|(name, points)| ((*name).to_owned(), points.iter().copied().collect()));
        Catalogue(known.collect())
    }

    /// Adds a plugin. Returns whether the name was free.
    pub fn add(&mut self, name: &str, points: impl IntoIterator<Item = Point>) -> bool {
        if self.0.contains_key(name) {
            return false;
        }
        self.0.insert(name.to_owned(), points.into_iter().collect());
        true
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a plugin of that name has the extension point.
    pub fn has(&self, name: &str, point: Point) -> bool {
        self.0.get(name).is_some_and(|points| points.contains(&point))
    }
}

use Point::{
    Bind, Filter, Permit, PlacementGenerate, PlacementScore, PostFilter, PreBind, PreEnqueue, PreFilter, PreScore,
    QueueSort, Reserve, Score,
};

const IN_TREE: [(&str, &[Point]); 23] = [
    (names::SCHEDULING_GATES, &[PreEnqueue]),
    (names::PRIORITY_SORT, &[QueueSort]),
    (names::NODE_UNSCHEDULABLE, &[Filter]),
    (names::NODE_NAME, &[Filter]),
    (names::TAINT_TOLERATION, &[Filter, PreScore, Score]),
    (names::NODE_AFFINITY, &[PreFilter, Filter, PreScore, Score]),
    (names::NODE_PORTS, &[PreFilter, Filter]),
    (names::NODE_RESOURCES_FIT, &[PreFilter, Filter, PreScore, Score, PlacementScore]),
    (names::VOLUME_RESTRICTIONS, &[PreFilter, Filter]),
    (names::NODE_VOLUME_LIMITS, &[PreFilter, Filter]),
    (names::VOLUME_BINDING, &[PreFilter, Filter, Reserve, PreBind, PreScore, Score]),
    (names::VOLUME_ZONE, &[PreFilter, Filter]),
    (names::POD_TOPOLOGY_SPREAD, &[PreFilter, Filter, PreScore, Score]),
    (names::INTER_POD_AFFINITY, &[PreFilter, Filter, PreScore, Score]),
    (names::DYNAMIC_RESOURCES, &[PreEnqueue, PreFilter, Filter, PostFilter, Score, Reserve, PreBind]),
    (names::DEFAULT_PREEMPTION, &[PreEnqueue, PostFilter]),
    (names::NODE_RESOURCES_BALANCED_ALLOCATION, &[PreScore, Score]),
    (names::IMAGE_LOCALITY, &[Score]),
    (names::DEFAULT_BINDER, &[Bind]),
    (names::NODE_DECLARED_FEATURES, &[PreFilter, Filter]),
    (names::GANG_SCHEDULING, &[PreEnqueue, Permit]),
    (names::TOPOLOGY_PLACEMENT_GENERATOR, &[PlacementGenerate]),
    (names::POD_GROUP_PODS_COUNT, &[PlacementScore]),
];
