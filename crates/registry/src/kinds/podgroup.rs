//! PodGroup: pods that are scheduled together, all or none.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common;
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{copy, default, items, object_mut, remove, set, text},
};

pub(crate) struct PodGroup;

/// Fields of features that are off in Kubernetes as it is delivered: what a group may say of topology, of devices, and of
/// its own preemption.
const UNSERVED: [&str; 5] =
    ["schedulingConstraints", "resourceClaims", "disruptionMode", "priorityClassName", "priority"];

impl Strategy for PodGroup {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        object_mut(spec, "schedulingPolicy");
        default(spec, "disruptionMode", "Pod");
        object_mut(object, "status");
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({}));
        drop_unserved(object_mut(object, "spec"));
        self.default(object);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        drop_unserved(object_mut(new, "spec"));
        self.default(new);
    }

    fn prepare_status(&self, _context: &Context, new: &mut Value, _old: &Value) {
        remove(object_mut(new, "status"), "resourceClaimStatuses");
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        let reference = &spec["podGroupTemplateRef"];
        if reference.is_object() {
            validate_reference(&reference["workload"], &path.field("podGroupTemplateRef"), errors);
        }
        validate_policy(&spec["schedulingPolicy"], &path.field("schedulingPolicy"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        for field in ["podGroupTemplateRef", "schedulingPolicy"] {
            if new["spec"][field] != old["spec"][field] {
                errors.null_or_invalid(&path.field(field), &Value::Null, "field is immutable");
            }
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let path = Path::root("status");
        common::validate_conditions(&new["status"]["conditions"], &path.field("conditions"), errors);
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        common::ALL_METADATA
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Policy", "How the pods of the group are scheduled."),
                Column::text("Workload", "Name of the referenced Workload object"),
                Column::text("Status", "Status of the PodGroup"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let policy = if spec["schedulingPolicy"]["gang"].is_object() { "Gang" } else { "Basic" };
        vec![
            common::name(object),
            policy.into(),
            spec["podGroupTemplateRef"]["workload"]["workloadName"].as_str().unwrap_or("<none>").into(),
            status(&object["status"]).into(),
            common::age(object, now),
        ]
    }
}

fn status(status: &Value) -> &str {
    let condition = |kind: &str| items(&status["conditions"]).iter().rev().find(|c| text(c, "type") == kind);
    match (condition("DisruptionTarget"), condition("PodGroupScheduled")) {
        (Some(target), _) => text(target, "reason"),
        (None, Some(scheduled)) if text(scheduled, "status") == "True" => "Scheduled",
        (None, Some(_)) => "Unschedulable",
        (None, None) => "Pending",
    }
}

/// Takes the fields that are not served out of a group's spec or out of a template of one.
pub(super) fn drop_unserved(spec: &mut Value) {
    for field in UNSERVED {
        remove(spec, field);
    }
}

fn validate_reference(workload: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !workload.is_object() {
        errors.invalid_text(path, "", "must specify one of: `workload`");
        return;
    }
    let path = path.field("workload");
    let rules: [(&str, names::Rule); 2] =
        [("workloadName", names::dns_subdomain), ("podGroupTemplateName", names::dns_label)];
    for (field, rule) in rules {
        validate_name(text(workload, field), rule, &path.field(field), errors);
    }
}

/// A name that must be given.
pub(super) fn validate_name(name: &str, rule: names::Rule, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    for why in rule(name) {
        errors.invalid_text(path, name, &why);
    }
}

/// A policy is one of two, and a gang must say how many it takes.
pub(super) fn validate_policy(policy: &Value, path: &Path<'_>, errors: &mut Errors) {
    match (policy["basic"].is_object(), policy["gang"].is_object()) {
        (false, false) => errors.invalid_text(path, "", "must specify one of: `basic`, `gang`"),
        (true, true) => {
            errors.invalid_text(path, "{basic, gang}", "must specify exactly one of: `basic`, `gang`");
        }
        _ => {}
    }
    if policy["gang"].is_object() {
        let (count, gang) = (policy["gang"]["minCount"].as_i64().unwrap_or(0), path.field("gang"));
        match count {
            0 => errors.required(&gang.field("minCount"), ""),
            ..0 => errors.invalid(&gang.field("minCount"), &count.into(), "must be greater than or equal to 1"),
            _ => {}
        }
    }
}
