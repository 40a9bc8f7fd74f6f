//! What of a pod's volumes and resource claims can bind it to nodes.

use std::sync::Arc;

use crate::{
    object::{self, PodSpec},
    pod::{DiskKind, Volume},
};

pub(super) fn of(object: &object::Pod, spec: &PodSpec) -> Vec<Volume> {
    let pod_name = object.metadata.name.as_deref().unwrap_or_default();
    spec.volumes.iter().flatten().filter_map(|volume| volume_of(pod_name, volume)).collect()
}

fn volume_of(pod_name: &str, volume: &object::Volume) -> Option<Volume> {
    let disk = |kind: DiskKind, id: String, read_only: Option<bool>| {
        Some(Volume::Disk { kind, id: id.into(), read_only: read_only.unwrap_or(false) })
    };
    if let Some(claim) = &volume.persistent_volume_claim {
        let (name, read_only) = (claim.claim_name.as_str().into(), claim.read_only.unwrap_or(false));
        return Some(Volume::Claim { name, ephemeral: false, read_only });
    }
    if volume.ephemeral.is_some() {
        let name = format!("{pod_name}-{}", volume.name).into();
        return Some(Volume::Claim { name, ephemeral: true, read_only: false });
    }
    if let Some(gce) = &volume.gce_persistent_disk {
        return disk(DiskKind::GcePersistentDisk, gce.pd_name.clone(), gce.read_only);
    }
    if let Some(aws) = &volume.aws_elastic_block_store {
        // Not even readers share one.
        return disk(DiskKind::AwsElasticBlockStore, aws.volume_id.clone(), Some(false));
    }
    if let Some(iscsi) = &volume.iscsi {
        return disk(DiskKind::Iscsi, iscsi.iqn.clone(), iscsi.read_only);
    }
    if let Some(rbd) = &volume.rbd {
        let mut monitors = rbd.monitors.clone();
        monitors.sort_unstable();
        let pool = rbd.pool.as_deref().unwrap_or("rbd");
        return disk(DiskKind::Rbd, format!("{}/{pool}/{}", monitors.join(","), rbd.image), rbd.read_only);
    }
    volume.csi.as_ref().map(|csi| Volume::Csi { driver: csi.driver.as_str().into() })
}

/// The names of the pod's ResourceClaims, as far as they are known.
pub(super) fn claims(object: &object::Pod, spec: &PodSpec) -> Vec<Arc<str>> {
    let status = object.status.as_ref();
    let made: Vec<_> = status.into_iter().flat_map(|s| s.resource_claim_statuses.iter().flatten()).collect();
    let named = spec.resource_claims.iter().flatten().filter_map(|claim| {
        let made =
            || made.iter().find(|made| made.name == claim.name).and_then(|made| made.resource_claim_name.as_deref());
        claim.resource_claim_name.as_deref().or_else(made).map(Into::into)
    });
    named.collect()
}
