//! A cluster with devices: objects go in as the API writes them, and what is decided is written as the API would take it.

use std::collections::{BTreeMap, BTreeSet};

use sched::{Decision, Reservation, pre_bind::Write};
use serde_json::{Value, json};

use crate::storage::{Cluster, node, with};

/// A cluster and the claims that its API has.
pub struct Devices {
    pub cluster: Cluster,
    pub claims: BTreeMap<String, Value>,
    versions: u64,
}

/// A device of a node, or a class of them; all are of one driver.
pub const DRIVER: &str = "gpu.example.com";

pub fn class(name: &str) -> Value {
    json!({"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": [
        {"cel": {"expression": format!("device.driver == {DRIVER:?}")}}]}})
}

/// The devices of a node.
pub fn slice(node: &str, devices: &[&str]) -> Value {
    let devices: Vec<Value> = devices.iter().map(|name| json!({"name": name})).collect();
    json!({"kind": "ResourceSlice", "metadata": {"name": format!("{node}-slice")}, "spec": {"driver": DRIVER,
        "nodeName": node, "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}, "devices": devices}})
}

/// A claim to one device.
pub fn claim(name: &str) -> Value {
    asking(
        name,
        json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}}]),
    )
}

pub fn asking(name: &str, requests: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
    json!({"kind": "ResourceClaim", "metadata": metadata, "spec": {"devices": {"requests": requests}}})
}

/// The claim has the node's device.
pub fn allocated(claim: Value, node: &str, device: &str) -> Value {
    let result = json!({"request": "r", "driver": DRIVER, "pool": node, "device": device});
    let on = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": [node]}]}]});
    with(claim, json!({"status": {"allocation": {"devices": {"results": [result]}, "nodeSelector": on}}}))
}

pub fn reserved(claim: Value, pods: &[&str]) -> Value {
    let users: Vec<Value> =
        pods.iter().map(|pod| json!({"resource": "pods", "name": pod, "uid": format!("uid-{pod}")})).collect();
    with(claim, json!({"status": {"reservedFor": users}}))
}

/// A pod with claims that are there by their names.
pub fn user(name: &str, claims: &[&str]) -> Value {
    let claims: Vec<Value> = claims.iter().map(|claim| json!({"name": claim, "resourceClaimName": claim})).collect();
    pod(name, json!(claims))
}

pub fn pod(name: &str, claims: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
    json!({"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c"}], "resourceClaims": claims}})
}

impl Devices {
    /// The class `gpu`, and nodes with their devices.
    pub fn new(nodes: &[(&str, &[&str])]) -> Self {
        let mut all = Devices { cluster: Cluster::new(&[class("gpu")]), claims: BTreeMap::new(), versions: 0 };
        for (name, devices) in nodes {
            all.cluster.apply(&node(name, json!({})));
            all.cluster.apply(&slice(name, devices));
        }
        all
    }

    /// A claim as the API has it from now on.
    pub fn put(&mut self, claim: Value) {
        let claim = self.store(claim);
        self.cluster.apply(&claim);
    }

    /// The API has it, and nobody was told yet.
    pub fn store(&mut self, claim: Value) -> Value {
        self.versions += 1;
        let claim = with(claim, json!({"metadata": {"resourceVersion": self.versions.to_string()}}));
        self.claims.insert(claim["metadata"]["name"].as_str().unwrap().to_owned(), claim.clone());
        claim
    }

    /// The API shows the claim.
    pub fn tell(&mut self, name: &str) {
        self.cluster.apply(&self.claims[name].clone());
    }

