//! A disk that a pod writes to is on a node once, and a claim with the access mode ReadWriteOncePod has one user anywhere.

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    plugins::claims,
    storage::{Name, StorageEvent},
    world::World,
};

const DISK_CONFLICT: &str = "node(s) had no available disk";
const CLAIM_IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use \
                            by another pod";

pub struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &str {
        "VolumeRestrictions"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let mut exclusive: Vec<Name> = Vec::new();
        for name in pod.spec.volumes.iter().filter_map(|volume| volume.standing_claim()) {
            let claim = claims::find(pod, name, world)?;
            if claim.is_exclusive() && !exclusive.contains(&claim.name) {
                exclusive.push(claim.name.clone());
            }
        }
        let has_disks = pod.spec.volumes.iter().any(|volume| volume.can_conflict());
        // Who uses a claim changes with pods on all nodes: the plan is dropped when it does.
        exclusive.retain(|claim| world.volumes.users(claim) > 0);
        if exclusive.is_empty() && !has_disks {
            return Ok(PreFilter::default());
        }
        let spec = pod.spec.clone();
        Ok(PreFilter::by_node(move |info: &NodeInfo, world: &World| {
            let taken = |(_, other)| spec.volumes.iter().any(|volume| volume.conflicts(other));
            if has_disks && info.volumes.iter().map(|(namespace, other)| (namespace, other)).any(taken) {
                return Err(Rejection::resolvable(DISK_CONFLICT));
            }
            // Asked anew, since preemption takes pods off to see what would be.
            if exclusive.iter().any(|claim| world.volumes.users(claim) > 0) {
                return Err(Rejection::resolvable(CLAIM_IN_USE));
            }
            Ok(())
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::PodRemoved(gone) => {
                let own = |other| pod.spec.volumes.iter().any(|volume| volume.conflicts(other));
                let shares = |other: &Pod| {
                    let mut theirs = other.spec.volumes.iter().filter_map(|volume| volume.standing_claim());
                    theirs.any(|claim| pod.spec.volumes.iter().any(|volume| volume.standing_claim() == Some(claim)))
                };
                gone.spec.volumes.iter().any(own) || (gone.namespace == pod.namespace && shares(gone))
            }
            Event::Storage(StorageEvent::Claim(change)) => {
                // Modes do not change, so only a new claim says anything new.
                change.old.is_none() && claims::concerns(pod, change, false)
            }
            _ => false,
        }
    }
}
