//! Node.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common;
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{copy, entries, items, object_mut, set, text},
};

pub(crate) struct Node;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            // The older field and the first item of the newer list are one fact.
            let (single, first) = (text(spec, "podCIDR"), items(&spec["podCIDRs"]).first().and_then(Value::as_str));
            match (single.to_owned(), first.map(str::to_owned)) {
                (single, None) if !single.is_empty() => set(spec, "podCIDRs", json!([single])),
                (single, Some(first)) if single.is_empty() => set(spec, "podCIDR", first),
                _ => {}
            }
        }
        let status = object_mut(object, "status");
        if !status["capacity"].is_null() && status["allocatable"].is_null() {
            let capacity = status["capacity"].clone();
            set(status, "allocatable", capacity);
        }
    }

    // Nodes report their status with their first PUT, so that a POST keeps it too, as in Kubernetes.
    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        // Kubernetes names this place so.
        let path = Path::root("metadata");
        let list = path.field("taints");
        let taints = items(&object["spec"]["taints"]);
        for (at, taint) in taints.iter().enumerate() {
            let path = list.index(at);
            for why in names::qualified_name(text(taint, "key")) {
                errors.invalid_text(&path.field("key"), text(taint, "key"), &why);
            }
            for why in names::label_value(text(taint, "value")) {
                errors.invalid_text(&path.field("value"), text(taint, "value"), &why);
            }
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            if !known.contains(&text(taint, "effect")) {
                errors.not_supported(&path.field("effect"), &taint["effect"], &known);
            }
            let same = |other: &&Value| other["key"] == taint["key"] && other["effect"] == taint["effect"];
            if taints[..at].iter().any(|other| same(&other)) {
                errors.duplicate(&path, taint);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        for field in ["podCIDR", "providerID"] {
            let (to, from) = (text(&new["spec"], field), text(&old["spec"], field));
            if !from.is_empty() && to != from {
                let place = if field == "podCIDR" { path.field("podCIDRs") } else { path.field(field) };
                let why = format!("node updates may not change {field} except from \"\" to valid");
                errors.forbidden(&place, &why);
            }
        }
    }

    fn creates_on_update(&self) -> bool {
        false
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn unset_field(&self, _field: &str) -> Option<&'static str> {
        Some("false")
    }

    fn field(&self, object: &Value, _field: &str) -> String {
        (object["spec"]["unschedulable"] == true).to_string()
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
            Column::NAME,
            Column::text("Status", "The status of the node"),
            Column::text("Roles", "The roles of the node"),
            Column::AGE,
            Column::text("Version", "Kubelet Version reported by the node."),
            Column::text(
                "Internal-IP",
                "List of addresses reachable to the node. Queried from cloud provider, if available.",
            )
            .wide(),
            Column::text(
                "External-IP",
                "List of addresses reachable to the node. Queried from cloud provider, if available.",
            )
            .wide(),
            Column::text(
                "OS-Image",
                "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
            )
            .wide(),
            Column::text(
                "Kernel-Version",
                "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
            )
            .wide(),
            Column::text(
                "Container-Runtime",
                "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
            )
            .wide(),
        ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let info = &object["status"]["nodeInfo"];
        let or_unknown = |field: &str| match text(info, field) {
            "" => Value::from("<unknown>"),
            text => text.into(),
        };
        vec![
            common::name(object),
            status(object).into(),
            common::or_none(&roles(object)),
            common::age(object, now),
            text(info, "kubeletVersion").into(),
            common::or_none(address(object, "InternalIP")),
            common::or_none(address(object, "ExternalIP")),
            or_unknown("osImage"),
            or_unknown("kernelVersion"),
            or_unknown("containerRuntimeVersion"),
        ]
    }
}

fn status(object: &Value) -> String {
    let ready = items(&object["status"]["conditions"]).iter().find(|c| c["type"] == "Ready");
    let mut out = match ready.map(|c| text(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == true {
        out.push_str(",SchedulingDisabled");
    }
    out
}

fn roles(object: &Value) -> String {
    let role = |(key, value): (&str, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        None if key == ROLE_LABEL => value.as_str().filter(|v| !v.is_empty()).map(str::to_owned),
        _ => None,
    };
    let mut roles: Vec<String> = entries(&object["metadata"]["labels"]).filter_map(role).collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address<'o>(object: &'o Value, kind: &str) -> &'o str {
    items(&object["status"]["addresses"]).iter().find(|a| a["type"] == kind).map_or("", |a| text(a, "address"))
}
