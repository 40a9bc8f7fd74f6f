//! What claims get, as tables: a world of slices, classes and claims, and the allocation as one line of text.

mod capacity;
mod constraints;
mod partitions;
mod pools;
mod random;
mod requests;
mod taints;

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaimSpec};
use serde_json::{Value, json};

use super::*;
use crate::Features;

/// Objects to allocate from, and claims to allocate for. The node is `node-1`, its label `region` is `west`.
struct World {
    features: Features,
    slices: Vec<Value>,
    claims: Vec<Value>,
    /// `driver/pool/device`, with ` name=amount`, … if it is a share.
    used: Vec<&'static str>,
}

fn world(slices: Vec<Value>, claims: Vec<Value>) -> World {
    World { features: Features::default(), slices, claims, used: Vec::new() }
}

impl World {
    fn used(mut self, used: &[&'static str]) -> Self {
        self.used = used.to_vec();
        self
    }

    fn without(mut self, change: impl Fn(&mut Features)) -> Self {
        change(&mut self.features);
        self
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::new(self.features);
        for (at, slice) in self.slices.iter().enumerate() {
            // A slice's name orders it; those of a world are in their order.
            let name = format!("slice-{at:02}");
            let slice = serde_json::from_value(json!({"metadata": {"name": name}, "spec": slice})).unwrap();
            assert!(inventory.set_slice(&name, Some(slice)), "a new slice is a change");
        }
        for (name, spec) in classes() {
            let class = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
            inventory.set_class(name, Some(class));
        }
        inventory
    }

    fn allocate(&self, inventory: &Inventory) -> Result<Option<Vec<AllocationResult>>, Error> {
        self.allocate_beside(inventory, &used(&self.used))
    }

    fn allocate_beside(&self, inventory: &Inventory, used: &Used) -> Result<Option<Vec<AllocationResult>>, Error> {
        let mut wanted = Vec::new();
        for (at, claim) in self.claims.iter().enumerate() {
            let spec: ResourceClaimSpec = serde_json::from_value(json!({"devices": claim})).unwrap();
            wanted.push(Wanted::of(&format!("default/claim-{at}"), &spec, inventory)?);
        }
        let wanted: Vec<&Wanted> = wanted.iter().collect();
        let labels = |key: &str| (key == "region").then_some("west");
        let node = NodeFacts { name: "node-1", labels: &labels };
        allocate(&wanted, &node, used, inventory)
    }
}

/// Class `a` is of `driver-a`'s devices, and so on; `shared` is of all that can be shared, `configured` has parameters.
fn classes() -> [(&'static str, Value); 6] {
    let selecting = |expression: &str| json!({"selectors": [{"cel": {"expression": expression}}]});
    let config = json!([{"opaque": {"driver": "driver-a", "parameters": {"of": "class"}}}]);
    [
        ("a", selecting(r#"device.driver == "driver-a""#)),
        ("b", selecting(r#"device.driver == "driver-b""#)),
        ("any", json!({})),
        ("shared", selecting("device.allowMultipleAllocations")),
        ("broken", selecting("noSuchVar")),
        ("configured", json!({"config": config})),
    ]
}

fn used(used: &[&str]) -> Used {
    let mut found = Used::default();
    for line in used {
        let mut words = line.split(' ');
        let names: Vec<&str> = words.next().unwrap_or_default().split('/').collect();
        let amounts: serde_json::Map<String, Value> = words
            .filter_map(|word| word.split_once('='))
            .map(|(name, amount)| (name.to_owned(), amount.into()))
            .collect();
        let mut result = json!({"request": "r", "driver": names[0], "pool": names[1], "device": names[2]});
        if !amounts.is_empty() {
            result["shareID"] = "c0ffee".into();
            result["consumedCapacity"] = amounts.into();
        }
        found.add(&serde_json::from_value(json!({"devices": {"results": [result]}})).unwrap());
    }
    found
}

/// The allocations of a world as text, `none`, or (a part of) the error.
#[track_caller]
fn check(world: World, expected: &str) {
    let inventory = world.inventory();
    match world.allocate(&inventory) {
        Ok(Some(found)) => {
            let found: Vec<String> = found.iter().map(written).collect();
            assert_eq!(found.join(" | "), expected);
        }
        Ok(None) => assert_eq!("none", expected),
        Err(error) => {
            let part = expected.strip_prefix("error: ");
            let said = part.is_some_and(|part| error.to_string().contains(part));
            assert!(said, "expected {expected}, but found the error: {error}");
        }
    }
}

/// `request: device` of each, then where the allocation can be used.
fn written(allocation: &AllocationResult) -> String {
    let devices = allocation.devices.as_ref();
    let results = devices.iter().flat_map(|devices| devices.results.iter().flatten()).map(device);
    let mut text = results.collect::<Vec<_>>().join(", ");
    for config in devices.iter().flat_map(|devices| devices.config.iter().flatten()) {
        text += &format!(" {}({})", config.source, config.requests.as_deref().unwrap_or_default().join(","));
    }
    let terms = allocation.node_selector.iter().flat_map(|selector| &selector.node_selector_terms);
    let requirements = terms.flat_map(|term| term.match_fields.iter().chain(&term.match_expressions).flatten());
    let requirements = requirements.map(|requirement| requirement.values.as_deref().unwrap_or_default().join("/"));
    let places: Vec<String> = requirements.collect();
    if places.is_empty() { text + " everywhere" } else { text + " on " + &places.join("+") }
}

fn device(result: &DeviceRequestAllocationResult) -> String {
    let pool = if result.pool == "pool" { String::new() } else { format!("{}/", result.pool) };
    let mut text = format!("{}: {pool}{}", result.request, result.device);
    if result.admin_access == Some(true) {
        text += " (admin)";
    }
    if result.share_id.is_some() {
        let amounts = result.consumed_capacity.iter().flatten();
        let amounts: Vec<String> = amounts.map(|(name, amount)| format!("{name}={}", amount.0)).collect();
        text += &format!(" (share {})", amounts.join(" "));
    }
    if let Some(conditions) = &result.binding_conditions {
        let failures = result.binding_failure_conditions.as_deref().unwrap_or_default();
        text += &format!(" (when {} unless {})", conditions.join(","), failures.join(","));
    }
    if let Some(tolerations) = &result.tolerations {
        text += &format!(" (tolerates {})", tolerations.len());
    }
    text
}

/// A slice of the pool `pool` of `driver-a` on `node-1`, the pool's only one.
fn slice(devices: Vec<Value>) -> Value {
    let pool = json!({"name": "pool", "generation": 1, "resourceSliceCount": 1});
    json!({"driver": "driver-a", "nodeName": "node-1", "pool": pool, "devices": devices})
}

/// Sets fields of an object; `null` takes one away. The fields of objects are set one by one.
fn with(mut object: Value, changes: Value) -> Value {
    for (field, value) in changes.as_object().expect("changes are an object") {
        match value {
            Value::Null => drop(object.as_object_mut().expect("it is an object").remove(field)),
            Value::Object(_) if object[field].is_object() => object[field] = with(object[field].take(), value.clone()),
            _ => object[field] = value.clone(),
        }
    }
    object
}

/// The slice as one of `count` of its pool.
fn one_of(count: usize, slice: Value) -> Value {
    with(slice, json!({"pool": {"resourceSliceCount": count}}))
}

fn named(name: &str) -> Value {
    json!({"name": name})
}

fn devices(count: usize) -> Vec<Value> {
    (0..count).map(|at| named(&format!("device-{at}"))).collect()
}

/// A request for one device of class `a`, changed.
fn request(name: &str, changes: Value) -> Value {
    json!({"name": name, "exactly": with(json!({"deviceClassName": "a", "count": 1}), changes)})
}

/// A request for the first of these that can be had; each is a name and what differs from one device of class `a`.
fn first_of(name: &str, choices: &[(&str, Value)]) -> Value {
    let choice = |(name, changes): &(&str, Value)| {
        with(json!({"name": name, "deviceClassName": "a", "count": 1}), changes.clone())
    };
    json!({"name": name, "firstAvailable": choices.iter().map(choice).collect::<Vec<_>>()})
}

fn claim(requests: Vec<Value>) -> Value {
    json!({"requests": requests})
}

fn cel(expression: &str) -> Value {
    json!([{"cel": {"expression": expression}}])
}

/// An expression on the attributes of `driver-a`.
fn having(what: &str) -> Value {
    cel(&format!(r#"device.attributes["driver-a"].{what}"#))
}
