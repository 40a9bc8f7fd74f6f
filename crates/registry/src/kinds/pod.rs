//! Pod: defaults, lifecycle fields, what may change, grace.

mod bind;
mod cells;
mod label_keys;
mod qos;
mod remembered;
mod status;
pub(crate) mod totals;
mod update;

pub use bind::PlainBinding;
pub(crate) use bind::bind;
pub use remembered::{PodBody, RememberedSpec};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, pod_spec, resource_names};
use crate::{
    Context, Reading, admission,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{copy, default, default_zero, entries, items, items_mut, list_mut, object_mut, set, text},
};

pub(crate) struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "enableServiceLinks", true);
        pod_spec::default_spec(spec);
        for list in ["initContainers", "containers"] {
            items_mut(spec, list).for_each(default_requests);
        }
        if spec["resources"].is_object() {
            default_pod_level(spec);
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
        label_keys::apply(object);
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
        status::prepare(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        pod_spec::validate_spec(&object["spec"], &Path::root("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::validate(new, old, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::validate(new, old, errors);
    }

    fn reads(&self, reading: Reading, status: &Value) -> Option<&'static [&'static str]> {
        const CONTAINERS: [&str; 2] = ["containerStatuses", "initContainerStatuses"];
        match reading {
            Reading::Whole => None,
            Reading::Deletion => Some(&["nodeName", "terminationGracePeriodSeconds"]),
            // Whether a container may run again is its own affair.
            Reading::Status if CONTAINERS.iter().any(|list| !items(&status[list]).is_empty()) => {
                Some(&["containers", "initContainers", "nodeName", "resourceClaims", "restartPolicy"])
            }
            Reading::Status => Some(&["nodeName", "resourceClaims"]),
        }
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        // Old kubelets corrupted them, and garbage collection with them.
        &["ownerReferences"]
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

    fn unset_field(&self, field: &str) -> Option<&'static str> {
        Some(if field == "spec.hostNetwork" { "false" } else { "" })
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

/// A pod of which something is said as a whole gets its containers' huge pages, and asks for what they ask for, or else for
/// as much as it may have.
fn default_pod_level(spec: &mut Value) {
    let said = |spec: &Value, list: &str| entries(&spec["resources"][list]).next().is_some();
    if said(spec, "limits") || said(spec, "requests") {
        for (name, amount) in totals::of_containers(spec, "limits") {
            let resources = &spec["resources"];
            let unsaid = ["requests", "limits"].iter().all(|list| resources[*list][name.as_str()].is_null());
            if resource_names::is_huge_pages(&name) && unsaid {
                set(object_mut(object_mut(spec, "resources"), "limits"), &name, amount.to_string());
            }
        }
    }
    if !said(spec, "limits") {
        return;
    }
    let plain = |name: &str| ["cpu", "memory"].contains(&name);
    for (name, amount) in totals::of_containers(spec, "requests").into_iter().filter(|(name, _)| plain(name)) {
        default(object_mut(object_mut(spec, "resources"), "requests"), &name, amount.to_string());
    }
    default_requests(spec);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a change of a pod's spec is refused with; nothing if it is allowed. `extra` is laid over the pod before.
    fn check(extra: Value, change: impl Fn(&mut Value), expected: &str) {
        let mut old = json!({"spec": {
            "containers": [{"name": "a", "image": "x:1"}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        }});
        for (key, value) in extra.as_object().into_iter().flatten() {
            old["spec"][key] = value.clone();
        }
        Pod.default(&mut old);
        let mut new = old.clone();
        change(&mut new["spec"]);
        let mut errors = Errors::default();
        Pod.validate_update(&new, &old, &mut errors);
        let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(texts.join("; ").trim_end(), expected);
    }

    const FIXED: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

    #[test]
    fn little_of_a_pod_may_change() {
        let plain = Value::Null;
        check(plain.clone(), |_| {}, "");
        check(plain.clone(), |spec| spec["containers"][0]["image"] = "x:2".into(), "");
        check(plain.clone(), |spec| spec["activeDeadlineSeconds"] = 5.into(), "");
        check(plain.clone(), |spec| spec["tolerations"].as_array_mut().unwrap().push(json!({"key": "z"})), "");
        check(plain.clone(), |spec| spec["tolerations"][0]["tolerationSeconds"] = 9.into(), "");
        let kept = "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds";
        check(plain.clone(), |spec| spec["tolerations"] = json!([]), kept);
        check(plain.clone(), |spec| spec["containers"][0]["name"] = "b".into(), FIXED);
        check(plain.clone(), |spec| spec["nodeSelector"] = json!({"a": "b"}), FIXED);
        check(plain.clone(), |spec| spec["schedulingGroup"] = json!({"podGroupName": "g"}), FIXED);
        let count = "spec.containers: Forbidden: pod updates may not add or remove containers";
        check(plain, |spec| spec["containers"] = json!([]), count);
    }

    #[test]
    fn behind_a_gate_the_choice_of_nodes_may_become_narrower() {
        let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        let affinity =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        let gated = json!({
            "schedulingGates": [{"name": "one"}, {"name": "two"}], "nodeSelector": {"a": "b"}, "affinity": affinity,
        });
        let terms = |spec: &mut Value, terms: Value| {
            spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
                terms;
        };
        check(gated.clone(), |spec| spec["schedulingGates"] = json!([{"name": "two"}]), "");
        check(gated.clone(), |spec| spec["nodeSelector"]["c"] = "d".into(), "");
        let narrower = json!([{"matchExpressions": [term["matchExpressions"][0], {"key": "z", "operator": "Exists"}]}]);
        check(gated.clone(), |spec| terms(spec, narrower.clone()), "");
        check(
            gated.clone(),
            |spec| spec["schedulingGates"] = json!([{"name": "three"}]),
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'three'",
        );
        check(
            gated.clone(),
            |spec| spec["nodeSelector"] = json!({"a": "c"}),
            "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
        check(
            gated.clone(),
            |spec| terms(spec, json!([term, term])),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: [{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]},{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}]: no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
        check(gated, |spec| spec["affinity"]["podAffinity"] = json!({}), FIXED);
        let once =
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'late'";
        check(Value::Null, |spec| spec["schedulingGates"] = json!([{"name": "late"}]), once);
    }
}
