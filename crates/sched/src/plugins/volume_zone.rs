//! A volume that is bound already is in a zone or region, by its labels; so must be the node.

use std::sync::Arc;

use crate::{
    NodeInfo, Pod,
    convert::storage::ZONES_DELIMITER,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    labels::{self, Labels},
    plugins::claims,
    storage::{BindingMode, Claim, PersistentVolume, StorageEvent},
    world::World,
};

const CONFLICT: &str = "node(s) had no available volume zone";
/// Labels of volumes and nodes, and what the beta ones are called now.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

pub struct VolumeZone;

/// A label that a node must have, by either name, and its values.
type Place = (&'static str, &'static str, Vec<Arc<str>>);

impl Plugin for VolumeZone {
    fn name(&self) -> &str {
        "VolumeZone"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let mut places = Vec::new();
        for name in pod.spec.volumes.iter().filter_map(|volume| volume.standing_claim()) {
            if name.is_empty() {
                return Err(Rejection::unresolvable("PersistentVolumeClaim had no name"));
            }
            let claim = claims::find(pod, name, world)?;
            match &claim.volume {
                None => unbound(claim, world)?,
                Some(volume) => {
                    let missing = || Rejection::unresolvable(format!("persistentvolume {volume:?} not found"));
                    places.extend(places_of(world.volumes.volume(volume).ok_or_else(missing)?));
                }
            }
        }
        if places.is_empty() {
            return Ok(PreFilter::default());
        }
        Ok(PreFilter::by_node(move |info: &NodeInfo, _: &World| {
            if admits(&places, &info.node.labels) { Ok(()) } else { Err(Rejection::unresolvable(CONFLICT)) }
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { old, new } => old.labels != new.labels,
            Event::Storage(StorageEvent::Class(change)) => {
                let waits = |mode: Option<BindingMode>| mode == Some(BindingMode::WaitForFirstConsumer);
                change.old.is_none() && change.new.as_ref().is_some_and(|class| waits(class.binding))
            }
            Event::Storage(StorageEvent::Claim(change)) => claims::concerns(pod, change, false),
            Event::Storage(StorageEvent::Volume(change)) => match (&change.old, &change.new) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => places_of(old) != places_of(new),
            },
            _ => false,
        }
    }
}

/// A claim without a volume will be somewhere that suits the node, if it waits for one.
fn unbound(claim: &Claim, world: &World) -> Result<(), Rejection> {
    let name = &claim.class;
    if name.is_empty() {
        return Err(Rejection::unresolvable("PersistentVolumeClaim had no pv name and storageClass name"));
    }
    let Some(class) = world.volumes.class(name) else {
        return Err(Rejection::unresolvable(format!("storageclass.storage.k8s.io {name:?} not found")));
    };
    match class.binding {
        Some(BindingMode::WaitForFirstConsumer) => Ok(()),
        Some(BindingMode::Immediate) => Err(Rejection::unresolvable("PersistentVolume had no name")),
        None => Err(Rejection::unresolvable(format!("VolumeBindingMode not set for StorageClass {name:?}"))),
    }
}

fn places_of(volume: &PersistentVolume) -> Vec<Place> {
    let named = LABELS.into_iter().filter_map(|(label, now)| Some((label, now, labels::value(&volume.labels, label)?)));
    let read = named.filter_map(|(label, now, value)| {
        let values: Vec<Arc<str>> = value.split(ZONES_DELIMITER).map(|zone| zone.trim().into()).collect();
        // A label that cannot be read is as good as none.
        let readable = values.iter().all(|zone| !zone.is_empty());
        readable.then_some((label, now, values))
    });
    read.collect()
}

fn admits(places: &[Place], node: &Labels) -> bool {
    // Where nodes have no zones, there is one for all.
    if LABELS.iter().all(|(label, _)| labels::value(node, label).is_none()) {
        return true;
    }
    places.iter().all(|(label, now, values)| {
        let own = labels::value(node, label).or_else(|| labels::value(node, now));
        own.is_some_and(|own| values.contains(own))
    })
}
