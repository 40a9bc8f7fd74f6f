//! ReplicationController: what ReplicaSets were before they had names for what they select.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, pod_spec, pod_template};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{copy, default, entries, object_mut, set},
};

pub(crate) struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        let spec = object_mut(object, "spec");
        default(spec, "replicas", 1);
        if spec["template"].is_object() {
            pod_spec::default_template(object_mut(spec, "template"));
        }
        if labels.is_object() {
            default_map(spec, "selector", &labels);
            default_map(object_mut(object, "metadata"), "labels", &labels);
        }
        common::default_zeros(object_mut(object, "status"), &["replicas"]);
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
        common::validate_non_negative(&spec["minReadySeconds"], &path.field("minReadySeconds"), errors);
        let selects = entries(&spec["selector"]).next().is_some();
        if !selects {
            errors.required(&path.field("selector"), "");
        }
        common::validate_non_negative(&spec["replicas"], &path.field("replicas"), errors);
        let (template, place) = (&spec["template"], path.field("template"));
        if template.is_null() {
            errors.required(&place, "");
            return;
        }
        let labels = &template["metadata"]["labels"];
        if selects && !entries(&spec["selector"]).all(|(key, value)| labels[key] == *value) {
            let metadata = place.field("metadata");
            errors.null_or_invalid(&metadata.field("labels"), labels, "`selector` does not match template `labels`");
        }
        pod_spec::validate_template(template, &place, errors);
        pod_template::validate_always_restarts(object, "ReplicationController", errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        pod_template::validate_replica_counts(&new["status"], errors);
    }

    fn scale_selector(&self, object: &Value) -> String {
        match common::map_text(&object["spec"]["selector"]).as_str() {
            "<none>" => String::new(),
            text => text.to_owned(),
        }
    }

    fn orphans_by_default(&self) -> bool {
        true
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
                Column::integer("Desired", "The number of pods that are wanted."),
                Column::integer("Current", "The number of pods that were seen last."),
                Column::integer("Ready", "The number of these that are ready."),
                Column::AGE,
                pod_template::CONTAINERS,
                pod_template::IMAGES,
                pod_template::SELECTOR,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [containers, images, _] = pod_template::wide_cells(object);
        vec![
            common::name(object),
            common::number(&object["spec"]["replicas"]),
            common::number(&object["status"]["replicas"]),
            common::number(&object["status"]["readyReplicas"]),
            common::age(object, now),
            containers,
            images,
            common::map_text(&object["spec"]["selector"]).into(),
        ]
    }
}

/// Sets a map that has no entries.
fn default_map(object: &mut Value, field: &str, value: &Value) {
    if entries(&object[field]).next().is_none() {
        set(object, field, value.clone());
    }
}
