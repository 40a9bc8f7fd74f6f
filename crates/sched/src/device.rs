//! What scheduling needs to know of devices: the claims to them, how far a claim's devices are, and what changes.
//!
//! Which devices suit a claim is crate `devices`' business.

use std::sync::Arc;

use devices::NodeFacts;
use k8s_openapi::{
    api::resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaimSpec},
    apimachinery::pkg::apis::meta::v1::Condition,
};

use crate::{
    Node,
    storage::{Change, Name, Version},
};

/// So many consumers a claim takes: the API refuses more.
pub const MAX_CONSUMERS: usize = 256;

/// A ResourceClaim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceClaim {
    pub name: Name,
    pub uid: Arc<str>,
    pub version: Version,
    pub deleting: bool,
    /// The uid of the pod that it was made for, or of another controller.
    pub owner: Option<Arc<str>>,
    /// The scheduler has made it for the extended resources of its owner.
    pub extended: bool,
    pub spec: ResourceClaimSpec,
    pub allocation: Option<Arc<AllocationResult>>,
    /// When it was allocated, in seconds since 1970.
    pub allocated_at: Option<i64>,
    /// The uids of those that may use it.
    pub reserved_for: Vec<Arc<str>>,
    pub devices: Vec<DeviceStatus>,
}

/// What a driver says of an allocated device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceStatus {
    pub driver: Arc<str>,
    pub pool: Arc<str>,
    pub device: Arc<str>,
    pub conditions: Vec<Condition>,
}

/// Whether allocated devices can be used (KEP-5007).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    Pending,
    Failed(String),
}

impl ResourceClaim {
    pub fn is_reserved_for(&self, pod: &str) -> bool {
        self.reserved_for.iter().any(|consumer| **consumer == *pod)
    }

    /// Whether nobody but this pod uses it.
    pub fn is_unused_but_by(&self, pod: &str) -> bool {
        self.reserved_for.iter().all(|consumer| **consumer == *pod)
    }

    /// Whether its status is that of the other.
    pub fn has_status_of(&self, other: &Self) -> bool {
        self.allocation == other.allocation && self.reserved_for == other.reserved_for && self.devices == other.devices
    }

    /// Whether one of its requests leaves a choice (`firstAvailable`).
    pub fn leaves_a_choice(&self) -> bool {
        requests(&self.spec).any(|request| request.first_available.as_ref().is_some_and(|all| !all.is_empty()))
    }

    /// Whether all conditions that its devices must meet before the pod is bound are true, and none that tells of failure.
    pub fn readiness(&self) -> Readiness {
        for result in self.allocation.iter().flat_map(|allocation| results(allocation)) {
            let conditions = result.binding_conditions.as_deref().unwrap_or_default();
            if conditions.is_empty() {
                continue;
            }
            let Some(status) = self.status_of(result) else { return Readiness::Pending };
            let truth = |kind: &String| status.conditions.iter().find(|c| c.type_ == *kind && c.status == "True");
            if let Some(failure) = result.binding_failure_conditions.iter().flatten().find_map(truth) {
                let (claim, reason, message) = (&self.name.1, &failure.reason, &failure.message);
                let why = format!("device binding failed: claim={claim}, reason={reason}, message={message:?}");
                return Readiness::Failed(why);
            }
            if !conditions.iter().all(|kind| truth(kind).is_some()) {
                return Readiness::Pending;
            }
        }
        Readiness::Ready
    }

    fn status_of(&self, result: &DeviceRequestAllocationResult) -> Option<&DeviceStatus> {
        let is = |status: &&DeviceStatus| {
            *status.driver == *result.driver && *status.pool == *result.pool && *status.device == *result.device
        };
        self.devices.iter().find(is)
    }

    /// Whether this is an older state of what the other is.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let number = |claim: &Self| claim.version.0.parse::<u64>().ok();
        self.uid == other.uid && number(self) < number(other)
    }
}

/// A claim that is to be made for the extended resources of a pod (KEP-5004).
#[derive(Clone, Debug, PartialEq)]
pub struct ExtendedClaim {
    pub spec: ResourceClaimSpec,
    pub allocation: Arc<AllocationResult>,
    pub mappings: Vec<Mapping>,
}

