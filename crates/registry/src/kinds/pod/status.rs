//! A pod's status, as its node and the scheduler write it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    field::{Errors, Path},
    names,
    value::{copy, items, items_mut, object_mut, set, text},
};

/// Conditions that need no domain in front.
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// Completes a new status with what the writer need not know.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let (status, before) = (object_mut(new, "status"), &old["status"]);
    if text(status, "qosClass").is_empty() {
        copy(status, before, "qosClass");
    }
    if status["observedGeneration"].as_i64().unwrap_or(0) == 0 {
        copy(status, before, "observedGeneration");
    }
    keep_generations(status, before);
    // The older field and the first item of the newer list are one fact.
    let first = items(&status["podIPs"]).first().map(|ip| text(ip, "ip").to_owned());
    match (text(status, "podIP").to_owned(), first) {
        (ip, None) if !ip.is_empty() => set(status, "podIPs", json!([{"ip": ip}])),
        (ip, Some(first)) if ip.is_empty() => set(status, "podIP", first),
        // Where they differ, the writer knows the older field only.
        (ip, Some(first)) if ip != first => set(status, "podIPs", json!([{"ip": ip}])),
        _ => {}
    }
}

/// A condition that does not say which generation it saw is taken for the one that it replaces.
fn keep_generations(status: &mut Value, before: &Value) {
    let mut left: Vec<&Value> = items(&before["conditions"]).iter().collect();
    for condition in items_mut(status, "conditions") {
        let Some(at) = left.iter().position(|old| old["type"] == condition["type"]) else { continue };
        let old = left.remove(at);
        if condition["observedGeneration"].as_i64().unwrap_or(0) == 0 {
            copy(condition, old, "observedGeneration");
        }
    }
}

/// The rules for a change of the status.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, before, path) = (&new["status"], &old["status"], Path::root("status"));
    let list = path.field("conditions");
    for (at, condition) in items(&status["conditions"]).iter().enumerate() {
        let (path, kind) = (list.index(at), text(condition, "type"));
        validate_generation(condition, &path, errors);
        if !SYSTEM_CONDITIONS.contains(&kind) {
            for why in names::qualified_name(kind) {
                errors.invalid_text(&path.field("Type"), kind, &why);
            }
        }
    }
    validate_nomination(new, old, &path.field("nominatedNodeName"), errors);
    validate_generation(status, &path, errors);
    if status["qosClass"] != before["qosClass"] {
        errors.invalid(&path.field("qosClass"), &status["qosClass"], "field is immutable");
    }
    validate_claims(new, &path.field("resourceClaimStatuses"), errors);
    for field in ["containerStatuses", "initContainerStatuses"] {
        validate_restarts(new, old, field, &path.field(field), errors);
    }
    validate_addresses(status, before, &path, errors);
}

fn validate_generation(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let generation = &object["observedGeneration"];
    if generation.as_i64().is_some_and(|generation| generation < 0) {
        errors.invalid(&path.field("observedGeneration"), generation, "must be a non-negative integer");
    }
}

/// A nomination is for pods that wait.
fn validate_nomination(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let node = text(&new["status"], "nominatedNodeName");
    if node.is_empty() || node == text(&old["status"], "nominatedNodeName") {
        return;
    }
    for why in names::dns_subdomain(node) {
        errors.invalid_text(path, node, &why);
    }
    if !text(&old["spec"], "nodeName").is_empty() {
        errors.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

fn validate_claims(pod: &Value, path: &Path<'_>, errors: &mut Errors) {
    let statuses = items(&pod["status"]["resourceClaimStatuses"]);
    for (at, status) in statuses.iter().enumerate() {
        let path = path.index(at);
        if !items(&pod["spec"]["resourceClaims"]).iter().any(|claim| claim["name"] == status["name"]) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&path.field("name"), &status["name"], why);
        }
        if statuses[..at].iter().any(|other| other["name"] == status["name"]) {
            errors.duplicate(&path.field("name"), &status["name"]);
        }
        for why in status["resourceClaimName"].as_str().into_iter().flat_map(names::dns_subdomain) {
            errors.invalid(&path.field("resourceClaimName"), &status["resourceClaimName"], &why);
        }
    }
}

/// A container that ended for good stays so. Rules of containers' own may say otherwise, and are then trusted.
fn validate_restarts(new: &Value, old: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    let spec = &old["spec"];
    let list = if field == "containerStatuses" { "containers" } else { "initContainers" };
    for (at, before) in items(&old["status"][field]).iter().enumerate() {
        let ended = &before["state"]["terminated"];
        let Some(code) = ended["exitCode"].as_i64().or(ended.is_object().then_some(0)) else { continue };
        let container = items(&spec[list]).iter().find(|container| container["name"] == before["name"]);
        let own = container.map_or(&Value::Null, |container| &container["restartPolicy"]);
        let ruled = container.is_some_and(|container| !items(&container["restartPolicyRules"]).is_empty());
        let policy = own.as_str().unwrap_or(text(spec, "restartPolicy"));
        // Init containers start again when the pod does.
        if policy == "Always" || ruled || (code != 0 && policy == "OnFailure") {
            continue;
        }
        let after = items(&new["status"][field]).iter().find(|status| status["name"] == before["name"]);
        if after.is_some_and(|after| after["state"]["terminated"].is_null()) {
            errors.forbidden(&path.index(at).field("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn validate_addresses(status: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["podIPs", "hostIPs"] {
        let (list, path) = (items(&status[field]), path.field(field));
        let parsed: Vec<Option<IpAddr>> = list.iter().map(|ip| text(ip, "ip").parse().ok()).collect();
        for (at, ip) in list.iter().enumerate() {
            if parsed[at].is_none() && !items(&before[field]).contains(ip) {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.invalid_text(&path.index(at), text(ip, "ip"), why);
            }
        }
        let families = parsed.iter().flatten().filter(|ip| ip.is_ipv4()).count();
        if list.len() > 2 || (list.len() == 2 && families != 1) {
            errors.invalid(&path, &status[field], "may specify no more than one IP for each IP family");
        }
    }
}
