//! Pods and nodes as the simulation thinks of them, apart from the API's objects: what the scheduler did is judged by plain
//! arithmetic over these, not by code of its own.

use serde_json::{Value, json};

use super::claims;

pub const ZONE: &str = "topology.kubernetes.io/zone";
pub const HOSTNAME: &str = "kubernetes.io/hostname";
const TAINT: &str = "dedicated";

/// What a pod asks for.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    pub name: String,
    pub uid: String,
    pub milli_cpu: u64,
    pub mebibytes: u64,
    pub priority: i32,
    pub never_preempts: bool,
    /// Only nodes of this zone.
    pub zone: Option<&'static str>,
    pub tolerates: bool,
    pub app: Option<&'static str>,
    /// Not beside a pod of the same application.
    pub apart: bool,
    pub gang: Option<String>,
    /// A claim to devices that others may use, too.
    pub shared_claim: Option<&'static str>,
    /// So many devices by a claim that is made for it; 0: no such claim.
    pub own_devices: usize,
    /// Names of its claims to volumes.
    pub volumes: Vec<String>,
    /// When it is deleted it stays for a while, also if it has no node.
    pub finalizer: bool,
}

impl Demand {
    pub fn object(&self) -> Value {
        let requests = json!({"cpu": format!("{}m", self.milli_cpu), "memory": format!("{}Mi", self.mebibytes)});
        let mut spec = json!({"schedulerName": "default-scheduler", "priority": self.priority,
            "containers": [{"name": "c", "resources": {"requests": requests}}]});
        if self.never_preempts {
            spec["preemptionPolicy"] = json!("Never");
        }
        if let Some(zone) = self.zone {
            spec["nodeSelector"] = json!({ZONE: zone});
        }
        if self.tolerates {
            spec["tolerations"] = json!([{"key": TAINT, "operator": "Exists"}]);
        }
        if self.apart {
            let selector = json!({"matchLabels": {"app": self.app}});
            let term = json!({"topologyKey": HOSTNAME, "labelSelector": selector});
            spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        }
        if let Some(gang) = &self.gang {
            spec["schedulingGroup"] = json!({"podGroupName": gang});
        }
        let shared = self.shared_claim.map(|claim| json!({"name": "shared", "resourceClaimName": claim}));
        let template = (self.own_devices > 0).then(|| claims::template_name(self.own_devices));
        let own = template.map(|template| json!({"name": "own", "resourceClaimTemplateName": template}));
        if shared.is_some() || own.is_some() {
            spec["resourceClaims"] = shared.into_iter().chain(own).collect();
        }
        if !self.volumes.is_empty() {
            let volume = |claim: &String| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
            spec["volumes"] = self.volumes.iter().map(volume).collect();
        }
        let labels = self.app.map_or(json!({}), |app| json!({"app": app}));
        let metadata = json!({"name": self.name, "namespace": "default", "uid": self.uid, "labels": labels,
            "generation": 1});
        json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})
    }

    /// Whether one of them must not be where the other is.
    fn shuns(&self, other: &Demand) -> bool {
        (self.apart || other.apart) && self.app.is_some() && self.app == other.app
    }
}

/// What a node offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    pub milli_cpu: u64,
    pub mebibytes: u64,
    pub pods: usize,
    pub zone: &'static str,
    pub tainted: bool,
    pub cordoned: bool,
}

impl Machine {
    pub fn object(&self) -> Value {
        let labels = json!({ZONE: self.zone, HOSTNAME: self.name});
        let mut spec = json!({"unschedulable": self.cordoned});
        if self.tainted {
            spec["taints"] = json!([{"key": TAINT, "value": "yes", "effect": "NoSchedule"}]);
        }
        let allocatable = json!({"cpu": format!("{}m", self.milli_cpu), "memory": format!("{}Mi", self.mebibytes),
            "pods": self.pods.to_string()});
        json!({"metadata": {"name": self.name, "uid": format!("uid-{}", self.name), "labels": labels}, "spec": spec,
            "status": {"allocatable": allocatable}})
    }

    /// Whether pods like this may be here at all.
    pub fn admits(&self, pod: &Demand) -> bool {
        pod.zone.is_none_or(|zone| zone == self.zone) && (pod.tolerates || !self.tainted) && !self.cordoned
    }

    /// Whether so much is there.
    pub fn holds(&self, residents: &[&Demand]) -> bool {
        residents.len() <= self.pods
            && residents.iter().map(|pod| pod.milli_cpu).sum::<u64>() <= self.milli_cpu
            && residents.iter().map(|pod| pod.mebibytes).sum::<u64>() <= self.mebibytes
    }

    /// Whether there is a place for the pod beside these.
    pub fn takes(&self, pod: &Demand, residents: &[&Demand]) -> bool {
        let all: Vec<&Demand> = residents.iter().copied().chain([pod]).collect();
        self.admits(pod) && self.holds(&all) && !residents.iter().any(|resident| resident.shuns(pod))
    }
}
