//! Devices of nodes and claims to them as objects of the API, and what the API does when claims are written.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::store::{Store, is_leaving, name};

pub const DRIVER: &str = "gpu.example.com";
pub const CLASS: &str = "gpu";
/// Claims that several pods may use.
pub const SHARED: [&str; 3] = ["s0", "s1", "s2"];
/// Keeps a claim as long as it has devices.
const PROTECTION: &str = reconcile::resourceclaim::PROTECTION;

pub fn class() -> Value {
    json!({"metadata": {"name": CLASS, "uid": "uid-class"}, "spec": {}})
}

/// One of the slices that a node's pool consists of. The pool has the node's name.
pub fn slice(node: &str, number: usize, of: usize, generation: u64, devices: &[String]) -> Value {
    let name = slice_name(node, number);
    let devices: Vec<Value> = devices.iter().map(|device| json!({"name": device})).collect();
    let pool = json!({"name": node, "generation": generation, "resourceSliceCount": of});
    json!({"metadata": {"name": name, "uid": format!("uid-{name}-{generation}")},
        "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices}})
}

pub fn slice_name(node: &str, number: usize) -> String {
    format!("{node}-{number}")
}

/// What asks for so many devices.
pub fn wants(count: usize) -> Value {
    let exactly = json!({"deviceClassName": CLASS, "allocationMode": "ExactCount", "count": count});
    json!({"devices": {"requests": [{"name": "r", "exactly": exactly}]}})
}

pub fn claim(name: &str, uid: &str, count: usize) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": wants(count)})
}

/// Writes a claim; one that is being deleted is gone when nothing protects it any more.
pub fn put_claim(store: &mut Store, claim: Value) {
    if is_leaving(&claim) && !is_protected(&claim) {
        store.remove("resourceclaims", name(&claim));
    } else {
        store.put("resourceclaims", claim);
    }
}

pub fn delete_claim(store: &mut Store, name: &str) {
    if let Some(mut claim) = store.get("resourceclaims", name).cloned()
        && !is_leaving(&claim)
    {
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        put_claim(store, claim);
    }
}

fn is_protected(claim: &Value) -> bool {
    claim["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == PROTECTION))
}

/// How many devices a claim asks for.
pub fn wanted(claim: &Value) -> usize {
    let count = claim["spec"]["devices"]["requests"][0]["exactly"]["count"].as_u64();
    usize::try_from(count.unwrap_or(0)).unwrap()
}

/// The devices that a claim has been allocated: pools and names.
pub fn allocated(claim: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let results = claim["status"]["allocation"]["devices"]["results"].as_array().into_iter().flatten();
    results.map(|result| (text(&result["pool"]), text(&result["device"]))).collect()
}

/// The UIDs of those that hold a claim.
pub fn holders(claim: &Value) -> Vec<&str> {
    let all = claim["status"]["reservedFor"].as_array().into_iter().flatten();
    all.filter_map(|holder| holder["uid"].as_str()).collect()
}

/// The names of a pod's claims; `None` for one that is not made yet.
pub fn claims_of(pod: &Value) -> Vec<Option<&str>> {
    let entries = pod["spec"]["resourceClaims"].as_array().into_iter().flatten();
    let made = |entry: &Value| {
        let all = pod["status"]["resourceClaimStatuses"].as_array()?;
        all.iter().find(|made| made["name"] == entry["name"])?["resourceClaimName"].as_str()
    };
    entries.map(|entry| entry["resourceClaimName"].as_str().or_else(|| made(entry))).collect()
}
