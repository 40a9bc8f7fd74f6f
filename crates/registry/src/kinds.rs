//! What each kind adds to the rules that hold for all: one file per kind, all of one shape.

use jiff::Timestamp;
use kube_schema::kinds::Kind;
use serde_json::Value;

use crate::{
    Context, Reading,
    field::Errors,
    names::{self, Rule},
    table::Column,
};

mod common;
mod configmap;
mod csidriver;
mod csinode;
mod csistoragecapacity;
mod deployment;
mod deviceclass;
mod devices;
mod endpoints;
mod endpointslice;
mod event;
mod eventv1;
mod job;
mod lease;
mod limitrange;
mod namespace;
mod node;
mod persistentvolume;
mod persistentvolumeclaim;
mod pod;
mod pod_spec;
mod pod_template;
mod poddisruptionbudget;
mod podgroup;
mod priorityclass;
mod quantities;
mod replicaset;
mod replicationcontroller;
mod resource_names;
mod resourceclaim;
mod resourceclaimtemplate;
mod resourceslice;
mod review;
mod secret;
mod service;
mod serviceaccount;
mod statefulset;
mod storageclass;
mod volumeattachment;
mod workload;

pub(crate) use persistentvolumeclaim::CLASS_ANNOTATION;
pub(crate) use pod::totals as pod_totals;
pub(crate) use poddisruptionbudget::{covers, lets_unhealthy_go, still_processed, take_one};
pub(crate) use storageclass::is_default as is_default_class;

/// A kind's own rules. Every method has the answer that fits a plain kind.
pub(crate) trait Strategy: Send + Sync {
    /// Fills in what the client left out. Runs on every write; must change nothing the second time.
    fn default(&self, _object: &mut Value) {}

    /// Takes out what a client may not set on creation, such as the status.
    fn prepare_create(&self, _context: &Context, _object: &mut Value) {}

    /// Carries over what a client may not change by a PUT, and counts the generation.
    fn prepare_update(&self, _context: &Context, _new: &mut Value, _old: &Value) {}

    /// Completes a new status; all but the status is the old object's already.
    fn prepare_status(&self, _context: &Context, _new: &mut Value, _old: &Value) {}

    /// Marks an object whose deletion begins.
    fn prepare_delete(&self, _object: &mut Value) {}

    /// The rules for an object by itself; metadata is checked for all kinds elsewhere.
    fn validate(&self, _object: &Value, _errors: &mut Errors) {}

    /// The rules for a new object alone: about what may not change, and need not be looked at again.
    fn validate_create(&self, _object: &Value, _errors: &mut Errors) {}

    /// The rules for a change.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// The rules for a change of the status.
    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// Which members of the spec the rules for a write look at, of an object with this status: then the rest need not be
    /// parsed for it. None: all. Objects of a kind that says so always have a spec and a status.
    fn reads(&self, _reading: Reading, _status: &Value) -> Option<&'static [&'static str]> {
        None
    }

    /// Metadata that a write of the status leaves as it is.
    fn status_keeps(&self) -> &'static [&'static str] {
        &[]
    }

    /// What `/scale` tells of the pods that are counted.
    fn scale_selector(&self, object: &Value) -> String {
        common::selector_text(&object["spec"]["selector"])
    }

    /// Which names it may have.
    fn name_rule(&self) -> Rule {
        names::dns_subdomain
    }

    /// PUT of an object that is not there creates it.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// A PUT must carry the resource version it is based on.
    fn requires_resource_version(&self) -> bool {
        false
    }

    /// DELETE answers with the object.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// DELETE gives it time.
    fn deletes_gracefully(&self) -> bool {
        false
    }

    /// How much time, in seconds, if the client asks for `_asked`.
    fn grace_period(&self, _object: &Value, _asked: Option<i64>) -> i64 {
        0
    }

    /// Whether nothing of its own, beside finalizers in metadata, holds it.
    fn may_be_removed(&self, _object: &Value) -> bool {
        true
    }

    /// Dependents stay when the client does not say.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// The fields it can be selected by, beside name and namespace.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// How one of these reads that is not set, where it is the value at the place of its name, of one or two steps: then
    /// the rest of the object need not be read for it. None: it is made of more.
    fn unset_field(&self, _field: &str) -> Option<&'static str> {
        None
    }

    /// The value of one of these.
    fn field(&self, object: &Value, field: &str) -> String {
        common::field_by_path(object, field)
    }

    /// The columns of its table.
    fn columns(&self) -> &'static [Column] {
        &[Column::NAME, Column::AGE]
    }

    /// One cell per column.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![common::name(object), common::age(object, now)]
    }
}

/// The rules of a kind.
pub(crate) fn strategy_of(kind: &Kind) -> &'static dyn Strategy {
    match (kind.group.as_ref(), kind.kind.as_ref()) {
        ("", "ConfigMap") => &configmap::ConfigMap,
        ("", "Endpoints") => &endpoints::Endpoints,
        ("", "Event") => &event::Event,
        ("", "LimitRange") => &limitrange::LimitRange,
        ("", "Namespace") => &namespace::Namespace,
        ("", "Node") => &node::Node,
        ("", "PersistentVolume") => &persistentvolume::PersistentVolume,
        ("", "PersistentVolumeClaim") => &persistentvolumeclaim::PersistentVolumeClaim,
        ("", "Pod") => &pod::Pod,
        ("", "ReplicationController") => &replicationcontroller::ReplicationController,
        ("", "Secret") => &secret::Secret,
        ("", "Service") => &service::Service,
        ("", "ServiceAccount") => &serviceaccount::ServiceAccount,
        ("apps", "Deployment") => &deployment::Deployment,
        ("apps", "ReplicaSet") => &replicaset::ReplicaSet,
        ("apps", "StatefulSet") => &statefulset::StatefulSet,
        ("batch", "Job") => &job::Job,
        ("coordination.k8s.io", "Lease") => &lease::Lease,
        ("discovery.k8s.io", "EndpointSlice") => &endpointslice::EndpointSlice,
        ("events.k8s.io", "Event") => &eventv1::Event,
        ("policy", "PodDisruptionBudget") => &poddisruptionbudget::PodDisruptionBudget,
        ("resource.k8s.io", "DeviceClass") => &deviceclass::DeviceClass,
        ("resource.k8s.io", "ResourceClaim") => &resourceclaim::ResourceClaim,
        ("resource.k8s.io", "ResourceClaimTemplate") => &resourceclaimtemplate::ResourceClaimTemplate,
        ("resource.k8s.io", "ResourceSlice") => &resourceslice::ResourceSlice,
        ("scheduling.k8s.io", "PodGroup") => &podgroup::PodGroup,
        ("scheduling.k8s.io", "PriorityClass") => &priorityclass::PriorityClass,
        ("scheduling.k8s.io", "Workload") => &workload::Workload,
        ("storage.k8s.io", "CSIDriver") => &csidriver::CsiDriver,
        ("storage.k8s.io", "CSINode") => &csinode::CsiNode,
        ("storage.k8s.io", "CSIStorageCapacity") => &csistoragecapacity::CsiStorageCapacity,
        ("storage.k8s.io", "StorageClass") => &storageclass::StorageClass,
        ("storage.k8s.io", "VolumeAttachment") => &volumeattachment::VolumeAttachment,
        _ => &review::Review,
    }
}

pub(crate) use pod::bind as bind_pod;
pub use pod::{PlainBinding, PodBody, RememberedSpec};
