//! Namespace: it goes when everything in it is gone, which its own finalizer waits for.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common;
use crate::{
    Context,
    field::Errors,
    kinds::Strategy,
    meta,
    names::{self, Rule},
    table::Column,
    value::{copy, default, items, list_mut, object_mut, set, text},
};

pub(crate) struct Namespace;

const FINALIZER: &str = "kubernetes";
/// By this label selectors find a namespace by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        default(object_mut(object, "status"), "phase", "Active");
        let metadata = object_mut(object, "metadata");
        let name = text(metadata, "name").to_owned();
        if !name.is_empty() {
            set(object_mut(metadata, "labels"), NAME_LABEL, name);
        }
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"phase": "Active"}));
        let finalizers = list_mut(object_mut(object, "spec"), "finalizers");
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        // Finalizers change by way of /finalize only.
        copy(object_mut(new, "spec"), &old["spec"], "finalizers");
    }

    fn prepare_delete(&self, object: &mut Value) {
        set(object_mut(object, "status"), "phase", "Terminating");
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let finalizers = &object["spec"]["finalizers"];
        meta::validate_finalizers(meta::Finalizers::OfNamespace, finalizers, &"spec.finalizers", errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let deleting = !text(&new["metadata"], "deletionTimestamp").is_empty();
        let phase = text(&new["status"], "phase");
        if deleting && phase != "Terminating" {
            let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            errors.invalid(&"status.Phase", &new["status"]["phase"], why);
        } else if !deleting && phase != "Active" {
            let why = "may only be 'Active' if `deletionTimestamp` is empty";
            errors.invalid(&"status.Phase", &new["status"]["phase"], why);
        }
    }

    fn name_rule(&self) -> Rule {
        names::dns_label
    }

    fn may_be_removed(&self, object: &Value) -> bool {
        items(&object["spec"]["finalizers"]).is_empty()
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase", "name"]
    }

    fn field(&self, object: &Value, field: &str) -> String {
        match field {
            "name" => text(&object["metadata"], "name").to_owned(),
            field => common::field_by_path(object, field),
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::text("Status", "The status of the namespace"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![common::name(object), text(&object["status"], "phase").into(), common::age(object, now)]
    }
}
