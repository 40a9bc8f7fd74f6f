//! The `/binding` subresource: how the scheduler gives a pod its node.

mod stored;

pub use stored::PlainBinding;

use kube_schema::kinds::Kind;
use serde_json::{Value, json};

use crate::{
    Context, Existing, Preconditions, Status,
    field::Errors,
    value::{entries, items, list_mut, object_mut, remove, set, text},
};

/// Sets a pod's node and its condition PodScheduled.
pub(crate) fn bind(kind: &Kind, context: &Context, existing: Existing<'_>, binding: &Value) -> Result<Value, Status> {
    let old = existing.object;
    let name = text(&old["metadata"], "name");
    let node = text(&binding["target"], "name");
    validate(binding)?;
    // Kubernetes names the subresource where the pod is not as it must be, and the pod where a precondition fails.
    let subresource = Kind { plural: "pods/binding".into(), ..kind.clone() };
    let conflict = |why: &str| Err(Status::conflict(&subresource, name, why));
    let preconditions =
        Preconditions { uid: given(binding, "uid"), resource_version: given(binding, "resourceVersion") };
    preconditions.check(kind, existing)?;
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
    for field in ["annotations", "labels"] {
        for (key, value) in entries(&binding["metadata"][field]) {
            set(object_mut(object_mut(&mut new, "metadata"), field), key, value.clone());
        }
    }
    let status = object_mut(&mut new, "status");
    // What the pod was nominated for is past.
    remove(status, "nominatedNodeName");
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastTransitionTime": context.timestamp(),
    });
    let conditions = list_mut(status, "conditions");
    match conditions.iter_mut().find(|condition| condition["type"] == "PodScheduled") {
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
    Ok(new)
}

fn given(binding: &Value, field: &str) -> Option<String> {
    Some(text(&binding["metadata"], field)).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn validate(binding: &Value) -> Result<(), Status> {
    let target = &binding["target"];
    let mut errors = Errors::default();
    if !matches!(text(target, "kind"), "" | "Node") {
        errors.not_supported(&"target.kind", &target["kind"], &["Node", "<empty>"]);
    }
    if text(target, "name").is_empty() {
        errors.required(&"target.name", "");
    }
    let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
    // Kubernetes refuses such a binding with a plain error, which no reason goes with.
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(Status::new(500, "", one)),
        many => Err(Status::new(500, "", format!("[{}]", many.join(", ")))),
    }
}
