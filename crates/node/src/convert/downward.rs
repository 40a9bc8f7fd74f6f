//! The downward API: what a pod may know of itself, as environment variable or file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::quantity;
use crate::pod::model::specs;

/// What only the node knows, for the fields that ask for it.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    pub node_name: String,
    /// The node's own, for limits that are not set.
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_storage_bytes: i64,
}

/// The value of a `fieldRef`.
pub fn field(pod: &Pod, path: &str, facts: &NodeFacts) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => map_text(meta.labels.as_ref()),
        "metadata.annotations" => map_text(meta.annotations.as_ref()),
        "spec.nodeName" => spec.map(|spec| text(&spec.node_name)).unwrap_or_else(|| facts.node_name.clone()),
        "spec.serviceAccountName" => spec.map(|spec| text(&spec.service_account_name)).unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return subscript(path, meta.labels.as_ref(), meta.annotations.as_ref()),
    })
}

/// `metadata.labels['key']` and `metadata.annotations['key']`; a missing key is empty.
fn subscript(
    path: &str,
    labels: Option<&BTreeMap<String, String>>,
    annotations: Option<&BTreeMap<String, String>>,
) -> Result<String, String> {
    for (prefix, map) in [("metadata.labels['", labels), ("metadata.annotations['", annotations)] {
        if let Some(key) = path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']")) {
            return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
        }
    }
    Err(format!("unsupported fieldPath: {path}"))
}

/// One `key="value"` per line, values quoted as Go's `%q`.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`; `own` is the container that asks when the selector names none.
pub fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    facts: &NodeFacts,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => specs(pod).map(|(container, _)| container).find(|container| container.name == name),
        None => own,
    };
    let container = container
        .ok_or_else(|| format!("container {} not found", selector.container_name.as_deref().unwrap_or_default()))?;
    let path = selector.resource.as_str();
    let (list, name) = path.split_once('.').ok_or_else(|| format!("unsupported container resource : {path}"))?;
    let resources = container.resources.as_ref();
    let amount = match list {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(format!("unsupported container resource : {path}")),
    }
    .and_then(|list| list.get(name))
    .and_then(|amount| quantity::milli(&amount.0));
    let fallback = match (list, name) {
        ("limits", "cpu") => facts.cpu_milli,
        ("limits", "memory") => facts.memory_bytes.saturating_mul(1000),
        ("limits", "ephemeral-storage") => facts.ephemeral_storage_bytes.saturating_mul(1000),
        _ => 0,
    };
    let amount = amount.unwrap_or(i128::from(fallback));
    let divisor = selector.divisor.as_ref().and_then(|divisor| quantity::milli(&divisor.0)).filter(|d| *d > 0);
    let divisor = divisor.unwrap_or(1000);
    Ok(((amount + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "shop", "labels": { "a": "1", "b": "x\"y" } },
            "spec": { "nodeName": "n1", "containers": [
                { "name": "c", "resources": { "limits": { "cpu": "250m", "memory": "64Mi" } } }] },
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        let facts = NodeFacts { pod_ips: vec!["10.0.0.1".into()], ..NodeFacts::default() };
        let check = |path: &str, expected: Result<&str, &str>| {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(field(&pod(), path, &facts), expected, "{path}");
        };
        check("metadata.name", Ok("web"));
        check("status.podIP", Ok("10.0.0.1"));
        check("spec.nodeName", Ok("n1"));
        check("metadata.labels", Ok("a=\"1\"\nb=\"x\\\"y\""));
        check("metadata.labels['a']", Ok("1"));
        check("metadata.annotations['none']", Ok(""));
        check("spec.bogus", Err("unsupported fieldPath: spec.bogus"));
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let pod = pod();
        let own = pod.spec.as_ref().unwrap().containers.first();
        let facts = NodeFacts { cpu_milli: 2000, ..NodeFacts::default() };
        let check = |name: &str, divisor: &str, expected: &str| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({ "resource": name, "divisor": divisor })).unwrap();
            assert_eq!(resource(&pod, &selector, own, &facts).unwrap(), expected, "{name} / {divisor}");
        };
        check("limits.cpu", "1", "1");
        check("limits.cpu", "1m", "250");
        check("limits.memory", "1Mi", "64");
        check("requests.cpu", "1m", "0");
        let bare = Container::default();
        let selector: ResourceFieldSelector = serde_json::from_value(json!({ "resource": "limits.cpu" })).unwrap();
        assert_eq!(resource(&pod, &selector, Some(&bare), &facts).unwrap(), "2");
    }
}