/// The request of such a claim that stands for a container's resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub container: Arc<str>,
    pub resource: Arc<str>,
    pub request: String,
}

/// The requests of a claim.
pub fn requests(spec: &ResourceClaimSpec) -> impl Iterator<Item = &k8s_openapi::api::resource::v1::DeviceRequest> {
    spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten())
}

/// The devices of an allocation.
pub fn results(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten())
}

/// Whether devices of the allocation have to get ready before a pod is bound.
pub fn must_get_ready(allocation: &AllocationResult) -> bool {
    results(allocation).any(|result| result.binding_conditions.as_ref().is_some_and(|all| !all.is_empty()))
}

/// Asks something about a node in the words of crate `devices`.
pub fn about<T>(node: &Node, ask: impl FnOnce(&NodeFacts<'_>) -> T) -> T {
    let labels = |key: &str| node.label(key).map(|value| &**value);
    ask(&NodeFacts { name: &node.name, labels: &labels })
}

/// An object that devices are about has changed.
#[derive(Clone, Debug)]
pub enum DeviceEvent {
    Claim(Change<ResourceClaim>),
    /// A class is there, new or changed; or gone.
    Class {
        there: bool,
    },
    /// A slice, likewise.
    Slice {
        there: bool,
    },
}

impl DeviceEvent {
    /// kube-scheduler's name of it.
    pub fn label(&self) -> &'static str {
        match self {
            DeviceEvent::Claim(change) => {
                change.label(["ResourceClaimAdd", "ResourceClaimUpdate", "ResourceClaimDelete"])
            }
            DeviceEvent::Class { there: true } => "DeviceClassUpdate",
            DeviceEvent::Class { there: false } => "DeviceClassDelete",
            DeviceEvent::Slice { there: true } => "ResourceSliceUpdate",
            DeviceEvent::Slice { there: false } => "ResourceSliceDelete",
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::ResourceClaim as ApiClaim;
    use serde_json::{Value, json};

    use super::*;
    use crate::convert::device::resource_claim;

    #[test]
    fn devices_are_ready_when_their_conditions_say_so() {
        let check = |results: Value, devices: Value, expected: Readiness| {
            let object = json!({"metadata": {"name": "c", "uid": "u"}, "spec": {}, "status": {
                "allocation": {"devices": {"results": results}}, "devices": devices}});
            let object: ApiClaim = serde_json::from_value(object).unwrap();
            assert_eq!(resource_claim(object).unwrap().readiness(), expected, "{results} {devices}");
        };
        let result = |device: &str, more: Value| {
            let mut result = json!({"driver": "d", "pool": "p", "device": device, "request": "r"});
            result.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            result
        };
        let asks = json!({"bindingConditions": ["up", "wired"], "bindingFailureConditions": ["broken"]});
        let status = |conditions: &[(&str, &str)]| {
            let conditions = conditions.iter().map(|(kind, status)| {
                json!({"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
            });
            json!({"driver": "d", "pool": "p", "device": "x", "conditions": conditions.collect::<Vec<_>>()})
        };
        let plain = json!([result("x", json!({}))]);
        let asking = json!([result("x", asks)]);
        check(plain, Value::Null, Readiness::Ready);
        check(asking.clone(), Value::Null, Readiness::Pending);
        check(asking.clone(), json!([status(&[("up", "True")])]), Readiness::Pending);
        check(asking.clone(), json!([status(&[("up", "True"), ("wired", "False")])]), Readiness::Pending);
        check(asking.clone(), json!([status(&[("up", "True"), ("wired", "True")])]), Readiness::Ready);
        check(
            asking.clone(),
            json!([status(&[("up", "True"), ("wired", "True"), ("broken", "False")])]),
            Readiness::Ready,
        );
        let why = "device binding failed: claim=c, reason=R, message=\"m\"";
        check(asking, json!([status(&[("broken", "True")])]), Readiness::Failed(why.to_owned()));
    }
}