    /// Makes a write, as far as the API takes it. Nobody is told yet.
    pub fn make(&mut self, pod: &str, write: &Write) -> Result<String, String> {
        if let Write::MakeClaim(claim) = write {
            let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": format!("uid-{pod}"),
                "controller": true});
            let name = format!("{pod}-extended-resources-{}", self.versions);
            let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"),
                "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"}, "ownerReferences": [owner]});
            let allocation = serde_json::to_value(&*claim.allocation).unwrap();
            let made = json!({"kind": "ResourceClaim", "metadata": metadata, "spec": claim.spec,
                "status": {"allocation": allocation}});
            self.store(reserved(made, &[pod]));
            return Ok(name);
        }
        let (Write::ReserveClaim { claim: name, uid, .. }
        | Write::UnreserveClaim { claim: name, uid }
        | Write::DeallocateClaim { claim: name, uid, .. }) = write
        else {
            panic!("not about devices: {write:?}");
        };
        let Some(mut claim) = self.claims.get(&*name.1).filter(|claim| claim["metadata"]["uid"] == **uid).cloned()
        else {
            return Err("gone".to_owned());
        };
        let user = json!({"resource": "pods", "name": pod, "uid": format!("uid-{pod}")});
        match write {
            Write::ReserveClaim { allocation, allocate, .. } => {
                let wanted = serde_json::to_value(&**allocation).unwrap();
                match claim["status"].get("allocation") {
                    None if *allocate => claim["status"]["allocation"] = wanted,
                    Some(shown) if *shown == wanted => {}
                    _ => return Err("allocated elsewhere".to_owned()),
                }
                let users = &mut claim["status"]["reservedFor"];
                if users.is_null() {
                    *users = json!([]);
                }
                users.as_array_mut().unwrap().push(user);
            }
            Write::UnreserveClaim { .. } => {
                if let Some(users) = claim["status"]["reservedFor"].as_array_mut() {
                    users.retain(|known| known["uid"] != user["uid"]);
                }
            }
            Write::DeallocateClaim { version, .. } => {
                if claim["metadata"]["resourceVersion"] != *version.0 {
                    return Err("changed".to_owned());
                }
                claim["status"] = json!({});
            }
            _ => {}
        }
        self.store(claim);
        Ok(name.1.to_string())
    }

    /// Deletes a claim that was made for a pod, and tells it.
    pub fn delete(&mut self, write: &Write) {
        let Write::DeleteClaim { claim: name, .. } = write else { panic!("not a deletion: {write:?}") };
        let claim = self.claims.remove(&*name.1).unwrap();
        self.cluster.delete(&claim);
    }

    /// Makes what goes before a pod's binding, and tells it.
    pub fn prepare(&mut self, reservation: &Reservation) {
        assert!(self.cluster.engine.writing(&reservation.pod.uid));
        for write in &reservation.pre_bind.writes {
            let claim = self.make(&reservation.pod.name, write).unwrap();
            self.tell(&claim);
        }
        self.cluster.engine.written(&reservation.pod.uid);
    }

    /// Gives a placement up, as the driver does.
    pub fn give_up(&mut self, pod: &str) {
        let uid = format!("uid-{pod}");
        for write in self.cluster.engine.take_back(&uid) {
            if matches!(write, Write::DeleteClaim { .. }) {
                self.delete(&write);
                continue;
            }
            let claim = self.make(pod, &write).unwrap();
            self.tell(&claim);
        }
        self.cluster.engine.undo(&uid, self.cluster.now);
    }

    /// The next decision in words, and what is to be written for a pod that waits.
    pub fn next(&mut self) -> (String, Vec<Write>) {
        match self.cluster.engine.next(self.cluster.now) {
            None => ("nothing".into(), Vec::new()),
            Some(Decision::Bind(found)) => (format!("{} -> {}", found.pod.name, found.node), found.pre_bind.writes),
            Some(Decision::Unschedulable { pod, diagnosis, writes, .. }) => {
                (format!("{}: {}", pod.name, diagnosis.message()), writes)
            }
            Some(other) => panic!("nobody has extenders: {other:?}"),
        }
    }

    /// The next decision, which must be a placement: the node, and the devices by claim.
    pub fn placed(&mut self) -> (Reservation, BTreeSet<String>) {
        let reservation = self.cluster.placed();
        let found = devices_of(&reservation.pre_bind.writes);
        (reservation, found)
    }
}

/// `node/device` of all that is reserved.
pub fn devices_of(writes: &[Write]) -> BTreeSet<String> {
    let allocations = writes.iter().filter_map(|write| match write {
        Write::ReserveClaim { allocation, .. } => Some(allocation),
        _ => None,
    });
    let results = allocations.flat_map(|allocation| sched::device::results(allocation));
    results.map(|result| format!("{}/{}", result.pool, result.device)).collect()
}
