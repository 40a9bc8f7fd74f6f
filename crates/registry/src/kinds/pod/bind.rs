//! The `/binding` subresource: how the scheduler gives a pod its node.

use kube_schema::kinds::Kind;
use serde_json::{Value, json};

use crate::{
    Context, Existing, Status,
    field::Errors,
    value::{entries, items, list_mut, object_mut, set, text},
};

/// Sets a pod's node and its condition PodScheduled.
pub(crate) fn bind(kind: &Kind, context: &Context, existing: Existing<'_>, binding: &Value) -> Result<Value, Status> {
    let old = existing.object;
    let name = text(&old["metadata"], "name");
    let node = text(&binding["target"], "name");
    validate(binding, name)?;
    let conflict = |why: &str| Err(Status::conflict(kind, name, why));
    let (uid, wanted) = (text(&old["metadata"], "uid"), text(&binding["metadata"], "uid"));
    if !wanted.is_empty() && wanted != uid {
        return conflict(&format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"));
    }
    if !text(&old["metadata"], "deletionTimestamp").is_empty() {
        return conflict(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let bound = text(&old["spec"], "nodeName");
    if !bound.is_empty() {
        return conflict(&format!("pod {name} is already assigned to node {bound:?}"));
    }
    if !items(&old["spec"]["schedulingGates"]).is_empty() {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut new = old.clone();
    set(object_mut(&mut new, "spec"), "nodeName", node);
    for (key, value) in entries(&binding["metadata"]["annotations"]) {
        set(object_mut(object_mut(&mut new, "metadata"), "annotations"), key, value.clone());
    }
    let mut scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastTransitionTime": context.timestamp(),
    });
    if let Some(generation) = old["metadata"]["generation"].as_i64() {
        set(&mut scheduled, "observedGeneration", generation);
    }
    let conditions = list_mut(object_mut(&mut new, "status"), "conditions");
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(scheduled);
    Ok(new)
}

fn validate(binding: &Value, name: &str) -> Result<(), Status> {
    let target = &binding["target"];
    let mut errors = Errors::default();
    if !matches!(text(target, "kind"), "" | "Node") {
        errors.not_supported(&"target.kind", &target["kind"], &["Node", "<empty>"]);
    }
    if text(target, "name").is_empty() {
        errors.required(&"target.name", "");
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Binding", name, errors.into_vec())) }
}
