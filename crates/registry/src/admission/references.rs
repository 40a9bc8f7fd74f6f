//! Objects that mean something only together with others: claims and their class, groups of pods and their workload,
//! devices for administrators and their namespace.

use std::sync::Arc;

use serde_json::Value;

use super::Neighbours;
use crate::{
    Resource, Status,
    field::{Errors, Path},
    kinds::{CLASS_ANNOTATION, is_default_class},
    names,
    value::{items, object_mut, set, text},
};

/// Namespaces with this label may ask for devices that are in use.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";

fn is(resource: &Resource, group: &str, kind: &str) -> bool {
    resource.kind().group == group && resource.kind().kind == kind
}

/// Whether a claim says nothing of its class. The empty name is an answer, too: it wants a volume without one.
pub(super) fn wants_default_class(resource: &Resource, object: &Value) -> bool {
    is(resource, "", "PersistentVolumeClaim")
        && object["spec"]["storageClassName"].is_null()
        && object["metadata"]["annotations"][CLASS_ANNOTATION].is_null()
}

/// The workload that a group of pods refers to.
pub(super) fn workload<'o>(resource: &Resource, object: &'o Value) -> Option<&'o str> {
    let reference = &object["spec"]["podGroupTemplateRef"]["workload"];
    let named = is(resource, "scheduling.k8s.io", "PodGroup") && reference.is_object();
    // What is no name is refused as such later.
    let name = named.then(|| text(reference, "workloadName"));
    name.filter(|name| names::dns_subdomain(name).is_empty())
}

pub(super) fn admit(resource: &Resource, object: &mut Value, neighbours: Neighbours<'_>) -> Result<(), Status> {
    if wants_default_class(resource, object) {
        default_storage_class(object, neighbours.storage_classes);
    }
    if let Some(name) = workload(resource, object) {
        find_template(resource, object, name, neighbours.workload)?;
    }
    let devices = match () {
        () if is(resource, "resource.k8s.io", "ResourceClaim") => &object["spec"]["devices"],
        () if is(resource, "resource.k8s.io", "ResourceClaimTemplate") => &object["spec"]["spec"]["devices"],
        () => return Ok(()),
    };
    let labels = neighbours.namespace.map_or(&Value::Null, |namespace| &namespace["metadata"]["labels"]);
    allow_admin_access(resource, object, devices, labels[ADMIN_LABEL] == "true")
}

/// Of several default classes the newest counts, and of these the first by name.
fn default_storage_class(claim: &mut Value, classes: &[Arc<Value>]) {
    let of = |class: &Value, field: &str| text(&class["metadata"], field).to_owned();
    let newest = classes.iter().filter(|class| is_default_class(class)).max_by(|one, other| {
        let age = of(one, "creationTimestamp").cmp(&of(other, "creationTimestamp"));
        age.then_with(|| of(other, "name").cmp(&of(one, "name")))
    });
    if let Some(class) = newest {
        let name = of(class, "name");
        set(object_mut(claim, "spec"), "storageClassName", name);
    }
}

fn find_template(resource: &Resource, group: &Value, name: &str, workload: Option<&Value>) -> Result<(), Status> {
    let template = text(&group["spec"]["podGroupTemplateRef"]["workload"], "podGroupTemplateName");
    let why = match workload {
        None => format!("PodGroup rejected: Workload {name:?} not found"),
        Some(workload) if !text(&workload["metadata"], "deletionTimestamp").is_empty() => {
            format!("PodGroup rejected: Workload {name:?} is being deleted")
        }
        Some(workload) if items(&workload["spec"]["podGroupTemplates"]).iter().any(|t| t["name"] == template) => {
            return Ok(());
        }
        Some(_) => format!("PodGroup rejected: PodGroupTemplate {template:?} not found in Workload {name:?}"),
    };
    Err(Status::forbidden(resource.kind(), text(&group["metadata"], "name"), &why))
}

fn allow_admin_access(resource: &Resource, object: &Value, devices: &Value, allowed: bool) -> Result<(), Status> {
    let asks = |request: &Value| request["exactly"]["adminAccess"] == true;
    let Some(at) = items(&devices["requests"]).iter().position(asks).filter(|_| !allowed) else { return Ok(()) };
    let (spec, mut errors) = (Path::root("spec"), Errors::default());
    let devices = spec.field("devices");
    let requests = devices.field("requests");
    let why = format!("admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace");
    errors.forbidden(&requests.index(at).field("adminAccess"), &why);
    let (kind, name) = (resource.kind(), text(&object["metadata"], "name"));
    Err(Status::invalid(&kind.group, &kind.kind, name, errors.into_vec()))
}
