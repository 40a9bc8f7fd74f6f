//! What scheduling needs to know of storage: claims, volumes, classes, CSI drivers and what they can take.
//!
//! Two states of an object that are equal here change no decision, so a status that comes and goes wakes nobody.

use std::sync::Arc;

use crate::{
    labels::{Labels, Selector},
    selector::Term,
};

/// A namespace and a name in it.
pub type Name = (Arc<str>, Arc<str>);

/// An object's resourceVersion. It is no part of what an object is: two states that differ in nothing else are equal.
#[derive(Clone, Debug, Default, Eq)]
pub struct Version(pub Arc<str>);

impl PartialEq for Version {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub name: Name,
    pub uid: Arc<str>,
    pub version: Version,
    /// Empty: none.
    pub class: Arc<str>,
    /// The volume that it is bound to, or that it was made for.
    pub volume: Option<Arc<str>>,
    /// The binding is complete on both sides (`pv.kubernetes.io/bind-completed`).
    pub bind_completed: bool,
    pub access_modes: Vec<Arc<str>>,
    /// `volumeMode: Block`.
    pub block: bool,
    /// Bytes; `None`: it does not say.
    pub request: Option<i64>,
    /// Labels that a volume must have.
    pub selector: Option<Selector>,
    pub attributes_class: Option<Arc<str>>,
    /// Where its volume is to be made (`volume.kubernetes.io/selected-node`).
    pub selected_node: Option<Arc<str>>,
    /// Its volume is gone.
    pub lost: bool,
    pub deleting: bool,
    /// The uid of the pod that it was made for, or of another controller.
    pub owner: Option<Arc<str>>,
}

impl Claim {
    /// Bound on both sides: nothing about it is left to decide.
    pub fn is_bound(&self) -> bool {
        self.volume.is_some() && self.bind_completed
    }

    /// One pod at a time may use it.
    pub fn is_exclusive(&self) -> bool {
        self.access_modes.iter().any(|mode| **mode == *"ReadWriteOncePod")
    }
}

/// The claim that a volume is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRef {
    pub name: Name,
    /// `None`: the volume was set aside for whatever claim has the name.
    pub uid: Option<Arc<str>>,
}

impl ClaimRef {
    pub fn is(&self, claim: &Claim) -> bool {
        self.name == claim.name && self.uid.as_ref().is_none_or(|uid| *uid == claim.uid)
    }
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersistentVolume {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub version: Version,
    pub labels: Labels,
    pub class: Arc<str>,
    /// Bytes.
    pub capacity: i64,
    pub access_modes: Vec<Arc<str>>,
    pub block: bool,
    pub attributes_class: Option<Arc<str>>,
    pub claim: Option<ClaimRef>,
    /// Terms of which a node must match one; `None`: it is reachable from everywhere.
    pub affinity: Option<Vec<Term>>,
    /// The same in the words of the CSI driver that has taken over from the in-tree plugin; asked of nodes where it has.
    pub migrated_affinity: Option<Vec<Term>>,
    /// In phase Available.
    pub available: bool,
    pub deleting: bool,
    pub source: Option<Source>,
}

/// Where a volume comes from, as far as nodes can run out of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Csi {
        driver: Arc<str>,
        handle: Arc<str>,
    },
    /// The handle is the one that the CSI driver has for it.
    InTree {
        plugin: InTree,
        handle: Arc<str>,
    },
}

/// Plugins that were once part of Kubernetes, for which CSI drivers stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InTree {
    AwsEbs,
    GcePd,
    AzureDisk,
    Cinder,
    Portworx,
}

impl InTree {
    pub const ALL: [InTree; 5] = [InTree::AwsEbs, InTree::GcePd, InTree::AzureDisk, InTree::Cinder, InTree::Portworx];

