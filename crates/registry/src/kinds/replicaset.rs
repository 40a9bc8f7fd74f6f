//! ReplicaSet.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, pod_spec, pod_template};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{copy, default, object_mut, set},
};

pub(crate) struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "replicas", 1);
        pod_spec::default_template(object_mut(spec, "template"));
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"replicas": 0}));
        set(object_mut(object, "metadata"), "generation", 1);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        for field in ["replicas", "minReadySeconds"] {
            common::validate_non_negative(&spec[field], &path.field(field), errors);
        }
        pod_template::validate_selector(object, "replicaset", errors);
        pod_spec::validate_template(&spec["template"], &path.field("template"), errors);
        pod_template::validate_always_restarts(object, "ReplicaSet", errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        common::validate_immutable(&new["spec"]["selector"], &old["spec"]["selector"], &path.field("selector"), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        pod_template::validate_replica_counts(&new["status"], errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn field(&self, object: &Value, _field: &str) -> String {
        object["status"]["replicas"].as_i64().unwrap_or(0).to_string()
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Desired", "Replicas is the number of desired pods."),
                Column::integer("Current", "Replicas is the most recently observed number of non-terminating pods."),
                Column::integer(
                    "Ready",
                    "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
                ),
                Column::AGE,
                pod_template::CONTAINERS,
                pod_template::IMAGES,
                pod_template::SELECTOR,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [containers, images, selector] = pod_template::wide_cells(object);
        vec![
            common::name(object),
            common::number(&object["spec"]["replicas"]),
            common::number(&object["status"]["replicas"]),
            common::number(&object["status"]["readyReplicas"]),
            common::age(object, now),
            containers,
            images,
            selector,
        ]
    }
}
