//! Pod.

use crate::kinds::Strategy;

pub(crate) struct Pod;

impl Strategy for Pod {}

/// Sets a pod's node, as the scheduler asks for by a `Binding`.
pub(crate) fn bind(
    kind: &kube_schema::kinds::Kind,
    context: &crate::Context,
    existing: crate::Existing<'_>,
    binding: &serde_json::Value,
) -> Result<serde_json::Value, crate::Status> {
    use crate::{
        Status,
        field::Errors,
        value::{list_mut, object_mut, set, text},
    };
    let old = existing.object;
    let name = text(&old["metadata"], "name");
    let node = text(&binding["target"], "name");
    let mut errors = Errors::default();
    if !matches!(text(&binding["target"], "kind"), "" | "Node") {
        errors.not_supported(&"target.kind", &binding["target"]["kind"], &["Node", "<empty>"]);
    }
    if node.is_empty() {
        errors.required(&"target.name", "");
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "Binding", name, errors.into_vec()));
    }
    let (uid, wanted) = (text(&old["metadata"], "uid"), text(&binding["metadata"], "uid"));
    if !wanted.is_empty() && wanted != uid {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
        return Err(Status::conflict(kind, name, &why));
    }
    if !text(&old["metadata"], "deletionTimestamp").is_empty() {
        return Err(Status::conflict(
            kind,
            name,
            &format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    let bound = text(&old["spec"], "nodeName");
    if !bound.is_empty() {
        return Err(Status::conflict(kind, name, &format!("pod {name} is already assigned to node {bound:?}")));
    }
    if !crate::value::items(&old["spec"]["schedulingGates"]).is_empty() {
        let why = format!("pod {name} has non-empty .spec.schedulingGates");
        return Err(Status::conflict(kind, name, &why));
    }
    let mut new = old.clone();
    set(object_mut(&mut new, "spec"), "nodeName", node);
    for (key, value) in crate::value::entries(&binding["metadata"]["annotations"]) {
        set(object_mut(object_mut(&mut new, "metadata"), "annotations"), key, value.clone());
    }
    let conditions = list_mut(object_mut(&mut new, "status"), "conditions");
    let mut scheduled = serde_json::json!({
        "type": "PodScheduled", "status": "True", "lastTransitionTime": context.timestamp(),
    });
    let generation = &old["metadata"]["generation"];
    if generation.is_i64() {
        set(&mut scheduled, "observedGeneration", generation.clone());
    }
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(scheduled);
    Ok(new)
}
