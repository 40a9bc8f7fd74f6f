//! Volumes and claims to them as objects of the API.

use serde_json::{Value, json};

use super::{
    model::{HOSTNAME, Machine, ZONE},
    store::{name, uid},
};

/// Of volumes that somebody has made by hand.
pub const LOCAL: &str = "local";
/// Of volumes that are made when they are needed.
pub const MADE: &str = "made";
const PROVISIONERS: [(&str, &str); 2] = [(LOCAL, "kubernetes.io/no-provisioner"), (MADE, "disk.example.com")];

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// From where a volume can be reached.
#[derive(Clone, Debug)]
pub enum Place {
    Host(String),
    Zone(&'static str),
}

pub fn classes() -> impl Iterator<Item = Value> {
    PROVISIONERS.into_iter().map(|(class, provisioner)| {
        json!({"metadata": {"name": class, "uid": class}, "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer"})
    })
}

pub fn volume(name: &str, uid: &str, class: &str, gibibytes: u64, place: &Place) -> Value {
    let (key, value) = match place {
        Place::Host(host) => (HOSTNAME, host.as_str()),
        Place::Zone(zone) => (ZONE, *zone),
    };
    let term = json!({"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]});
    json!({"metadata": {"name": name, "uid": uid},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": format!("{gibibytes}Gi")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
        "status": {"phase": "Available"}})
}

pub fn claim(name: &str, class: &str, gibibytes: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": format!("{gibibytes}Gi")}}},
        "status": {"phase": "Pending"}})
}

/// The names of the volume claims of a pod.
pub fn claims_of(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
}

/// Whether a volume can be reached from a machine.
pub fn reaches(volume: &Value, machine: &Machine) -> bool {
    let term = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    let label = if term["key"] == HOSTNAME { machine.name.as_str() } else { machine.zone };
    term["values"][0] == label
}

pub fn size(volume: &Value) -> u64 {
    gibibytes(&volume["spec"]["capacity"]["storage"])
}

pub fn request(claim: &Value) -> u64 {
    gibibytes(&claim["spec"]["resources"]["requests"]["storage"])
}

fn gibibytes(quantity: &Value) -> u64 {
    quantity.as_str().unwrap().trim_end_matches("Gi").parse().unwrap()
}

pub fn class(object: &Value) -> &str {
    object["spec"]["storageClassName"].as_str().unwrap()
}

/// The UID of the claim that a volume is for.
pub fn claim_of(volume: &Value) -> Option<&str> {
    volume["spec"]["claimRef"]["uid"].as_str()
}

/// The volume that a claim is bound to.
pub fn volume_of(claim: &Value) -> Option<&str> {
    claim["spec"]["volumeName"].as_str()
}

pub fn selected_node(claim: &Value) -> Option<&str> {
    claim["metadata"]["annotations"][SELECTED_NODE].as_str()
}

pub fn set_claim(volume: &mut Value, claim: &Value) {
    volume["spec"]["claimRef"] = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "default",
        "name": name(claim), "uid": uid(claim)});
}

pub fn bind(claim: &mut Value, volume: &mut Value) {
    claim["spec"]["volumeName"] = json!(name(volume));
    claim["metadata"]["annotations"][COMPLETED] = json!("yes");
    claim["status"]["phase"] = json!("Bound");
    volume["status"]["phase"] = json!("Bound");
}
