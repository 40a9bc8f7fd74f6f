//! Devices by chance: some nodes have them, some are taken, and the pod in question may have claims to some.

use serde_json::{Value, json};

use crate::states::{Chance, PROBE};

pub const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";
pub const CLASSES: &str = "/apis/resource.k8s.io/v1/deviceclasses";
pub const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const DRIVER: &str = "gpu.example.com";
/// In so many of a hundred states there are devices.
const SHARE: u64 = 50;

#[derive(Default)]
pub struct Devices {
    pub slices: Vec<Value>,
    pub claims: Vec<Value>,
    /// What the pod in question says of its claims.
    pub wanted: Vec<Value>,
}

/// The classes of all states: any device, a kind of them, and that of the probe.
pub fn classes() -> [Value; 3] {
    let class = |name: &str, expression: String| json!({"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}]}});
    let model = |model: &str| format!("device.attributes[{DRIVER:?}].model == {model:?}");
    let any = format!("device.driver == {DRIVER:?} && device.attributes[{DRIVER:?}].model != {PROBE:?}");
    [class("any", any), class("large", model("large")), class(PROBE, model(PROBE))]
}

/// What only the probe uses. Whoever has bound it has seen all slices and claims that were made before.
pub fn probe() -> (Value, Value) {
    (slice(PROBE, vec![device(0, PROBE, 1)]), claim(PROBE, json!([exactly(PROBE, 1, None)])))
}

impl Devices {
    pub fn of(chance: &mut Chance, seed: u64, nodes: &[Value]) -> Self {
        let mut all = Devices::default();
        if !chance.percent(SHARE) {
            return all;
        }
        let mut free = Vec::new();
        for node in nodes.iter().map(|node| node["metadata"]["name"].as_str().unwrap()) {
            let devices: Vec<Value> = (0..chance.below(4))
                .map(|at| device(at, chance.of(&["small", "large"]), 8 * (1 + chance.below(4))))
                .collect();
            if devices.is_empty() {
                continue;
            }
            free.extend(devices.iter().map(|device| (node.to_owned(), device["name"].as_str().unwrap().to_owned())));
            all.slices.push(slice(node, devices));
        }
        free.retain(|(node, device)| {
            let taken = chance.percent(30);
            if taken {
                let name = format!("s{seed}-t{}", all.claims.len());
                let claim = claim(&name, json!([exactly("any", 1, None)]));
                all.claims.push(allocated(claim, node, device));
            }
            !taken
        });
        if chance.percent(80) {
            for at in 0..=chance.below(2) {
                let name = format!("s{seed}-c{at}");
                let mut claim = claim(&name, requests(chance));
                if chance.percent(15)
                    && let Some((node, device)) = free.pop()
                {
                    claim = allocated(claim, &node, &device);
                }
                // All are there: of a pod that is kept out of the queue nobody says anything.
                all.claims.push(claim);
                all.wanted.push(json!({"name": format!("c{at}"), "resourceClaimName": name}));
            }
        }
        all
    }
}

pub fn device(at: u64, model: &str, gigabytes: u64) -> Value {
    json!({
        "name": format!("gpu-{at}"),
        "attributes": {"model": {"string": model}, "index": {"int": at}},
        "capacity": {"memory": {"value": format!("{gigabytes}Gi")}},
    })
}

pub fn slice(node: &str, devices: Vec<Value>) -> Value {
    let pool = json!({"name": node, "generation": 1, "resourceSliceCount": 1});
    json!({"metadata": {"name": node}, "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices}})
}

pub fn claim(name: &str, requests: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"devices": {"requests": requests}}})
}

pub fn exactly(class: &str, count: u64, expression: Option<String>) -> Value {
    json!({"name": "r", "exactly": request(class, count, expression)})
}

fn request(class: &str, count: u64, expression: Option<String>) -> Value {
    let mut request = json!({"deviceClassName": class, "allocationMode": "ExactCount", "count": count});
    if let Some(expression) = expression {
        request["selectors"] = json!([{"cel": {"expression": expression}}]);
    }
    request
}

fn requests(chance: &mut Chance) -> Value {
    let expression = match chance.below(4) {
        0 => Some(format!("device.attributes[{DRIVER:?}].index < {}", 1 + chance.below(3))),
        1 => {
            let least = 8 * (1 + chance.below(4));
            Some(format!("device.capacity[{DRIVER:?}].memory.compareTo(quantity(\"{least}Gi\")) >= 0"))
        }
        _ => None,
    };
    if chance.percent(20) {
        let alternative = |name: &str, class: &str, count: u64| {
            let mut one = request(class, count, None);
            one["name"] = json!(name);
            one
        };
        let count = 1 + chance.below(2);
        return json!([{"name": "r", "firstAvailable": [
            alternative("best", "large", count), alternative("other", "any", 1)]}]);
    }
    if chance.percent(10) {
        return json!([{"name": "r", "exactly": {"deviceClassName": "large", "allocationMode": "All"}}]);
    }
    json!([exactly(chance.of(&["any", "any", "large"]), 1 + chance.below(2), expression)])
}

fn allocated(mut claim: Value, node: &str, device: &str) -> Value {
    let on = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": [node]}]}]});
    let name = match claim["spec"]["devices"]["requests"][0].get("firstAvailable") {
        Some(all) => format!("r/{}", all[0]["name"].as_str().unwrap()),
        None => "r".to_owned(),
    };
    let result = json!({"request": name, "driver": DRIVER, "pool": node, "device": device});
    let since = "2026-01-01T00:00:00Z";
    claim["status"] = json!({"allocation": {"devices": {"results": [result]}, "nodeSelector": on,
        "allocationTimestamp": since}});
    claim
}
