//! What the kinds with a pod template share: template rules and the wide cells.

use serde_json::Value;

use super::common;
use crate::{
    field::{Errors, Path},
    selector::LabelSelector,
    table::Column,
    value::{entries, items, text},
};

pub(super) const CONTAINERS: Column = Column::text("Containers", "Names of each container in the template.").wide();
pub(super) const IMAGES: Column = Column::text("Images", "Images referenced by each container in the template.").wide();
pub(super) const SELECTOR: Column = Column::text("Selector", "A label query over the pods that it governs.").wide();

/// The cells under [`CONTAINERS`], [`IMAGES`] and [`SELECTOR`].
pub(super) fn wide_cells(object: &Value) -> [Value; 3] {
    let containers = items(&object["spec"]["template"]["spec"]["containers"]);
    let join = |field: &str| containers.iter().map(|c| text(c, field)).collect::<Vec<_>>().join(",");
    let selector = common::selector_text(&object["spec"]["selector"]);
    [join("name").into(), join("image").into(), common::or_none(&selector)]
}

/// The selector must be there, be well-formed and select the template's pods.
pub(super) fn validate_selector(object: &Value, what: &str, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::root("spec"));
    let (selector, place) = (&spec["selector"], path.field("selector"));
    if selector.is_null() {
        errors.required(&place, "");
    } else if !common::is_selector(selector) {
        common::validate_selector(selector, &place, errors);
        errors.invalid(&place, selector, "invalid label selector");
        return;
    } else {
        common::validate_selector(selector, &place, errors);
        if entries(&selector["matchLabels"]).next().is_none() && items(&selector["matchExpressions"]).is_empty() {
            let why = format!("empty selector is invalid for {what}");
            errors.invalid(&place, selector, &why);
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.is_null() || !LabelSelector::from_object(selector).matches_map(labels) {
        let template = path.field("template");
        let metadata = template.field("metadata");
        errors.null_or_invalid(&metadata.field("labels"), labels, "`selector` does not match template `labels`");
    }
}

/// Pods of a controller that keeps them running must always restart.
pub(super) fn validate_always_restarts(object: &Value, kind: &str, errors: &mut Errors) {
    let spec = &object["spec"]["template"]["spec"];
    let place = "spec.template.spec";
    if text(spec, "restartPolicy") != "Always" {
        errors.not_supported(&format_args!("{place}.restartPolicy"), &spec["restartPolicy"], &["Always"]);
    }
    if spec["activeDeadlineSeconds"].is_i64() {
        errors.forbidden(
            &format_args!("{place}.activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// What ReplicaSets and ReplicationControllers say of their replicas.
pub(super) fn validate_replica_counts(status: &Value, errors: &mut Errors) {
    let path = Path::root("status");
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    for field in ["replicas"].into_iter().chain(parts).chain(["observedGeneration"]) {
        common::validate_non_negative(&status[field], &path.field(field), errors);
    }
    for field in parts.into_iter().filter(|field| count(field) > count("replicas")) {
        errors.invalid(&path.field(field), &status[field], "cannot be greater than status.replicas");
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than readyReplicas";
        errors.invalid(&path.field("availableReplicas"), &status["availableReplicas"], why);
    }
}
