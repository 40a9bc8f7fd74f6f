//! What of a pod may change while it lives.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    value::{copy, entries, items, items_mut, object_mut, remove, set, text},
};

const IMMUTABLE_SPEC: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// Compares the specs with everything that may change taken over from the new one.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (to, from) = (&new["spec"], &old["spec"]);
    if to == from {
        return;
    }
    let path = Path::root("spec");
    for list in ["containers", "initContainers"] {
        if items(&to[list]).len() != items(&from[list]).len() {
            let place = path.field(list);
            errors.forbidden(&place, "pod updates may not add or remove containers");
            return;
        }
    }
    if !validate_deadline(to, from, &path, errors) {
        return;
    }
    validate_tolerations(to, from, &path.field("tolerations"), errors);
    validate_gates(to, from, &path.field("schedulingGates"), errors);
    let mut expected = from.clone();
    for list in ["containers", "initContainers"] {
        for (expected, new) in items_mut(&mut expected, list).zip(items(&to[list])) {
            copy(expected, new, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut expected, to, field);
    }
    if from["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) && to["terminationGracePeriodSeconds"] == 1
    {
        set(&mut expected, "terminationGracePeriodSeconds", 1);
    }
    if !items(&from["schedulingGates"]).is_empty() {
        validate_gated(to, from, &path, errors);
        copy(&mut expected, to, "nodeSelector");
        take_node_affinity(&mut expected, to);
    }
    if expected != *to {
        errors.forbidden(&path, IMMUTABLE_SPEC);
    }
}

/// False: so wrong that nothing else is looked at.
fn validate_deadline(to: &Value, from: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let path = path.field("activeDeadlineSeconds");
    match (from["activeDeadlineSeconds"].as_i64(), to["activeDeadlineSeconds"].as_i64()) {
        (Some(before), Some(after)) if after > before => {
            errors.invalid(&path, &after.into(), "must be less than or equal to previous value");
            return false;
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            errors.null_or_invalid(&path, &Value::Null, why);
        }
        _ => {}
    }
    true
}

/// Tolerations stay, but for how long they last.
fn validate_tolerations(to: &Value, from: &Value, path: &Path<'_>, errors: &mut Errors) {
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let now: Vec<Value> = items(&to["tolerations"]).iter().map(timeless).collect();
    if !items(&from["tolerations"]).iter().all(|toleration| now.contains(&timeless(toleration))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

/// Gates are opened one by one and never closed again.
fn validate_gates(to: &Value, from: &Value, path: &Path<'_>, errors: &mut Errors) {
    let before: Vec<&str> = items(&from["schedulingGates"]).iter().map(|gate| text(gate, "name")).collect();
    for (at, gate) in items(&to["schedulingGates"]).iter().enumerate() {
        let name = text(gate, "name");
        if !before.contains(&name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(at).field("name"), &why);
        }
    }
}

/// Behind a gate the choice of nodes may become narrower, and not wider.
fn validate_gated(to: &Value, from: &Value, path: &Path<'_>, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let selector = &to["nodeSelector"];
    if entries(&from["nodeSelector"]).any(|(key, value)| selector[key] != *value) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.null_or_invalid(&path.field("nodeSelector"), selector, why);
    }
    let terms = |spec: &Value| spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].clone();
    let (before, after) = (terms(from), terms(to));
    let affinity = path.field("affinity");
    let node = affinity.field("nodeAffinity");
    let required = node.field(REQUIRED);
    let list = required.field("nodeSelectorTerms");
    if !items(&before).is_empty() && items(&before).len() != items(&after).len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.null_or_invalid(&list, &after, why);
        return;
    }
    for (at, (before, after)) in items(&before).iter().zip(items(&after)).enumerate() {
        if !only_grew(before, after) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&list.index(at), after, why);
        }
    }
}

/// Whether a term has what it had, and perhaps more behind it. A term without requirements selects nothing, so that one
/// more would select something.
fn only_grew(before: &Value, after: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let empty = |term: &Value| lists.iter().all(|field| items(&term[*field]).is_empty());
    if empty(before) {
        return empty(after);
    }
    lists.iter().all(|field| items(&after[*field]).starts_with(items(&before[*field])))
}

fn take_node_affinity(expected: &mut Value, to: &Value) {
    let wanted = &to["affinity"]["nodeAffinity"];
    if expected["affinity"]["nodeAffinity"] == *wanted {
        return;
    }
    if wanted.is_object() {
        set(object_mut(expected, "affinity"), "nodeAffinity", wanted.clone());
        return;
    }
    if let Some(affinity) = expected.get_mut("affinity") {
        remove(affinity, "nodeAffinity");
    }
    // An affinity with nothing in it may go altogether.
    if to["affinity"].is_null() && expected["affinity"].as_object().is_some_and(|fields| fields.is_empty()) {
        remove(expected, "affinity");
    }
}
