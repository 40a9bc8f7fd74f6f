//! What the API says of devices, parsed once: which claims a pod has, and how far a claim is.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::PodResourceClaim, resource::v1 as api};

use super::{ConvertError, amount, containers, is_sidecar};
use crate::{
    device::{DeviceStatus, ResourceClaim},
    object,
    pod::{ClaimSource, ExtendedRequest, PodClaim},
    storage::Version,
};

/// Keeps a claim from vanishing as long as it has devices.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Of a claim that the scheduler has made for a pod's extended resources.
pub const EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";
/// Every class of devices is an extended resource of this name and its own.
pub(crate) const CLASS_PREFIX: &str = "deviceclass.resource.kubernetes.io/";

/// The claims of a pod. Those that are made for it are known by what its status says of them.
pub(super) fn pod_claims(pod: &object::Pod, spec: &object::PodSpec) -> Vec<PodClaim> {
    let claims = spec.resource_claims.iter().flatten();
    claims.map(|claim| PodClaim { name: claim.name.as_str().into(), source: source(pod, claim) }).collect()
}

fn source(pod: &object::Pod, claim: &PodResourceClaim) -> ClaimSource {
    if let Some(name) = &claim.resource_claim_name {
        return ClaimSource::Named(name.as_str().into());
    }
    if claim.resource_claim_template_name.is_none() {
        return ClaimSource::Unknown;
    }
    let mut made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    match made.find(|made| made.name == claim.name) {
        None => ClaimSource::Unmade,
        Some(made) => match &made.resource_claim_name {
            Some(name) => ClaimSource::Made(name.as_str().into()),
            None => ClaimSource::Spared,
        },
    }
}

/// What containers request of extended resources.
pub(super) fn extended_requests(spec: &object::PodSpec) -> Result<Vec<ExtendedRequest>, ConvertError> {
    let init_containers = spec.init_containers.as_ref().map_or(0, Vec::len);
    let mut all = Vec::new();
    for (index, container) in containers(spec).enumerate() {
        let requests = container.resources.iter().flat_map(|resources| resources.requests.iter().flatten());
        for (place, (name, text)) in requests.enumerate().filter(|(_, (name, _))| is_extended(name)) {
            let count = amount(name, text)?.value();
            if count > 0 {
                let (container_name, resource) = (container.name.as_str().into(), name.as_str().into());
                let brief = index < init_containers && !is_sidecar(container);
                all.push(ExtendedRequest { container: container_name, index, brief, place, resource, count });
            }
        }
    }
    Ok(all)
}

/// Whether devices may stand for a resource: it is none of Kubernetes' own, or is named after a class of devices.
fn is_extended(resource: &str) -> bool {
    let own = !resource.contains('/') || resource.contains("kubernetes.io/") || resource.starts_with("requests.");
    !own || resource.starts_with(CLASS_PREFIX)
}

/// A ResourceClaim of the API.
pub fn resource_claim(object: api::ResourceClaim) -> Result<ResourceClaim, ConvertError> {
    let meta = object.metadata;
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let status = object.status.unwrap_or_default();
    let timestamp = status.allocation.as_ref().and_then(|allocation| allocation.allocation_timestamp.as_ref());
    let owner = owner.map(|owner| owner.uid.as_str().into());
    let extended = meta.annotations.as_ref().and_then(|all| all.get(EXTENDED)).is_some_and(|value| value == "true");
    let devices = status.devices.unwrap_or_default().into_iter().map(|device| DeviceStatus {
        driver: device.driver.into(),
        pool: device.pool.into(),
        device: device.device.into(),
        conditions: device.conditions.unwrap_or_default(),
    });
    Ok(ResourceClaim {
        name: (meta.namespace.unwrap_or_default().into(), meta.name.ok_or(ConvertError::Missing("name"))?.into()),
        uid: meta.uid.ok_or(ConvertError::Missing("uid"))?.into(),
        version: Version(meta.resource_version.unwrap_or_default().into()),
        deleting: meta.deletion_timestamp.is_some(),
        owner,
        extended,
        spec: object.spec,
        allocated_at: timestamp.map(|time| time.0.as_second()),
        allocation: status.allocation.map(Arc::new),
        reserved_for: status.reserved_for.unwrap_or_default().into_iter().map(|consumer| consumer.uid.into()).collect(),
        devices: devices.collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pods_claim_has_the_name_that_it_has_or_was_given() {
        let check = |claim: Value, statuses: Value, expected: ClaimSource| {
            let object = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"resourceClaims": [claim]},
                "status": {"resourceClaimStatuses": statuses}});
            let pod = super::super::pod(&serde_json::from_value(object).unwrap()).unwrap();
            assert_eq!(pod.spec.claims, [PodClaim { name: "gpu".into(), source: expected }], "{claim} {statuses}");
        };
        let made = json!({"name": "gpu", "resourceClaimTemplateName": "t"});
        check(json!({"name": "gpu", "resourceClaimName": "c"}), Value::Null, ClaimSource::Named("c".into()));
        check(made.clone(), Value::Null, ClaimSource::Unmade);
        check(made.clone(), json!([{"name": "nic", "resourceClaimName": "p-nic"}]), ClaimSource::Unmade);
        check(made.clone(), json!([{"name": "gpu", "resourceClaimName": "p-gpu"}]), ClaimSource::Made("p-gpu".into()));
        check(made, json!([{"name": "gpu"}]), ClaimSource::Spared);
        check(json!({"name": "gpu"}), Value::Null, ClaimSource::Unknown);
    }
}
