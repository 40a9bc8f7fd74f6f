//! A node takes so many volumes of each CSI driver, as its CSINode says.
//!
//! A volume counts once on a node, whoever uses it there. One that is not made yet counts by its claim. Inline CSI volumes are
//! not attached and do not count; disks of in-tree plugins count as what their CSI drivers make of them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    plugins::claims,
    pod::Volume,
    storage::{Change, Claim, CsiNode, InTree, Name, Source, StorageEvent},
    world::{Volumes, World},
};

const EXCEEDED: &str = "node(s) exceed max volume count";

pub struct NodeVolumeLimits;

/// A volume that can be attached, and its driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attachable {
    driver: Arc<str>,
    handle: Handle,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Handle {
    Volume(Arc<str>),
    /// Of a volume that is not made yet.
    Claim(Name),
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let missing = |name: &Arc<str>| {
            let rejection = claims::find(pod, name, world).err()?;
            Some(format!("looking up PVC {}/{name}: {}", pod.namespace, rejection.text()))
        };
        if let Some(text) = pod.spec.volumes.iter().filter_map(|volume| volume.claim()).find_map(missing) {
            // Said of each node, since VolumeBinding has better words for the same and is asked later.
            let missing = Rejection::unresolvable(text);
            return Ok(PreFilter::by_node(move |_: &NodeInfo, _: &World| Err(missing.clone())));
        }
        let of = |volume| attachable(&pod.namespace, volume, &world.volumes);
        let wanted: HashSet<Attachable> = pod.spec.volumes.iter().filter_map(of).collect();
        if wanted.is_empty() {
            return Ok(PreFilter::default());
        }
        Ok(PreFilter::by_node(move |info: &NodeInfo, world: &World| {
            // Without a CSINode there are no limits; and no driver there stands in for an in-tree plugin.
            let Some(csi_node) = world.volumes.csi_node(&info.node.name) else { return Ok(()) };
            if within_limits(&wanted, csi_node, info, &world.volumes) {
                Ok(())
            } else {
                Err(Rejection::resolvable(EXCEEDED))
            }
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::PodRemoved(gone) => {
                gone.spec.volumes.iter().any(|volume| volume.claim().is_some() || volume.source().is_some())
            }
            Event::Storage(StorageEvent::CsiNode(change)) => allows_more(change),
            Event::Storage(StorageEvent::Claim(change)) => change.old.is_none() && claims::concerns(pod, change, true),
            Event::Storage(StorageEvent::Attachment(Change { old: Some(gone), new: None })) => {
                let attached = |volume: &Volume| match volume.source() {
                    Some(Source::InTree { plugin, .. }) => plugin.driver() == &*gone.attacher,
                    _ => volume.claim().is_some(),
                };
                pod.spec.volumes.iter().any(attached)
            }
            _ => false,
        }
    }
}

/// A new CSINode can; one that was there before, if one of its limits was raised.
fn allows_more(change: &Change<CsiNode>) -> bool {
    let Some(new) = &change.new else { return false };
    let Some(old) = &change.old else { return true };
    new.drivers.iter().any(|(driver, limit)| limit.unwrap_or(0) > old.limit(driver).unwrap_or(0))
}

fn within_limits(wanted: &HashSet<Attachable>, csi_node: &CsiNode, info: &NodeInfo, volumes: &Volumes) -> bool {
    let limited = |driver: &str| csi_node.limit(driver).is_some();
    if !wanted.iter().any(|wanted| limited(&wanted.driver)) {
        return true;
    }
    let held = info.volumes.iter().filter_map(|(namespace, volume)| attachable(namespace, volume, volumes));
    let held: HashSet<Attachable> = held.filter(|held| limited(&held.driver)).collect();
    let mut counts: HashMap<&Arc<str>, i64> = HashMap::new();
    for attachable in held.iter().chain(wanted.difference(&held)) {
        *counts.entry(&attachable.driver).or_default() += 1;
    }
    let of_drivers = volumes.attachments(&info.node.name).filter_map(|attachment| {
        let volume = volumes.volume(attachment.volume.as_ref()?)?;
        let Some(Source::Csi { handle, .. }) = &volume.source else { return None };
        Some(Attachable { driver: attachment.attacher.clone(), handle: Handle::Volume(handle.clone()) })
    });
    // Volumes may be attached for longer than pods use them.
    let left: HashSet<Attachable> = of_drivers.filter(|attached| !held.contains(attached)).collect();
    for attached in &left {
        *counts.entry(&attached.driver).or_default() += 1;
    }
    let new: HashSet<&Arc<str>> = wanted.difference(&held).map(|wanted| &wanted.driver).collect();
    new.into_iter().all(|driver| csi_node.limit(driver).is_none_or(|limit| counts[driver] <= limit))
}

fn attachable(namespace: &Arc<str>, volume: &Volume, volumes: &Volumes) -> Option<Attachable> {
    if let Some(source) = volume.source() {
        return Some(of_source(source));
    }
    let claim = volumes.claim(&(namespace.clone(), volume.claim()?.clone()))?;
    match claim.volume.as_ref().and_then(|volume| volumes.volume(volume)) {
        Some(volume) => volume.source.as_ref().map(of_source),
        None => of_class(claim, volumes),
    }
}

fn of_source(source: &Source) -> Attachable {
    let (driver, handle) = match source {
        Source::Csi { driver, handle } => (driver.clone(), handle),
        Source::InTree { plugin, handle } => (plugin.driver().into(), handle),
    };
    Attachable { driver, handle: Handle::Volume(handle.clone()) }
}

/// A volume that its class's provisioner will make.
fn of_class(claim: &Claim, volumes: &Volumes) -> Option<Attachable> {
    let provisioner = &volumes.class(&claim.class)?.provisioner;
    let in_tree = InTree::of_provisioner(provisioner).map(|plugin| plugin.driver().into());
    let driver = in_tree.unwrap_or_else(|| provisioner.clone());
    Some(Attachable { driver, handle: Handle::Claim(claim.name.clone()) })
}
