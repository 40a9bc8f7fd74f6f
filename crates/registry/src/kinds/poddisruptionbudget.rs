//! PodDisruptionBudget, and what it says to an eviction.

use jiff::Timestamp;
use kube_schema::kinds::Kind;
use serde_json::{Value, json};

use super::common;
use crate::{
    Context, Status,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    names::{self, Rule},
    selector::LabelSelector,
    status::Cause,
    table::Column,
    value::{copy, items, items_mut, list_mut, object_mut, set, text},
};

pub(crate) struct PodDisruptionBudget;

const COUNTS: [&str; 4] = ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"];
/// Evictions that were allowed and that the disruption controller has not seen yet.
const MAX_DISRUPTED_PODS: usize = 2000;
/// When an eviction may be tried again while the controller has yet to look at the budget.
const RETRY_SECONDS: u32 = 10;

impl Strategy for PodDisruptionBudget {
    fn default(&self, object: &mut Value) {
        common::default_zeros(object_mut(object, "status"), &COUNTS);
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({}));
        common::default_zeros(object_mut(object, "status"), &COUNTS);
        set(object_mut(object, "metadata"), "generation", 1);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
            errors.invalid_as(&path, &internal_form(spec), "minAvailable and maxUnavailable cannot be both set");
        }
        for field in ["minAvailable", "maxUnavailable"] {
            common::validate_int_or_percent(&spec[field], &path.field(field), errors);
        }
        common::validate_selector(&spec["selector"], &path.field("selector"), errors);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        let place = path.field("unhealthyPodEvictionPolicy");
        common::validate_choice(&spec["unhealthyPodEvictionPolicy"], &policies, &place, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (status, path) = (&new["status"], Path::root("status"));
        common::validate_conditions(&status["conditions"], &path.field("conditions"), errors);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            common::validate_non_negative(&status[field], &path.field(field), errors);
        }
    }

    // Kubernetes looks at the spec only, and leaves the name to the URL.
    fn name_rule(&self) -> Rule {
        names::path_segment
    }

    fn requires_resource_version(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Min Available", "The minimum number of pods that must be available."),
                Column::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
                Column::integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let shown = |value: &Value| match value {
            Value::Null => "N/A".to_owned(),
            Value::String(text) => text.clone(),
            number => number.to_string(),
        };
        vec![
            common::name(object),
            shown(&object["spec"]["minAvailable"]).into(),
            shown(&object["spec"]["maxUnavailable"]).into(),
            common::number(&object["status"]["disruptionsAllowed"]),
            common::age(object, now),
        ]
    }
}

/// Kubernetes shows the spec as its own code names the fields.
fn internal_form(spec: &Value) -> String {
    format!(
        r#"{{"MinAvailable":{},"Selector":{},"MaxUnavailable":{},"UnhealthyPodEvictionPolicy":{}}}"#,
        spec["minAvailable"], spec["selector"], spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"],
    )
}

/// Whether a budget speaks about a pod. A budget without a selector speaks about none, one with an empty selector about
/// all.
pub(crate) fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    selector.is_object()
        && common::is_selector(selector)
        && LabelSelector::from_object(selector).matches_map(&pod["metadata"]["labels"])
}

/// Whether an unhealthy pod may go without being counted.
pub(crate) fn lets_unhealthy_go(budget: &Value) -> bool {
    let status = &budget["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    text(&budget["spec"], "unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || (count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0)
}

/// Takes one disruption out of a budget, for the pod called `pod`, or says why that may not be.
pub(crate) fn take_one(kind: &Kind, context: &Context, budget: &Value, pod: &str) -> Result<Value, Status> {
    let (metadata, status) = (&budget["metadata"], &budget["status"]);
    let name = text(metadata, "name");
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    if count("observedGeneration") < metadata["generation"].as_i64().unwrap_or(0) {
        return Err(still_processed(name));
    }
    if count("disruptionsAllowed") < 0 {
        return Err(forbidden(kind, name, "pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED_PODS) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(forbidden(kind, name, why));
    }
    if count("disruptionsAllowed") == 0 {
        return Err(too_many(0, refusal(name, status)));
    }
    let left = count("disruptionsAllowed") - 1;
    let mut new = budget.clone();
    let status = object_mut(&mut new, "status");
    set(status, "disruptionsAllowed", left);
    if left == 0 {
        mark_exhausted(context, status);
    }
    set(object_mut(status, "disruptedPods"), pod, context.timestamp());
    Ok(new)
}

/// 429: the disruption controller has not seen the newest budget.
pub(crate) fn still_processed(name: &str) -> Status {
    too_many(RETRY_SECONDS, format!("The disruption budget {name} is still being processed by the server."))
}

fn too_many(retry_seconds: u32, why: String) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_seconds);
    let cause = Cause { reason: "DisruptionBudget", message: why, field: String::new() };
    status.details.get_or_insert_default().causes.push(cause);
    status
}

/// Kubernetes names the kind in the singular here.
fn forbidden(kind: &Kind, name: &str, why: &str) -> Status {
    let singular = Kind { plural: kind.singular.clone(), ..kind.clone() };
    Status::forbidden(&singular, name, why)
}

fn refusal(name: &str, status: &Value) -> String {
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let (healthy, wanted) = (count("currentHealthy"), count("desiredHealthy"));
    let condition = items(&status["conditions"]).iter().find(|c| text(c, "type") == "DisruptionAllowed");
    let told = condition.filter(|c| text(c, "status") == "False" && !text(c, "message").is_empty());
    let told = told.map(|c| (text(c, "reason"), text(c, "message")));
    match told {
        Some(("SyncFailed", message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        ),
        _ if healthy <= wanted => {
            format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// The condition follows the count at once, because the next eviction may come before the controller.
fn mark_exhausted(context: &Context, status: &mut Value) {
    let generation = status["observedGeneration"].as_i64().unwrap_or(0);
    let told = items(&status["conditions"]).iter().any(|c| text(c, "type") == "DisruptionAllowed");
    if !told {
        list_mut(status, "conditions").push(json!({"type": "DisruptionAllowed"}));
    }
    for condition in items_mut(status, "conditions").filter(|c| text(c, "type") == "DisruptionAllowed") {
        if text(condition, "status") != "False" {
            set(condition, "lastTransitionTime", context.timestamp());
        }
        for (field, value) in [("status", "False"), ("reason", "InsufficientPods"), ("message", "")] {
            set(condition, field, value);
        }
        set(condition, "observedGeneration", generation);
    }
}
