//! The quality-of-service class: who is served last when memory gets short.

use kube_schema::quantity;
use serde_json::Value;

use crate::value::items;

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` when every container's requests equal its limits, `BestEffort` when nobody asks for anything.
pub(super) fn class(spec: &Value) -> &'static str {
    let containers = || items(&spec["containers"]).iter().chain(items(&spec["initContainers"]));
    let amount = |container: &Value, list: &str, resource: &str| {
        let text = container["resources"][list][resource].as_str()?;
        quantity::parse(text).ok().filter(|quantity| quantity.signum() > 0)
    };
    let asks = |container: &Value| {
        RESOURCES.iter().any(|r| amount(container, "requests", r).is_some() || amount(container, "limits", r).is_some())
    };
    let guaranteed = |container: &Value| {
        RESOURCES.iter().all(|resource| {
            let limit = amount(container, "limits", resource);
            let request = amount(container, "requests", resource);
            limit.is_some() && request.is_none_or(|request| Some(request) == limit)
        })
    };
    // What is said of the pod as a whole counts for all of it.
    if spec["resources"].is_object() && asks(spec) {
        return if guaranteed(spec) { "Guaranteed" } else { "Burstable" };
    }
    if !containers().any(asks) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let full = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"limits": full}), "Guaranteed"),
            (json!({"limits": full, "requests": {"cpu": "1000m", "memory": "1024Mi"}}), "Guaranteed"),
            (json!({"limits": full, "requests": {"cpu": "500m"}}), "Burstable"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
        ] {
            assert_eq!(class(&json!({"containers": [{"resources": resources}]})), expected, "{resources}");
        }
    }
}
