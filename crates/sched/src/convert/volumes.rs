//! What of a pod's volumes can bind it to nodes.

use super::storage::{gce_handle, in_tree};
use crate::{
    object::{self, PodSpec},
    pod::{DiskKind, Volume},
    storage::{InTree, Source},
};

pub(super) fn of(object: &object::Pod, spec: &PodSpec) -> Vec<Volume> {
    let pod_name = object.metadata.name.as_deref().unwrap_or_default();
    spec.volumes.iter().flatten().filter_map(|volume| volume_of(pod_name, volume)).collect()
}

fn volume_of(pod_name: &str, volume: &object::Volume) -> Option<Volume> {
    if let Some(claim) = &volume.persistent_volume_claim {
        let (name, read_only) = (claim.claim_name.as_str().into(), claim.read_only.unwrap_or(false));
        return Some(Volume::Claim { name, ephemeral: false, read_only });
    }
    if volume.ephemeral.is_some() {
        let name = format!("{pod_name}-{}", volume.name).into();
        return Some(Volume::Claim { name, ephemeral: true, read_only: false });
    }
    if let Some(rbd) = &volume.rbd {
        let pool = rbd.pool.as_deref().unwrap_or("rbd");
        return Some(Volume::Rbd {
            monitors: rbd.monitors.iter().map(|monitor| monitor.as_str().into()).collect(),
            image: format!("{pool}/{}", rbd.image).into(),
            read_only: rbd.read_only.unwrap_or(false),
        });
    }
    disk(volume)
}

fn disk(volume: &object::Volume) -> Option<Volume> {
    let disk = |kind: DiskKind, id: &str, read_only: Option<bool>, source: Option<Source>| {
        Some(Volume::Disk { kind, id: id.into(), read_only: read_only.unwrap_or(false), source })
    };
    if let Some(gce) = &volume.gce_persistent_disk {
        let source = Source::InTree { plugin: InTree::GcePd, handle: gce_handle(&gce.pd_name, None).into() };
        return disk(DiskKind::GcePersistentDisk, &gce.pd_name, gce.read_only, Some(source));
    }
    let (aws, azure) = (volume.aws_elastic_block_store.as_ref(), volume.azure_disk.as_ref());
    let source = in_tree(aws, azure, volume.cinder.as_ref(), volume.portworx_volume.as_ref());
    if let Some(aws) = aws {
        return disk(DiskKind::AwsElasticBlockStore, &aws.volume_id, None, source);
    }
    if let Some(iscsi) = &volume.iscsi {
        return disk(DiskKind::Iscsi, &iscsi.iqn, iscsi.read_only, None);
    }
    // The others matter only where they are counted.
    let kind = match &source {
        Some(Source::InTree { plugin: InTree::AzureDisk, .. }) => DiskKind::AzureDisk,
        Some(Source::InTree { plugin: InTree::Cinder, .. }) => DiskKind::Cinder,
        Some(Source::InTree { plugin: InTree::Portworx, .. }) => DiskKind::Portworx,
        _ => return None,
    };
    disk(kind, "", None, source)
}
