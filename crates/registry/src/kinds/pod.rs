//! Pod: defaults, lifecycle fields, what may change, grace.

mod bind;
mod cells;
mod qos;

pub(crate) use bind::bind;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, pod_spec};
use crate::{
    Context, admission,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{copy, default, default_zero, items, items_mut, list_mut, object_mut, set, text},
};

pub(crate) struct Pod;

const IMMUTABLE_SPEC: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "enableServiceLinks", true);
        pod_spec::default_spec(spec);
        for list in ["initContainers", "containers"] {
            items_mut(spec, list).for_each(default_requests);
        }
        if spec["resources"].is_object() {
            default_requests(spec);
        }
        if spec["hostNetwork"] == true {
            default_host_ports(spec);
        }
        let status = object_mut(object, "status");
        default(status, "phase", "Pending");
    }

    fn prepare_create(&self, context: &Context, object: &mut Value) {
        let class = qos::class(&object["spec"]);
        set(object, "status", json!({"phase": "Pending", "qosClass": class}));
        set(object_mut(object, "metadata"), "generation", 1);
        if !items(&object["spec"]["schedulingGates"]).is_empty() {
            let gated = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastTransitionTime": context.timestamp(),
            });
            list_mut(object_mut(object, "status"), "conditions").push(gated);
        }
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        // As on creation: who replaces the list of tolerations seldom means these.
        if new["spec"]["tolerations"] != old["spec"]["tolerations"] {
            admission::default_tolerations(new);
        }
        meta::bump_generation(new, old);
    }

    fn prepare_status(&self, _context: &Context, new: &mut Value, old: &Value) {
        let status = object_mut(new, "status");
        copy(status, &old["status"], "qosClass");
        // The older field and the first item of the newer list are one fact.
        let first = items(&status["podIPs"]).first().map(|ip| text(ip, "ip").to_owned());
        match (text(status, "podIP").to_owned(), first) {
            (older, None) if !older.is_empty() => set(status, "podIPs", json!([{"ip": older}])),
            (older, Some(first)) if older.is_empty() => set(status, "podIP", first),
            _ => {}
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        pod_spec::validate_spec(&object["spec"], &Path::root("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec_update(new, old, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let known = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
        common::validate_choice(&new["status"]["phase"], &known, &Path::root("status").field("phase"), errors);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn deletes_gracefully(&self) -> bool {
        true
    }

    fn grace_period(&self, object: &Value, asked: Option<i64>) -> i64 {
        let own = object["spec"]["terminationGracePeriodSeconds"].as_i64();
        let nobody_to_wait_for = text(&object["spec"], "nodeName").is_empty()
            || matches!(text(&object["status"], "phase"), "Failed" | "Succeeded");
        match asked.or(own).unwrap_or(30) {
            _ if nobody_to_wait_for => 0,
            ..0 => 1,
            seconds => seconds,
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn field(&self, object: &Value, field: &str) -> String {
        match field {
            "spec.hostNetwork" => (object["spec"]["hostNetwork"] == true).to_string(),
            field => common::field_by_path(object, field),
        }
    }

    fn columns(&self) -> &'static [Column] {
        cells::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells::cells(object, now)
    }
}

/// On the host's network a port is the host's port. Templates are left alone, as in Kubernetes.
fn default_host_ports(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            for port in items_mut(container, "ports") {
                let number = port["containerPort"].as_i64().unwrap_or(0);
                default_zero(port, "hostPort", number);
            }
        }
    }
}

/// A limit without a request is a request too.
fn default_requests(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object() else { return };
    let requests = &container["resources"]["requests"];
    let missing: Vec<(String, Value)> = limits
        .iter()
        .filter(|(name, _)| requests[name.as_str()].is_null())
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    for (name, amount) in missing {
        set(object_mut(object_mut(container, "resources"), "requests"), &name, amount);
    }
}

/// Compares the specs with everything that may change taken over from the new one.
fn validate_spec_update(new: &Value, old: &Value, errors: &mut Errors) {
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
    let mut expected = from.clone();
    for list in ["containers", "initContainers"] {
        for (expected, new) in items_mut(&mut expected, list).zip(items(&to[list])) {
            copy(expected, new, "image");
        }
    }
    validate_deadline(to, from, &path, errors);
    for field in ["activeDeadlineSeconds", "tolerations"] {
        copy(&mut expected, to, field);
    }
    if from["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) && to["terminationGracePeriodSeconds"] == 1
    {
        set(&mut expected, "terminationGracePeriodSeconds", 1);
    }
    let kept = items(&from["tolerations"]).iter().all(|t| items(&to["tolerations"]).contains(t));
    if !kept {
        errors.forbidden(
            &path.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    if !items(&from["schedulingGates"]).is_empty() {
        let added = items(&to["schedulingGates"]).iter().any(|g| !items(&from["schedulingGates"]).contains(g));
        if added {
            errors
                .forbidden(&path.field("schedulingGates"), "only deletion is allowed, but found new scheduling gates");
        }
        for field in ["schedulingGates", "nodeSelector", "affinity"] {
            copy(&mut expected, to, field);
        }
    }
    if expected != *to {
        errors.forbidden(&path, IMMUTABLE_SPEC);
    }
}

fn validate_deadline(to: &Value, from: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.field("activeDeadlineSeconds");
    match (from["activeDeadlineSeconds"].as_i64(), to["activeDeadlineSeconds"].as_i64()) {
        (Some(before), Some(after)) if after > before => {
            errors.invalid(&path, &after.into(), "must be less than or equal to previous value");
        }
        (Some(_), None) => {
            errors.invalid(&path, &Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Value), allowed: bool) {
        let mut old = json!({"spec": {
            "containers": [{"name": "a", "image": "x:1"}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        }});
        Pod.default(&mut old);
        let mut new = old.clone();
        change(&mut new["spec"]);
        let mut errors = Errors::default();
        Pod.validate_update(&new, &old, &mut errors);
        assert_eq!(errors.is_empty(), allowed, "{:?}", errors.into_vec());
    }

    #[test]
    fn little_of_a_pod_may_change() {
        check(|_| {}, true);
        check(|spec| spec["containers"][0]["image"] = "x:2".into(), true);
        check(|spec| spec["activeDeadlineSeconds"] = 5.into(), true);
        check(|spec| spec["tolerations"].as_array_mut().unwrap().push(json!({"key": "z"})), true);
        check(|spec| spec["tolerations"] = json!([]), false);
        check(|spec| spec["containers"][0]["name"] = "b".into(), false);
        check(|spec| spec["nodeSelector"] = json!({"a": "b"}), false);
        check(|spec| spec["containers"] = json!([]), false);
    }
}