    pub fn plugin(self) -> &'static str {
        match self {
            InTree::AwsEbs => "kubernetes.io/aws-ebs",
            InTree::GcePd => "kubernetes.io/gce-pd",
            InTree::AzureDisk => "kubernetes.io/azure-disk",
            InTree::Cinder => "kubernetes.io/cinder",
            InTree::Portworx => "kubernetes.io/portworx-volume",
        }
    }

    pub fn driver(self) -> &'static str {
        match self {
            InTree::AwsEbs => "ebs.csi.aws.com",
            InTree::GcePd => "pd.csi.storage.gke.io",
            InTree::AzureDisk => "disk.csi.azure.com",
            InTree::Cinder => "cinder.csi.openstack.org",
            InTree::Portworx => "pxd.portworx.com",
        }
    }

    /// The label by which the driver knows a node's zone, where zones are translated for it.
    pub fn zone_label(self) -> Option<&'static str> {
        match self {
            InTree::AwsEbs => Some("topology.ebs.csi.aws.com/zone"),
            InTree::GcePd => Some("topology.gke.io/zone"),
            InTree::Cinder => Some("topology.cinder.csi.openstack.org/zone"),
            InTree::AzureDisk | InTree::Portworx => None,
        }
    }

    pub fn of_provisioner(name: &str) -> Option<Self> {
        InTree::ALL.into_iter().find(|plugin| plugin.plugin() == name)
    }
}

/// A StorageClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageClass {
    pub name: Arc<str>,
    pub provisioner: Arc<str>,
    /// `None`: it does not say, which no API server lets through.
    pub binding: Option<BindingMode>,
    /// Sets of requirements (a label and its values) of which a node must meet one; without any, every node will do.
    pub topologies: Vec<Vec<LabelValues>>,
}

/// A label, and the values that it may have.
pub type LabelValues = (Arc<str>, Vec<Arc<str>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingMode {
    Immediate,
    WaitForFirstConsumer,
}

/// What the CSI drivers of a node can take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiNode {
    /// Each with how many of its volumes may be attached; `None`: any number.
    pub drivers: Vec<(Arc<str>, Option<i64>)>,
    /// Names of in-tree plugins for which CSI drivers stand in there.
    pub migrated: Vec<Arc<str>>,
}

impl CsiNode {
    pub fn limit(&self, driver: &str) -> Option<i64> {
        self.drivers.iter().find(|(name, _)| **name == *driver).and_then(|(_, limit)| *limit)
    }
}

/// A CSIDriver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiDriver {
    /// It says how much room it has (CSIStorageCapacity), and wants to be believed.
    pub tells_capacity: bool,
}

/// A CSIStorageCapacity: how large a volume of a class can be made for some nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub class: Arc<str>,
    /// Bytes of the largest volume; `None`: none can be made.
    pub limit: Option<i64>,
    /// `None`: no node.
    pub nodes: Option<Selector>,
}

/// A VolumeAttachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    pub node: Arc<str>,
    /// The name of the CSI driver.
    pub attacher: Arc<str>,
    pub volume: Option<Arc<str>>,
}

/// What an object was, and what it is now; never neither.
#[derive(Clone, Debug)]
pub struct Change<T> {
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T> Change<T> {
    pub(crate) fn label(&self, [added, updated, removed]: [&'static str; 3]) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => added,
            (Some(_), Some(_)) => updated,
            (Some(_), None) => removed,
        }
    }
}

impl StorageEvent {
    /// kube-scheduler's name of it.
    pub fn label(&self) -> &'static str {
        macro_rules! labels {
            ($change:expr, $kind:literal) => {
                $change.label([concat!($kind, "Add"), concat!($kind, "Update"), concat!($kind, "Delete")])
            };
        }
        match self {
            StorageEvent::Claim(change) => labels!(change, "PersistentVolumeClaim"),
            StorageEvent::Volume(change) => labels!(change, "PersistentVolume"),
            StorageEvent::Class(change) => labels!(change, "StorageClass"),
            StorageEvent::CsiNode(change) => labels!(change, "CSINode"),
            StorageEvent::CsiDriver(change) => labels!(change, "CSIDriver"),
            StorageEvent::Capacity(change) => labels!(change, "CSIStorageCapacity"),
            StorageEvent::Attachment(change) => labels!(change, "VolumeAttachment"),
        }
    }
}

/// An object of storage has changed.
#[derive(Clone, Debug)]
pub enum StorageEvent {
    Claim(Change<Claim>),
    Volume(Change<PersistentVolume>),
    Class(Change<StorageClass>),
    CsiNode(Change<CsiNode>),
    CsiDriver(Change<CsiDriver>),
    Capacity(Change<Capacity>),
    Attachment(Change<Attachment>),
}
