//! What each kind adds to the rules that hold for all: one file per kind, all of one shape.

use jiff::Timestamp;
use kube_schema::kinds::Kind;
use serde_json::Value;

use crate::{
    Context,
    field::Errors,
    names::{self, Rule},
    table::Column,
};

mod common;
mod configmap;
mod deployment;
mod endpoints;
mod endpointslice;
mod event;
mod job;
mod lease;
mod namespace;
mod node;
mod pod;
mod pod_spec;
mod priorityclass;
mod replicaset;
mod review;
mod secret;
mod service;
mod serviceaccount;
mod workload;

pub(crate) use common::selector_text;

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

    /// The rules for a change.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// The rules for a change of the status.
    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

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
        ("", "Namespace") => &namespace::Namespace,
        ("", "Node") => &node::Node,
        ("", "Pod") => &pod::Pod,
        ("", "Secret") => &secret::Secret,
        ("", "Service") => &service::Service,
        ("", "ServiceAccount") => &serviceaccount::ServiceAccount,
        ("apps", "Deployment") => &deployment::Deployment,
        ("apps", "ReplicaSet") => &replicaset::ReplicaSet,
        ("batch", "Job") => &job::Job,
        ("coordination.k8s.io", "Lease") => &lease::Lease,
        ("discovery.k8s.io", "EndpointSlice") => &endpointslice::EndpointSlice,
        ("scheduling.k8s.io", "PriorityClass") => &priorityclass::PriorityClass,
        _ => &review::Review,
    }
}

pub(crate) use pod::bind as bind_pod;
