//! `matchLabelKeys` and `mismatchLabelKeys`: the pod's own labels, written into the selectors that ask for them when the pod
//! is created, so that whoever reads these selectors later needs not know of the keys.

use serde_json::{Value, json};

use crate::value::{items_mut, list_mut, text};

/// Completes the selectors of a pod's affinity and spread.
pub(super) fn apply(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = pod.get_mut("spec") else { return };
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = spec.get_mut("affinity").and_then(|affinity| affinity.get_mut(field)) else { continue };
        for weighted in items_mut(pods, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                complete(term, &labels);
            }
        }
        for term in items_mut(pods, "requiredDuringSchedulingIgnoredDuringExecution") {
            complete(term, &labels);
        }
    }
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        complete(constraint, &labels);
    }
}

/// A selector that is not there selects nothing, and stays so.
fn complete(term: &mut Value, labels: &Value) {
    if !term["labelSelector"].is_object() {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> = items_mut(term, field).filter_map(|key| key.as_str()).map(str::to_owned).collect();
        for key in keys.into_iter().filter(|key| labels[key.as_str()].is_string()) {
            let requirement = json!({"key": key, "operator": operator, "values": [text(labels, &key)]});
            list_mut(&mut term["labelSelector"], "matchExpressions").push(requirement);
        }
    }
}
