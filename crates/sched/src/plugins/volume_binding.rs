//! The volumes of a pod's claims must be reachable from its node. Claims that wait for their first user get their volumes with
//! the node: one that is there already, or one that is made for that node.
//!
//! What was found for a node is found again when the node is reserved, and promised to the pod from then on until it is
//! bound; the API is told before the binding.

mod progress;
mod request;

use std::{sync::Arc, time::Duration};

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    plugins::claims,
    pre_bind::{PreBind, Progress, Write},
    storage::{Capacity, Change, ClaimRef, CsiDriver, StorageEvent},
    world::{Held, HeldClaim, HeldVolume, NodeId, World},
};
use request::{Found, Request};

/// How its failures before the binding begin.
const BINDING: &str = "binding volumes: ";

/// VolumeBindingArgs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// How long claims may take to be bound before the pod is tried again.
    pub bind_timeout: Duration,
}

impl Default for Args {
    fn default() -> Self {
        Args { bind_timeout: Duration::from_secs(600) }
    }
}

pub struct VolumeBinding {
    bind_timeout: Duration,
}

impl VolumeBinding {
    pub fn new(args: &Args) -> Self {
        VolumeBinding { bind_timeout: args.bind_timeout }
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &str {
        "VolumeBinding"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::Reserve, Point::PreBind]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let Some(request) = Request::of(pod, world)? else { return Ok(PreFilter::default()) };
        Ok(PreFilter::by_node(move |info: &NodeInfo, world: &World| request.find(&info.node, world).map(|_| ())))
    }

    fn reserve(&mut self, pod: &Pod, node: NodeId, world: &mut World) -> Result<(), Rejection> {
        if pod.spec.volumes.is_empty() {
            return Ok(());
        }
        let Some(request) = Request::of(pod, world)? else { return Ok(()) };
        if request.is_bound() {
            return Ok(());
        }
        let node = world.info(node).node.clone();
        let found = request.find(&node, world)?;
        world.volumes.promise(&pod.uid, held(found, &node.name));
        Ok(())
    }

    fn unreserve(&mut self, pod: &Pod, _node: &str, world: &mut World) {
        world.volumes.release(&pod.uid);
    }

    fn pre_bind(&self, pod: &Pod, world: &World) -> PreBind {
        let Some(held) = world.volumes.held(&pod.uid) else { return PreBind::default() };
        let volumes = held.volumes.iter().filter_map(|held| bind_volume(held, world));
        let claims = held.claims.iter().filter_map(|held| select_node(held, world));
        PreBind { writes: volumes.chain(claims).collect(), wait: Some(self.bind_timeout), tells: Vec::new() }
    }

    fn pre_bound(&self, pod: &Pod, node: &str, world: &World) -> Progress {
        match world.volumes.held(&pod.uid).map_or(Progress::Done, |held| progress::of(held, node, world)) {
            Progress::Failed(why) => Progress::Failed(format!("{BINDING}{why}")),
            progress => progress,
        }
    }

    fn waited_in_vain(&self) -> String {
        format!("{BINDING}timed out waiting for the condition")
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { old, new } => old.labels != new.labels,
            // A placement was undone, and what was promised with it is free again.
            Event::PodRemoved(gone) => {
                gone.node_name.is_none() && gone.spec.volumes.iter().any(|volume| volume.claim().is_some())
            }
            Event::Storage(event) => storage_helps(pod, event),
            _ => false,
        }
    }
}

fn storage_helps(pod: &Pod, event: &StorageEvent) -> bool {
    match event {
        StorageEvent::Claim(change) => claims::concerns(pod, change, true),
        StorageEvent::Volume(change) => change.new.is_some(),
        StorageEvent::Class(change) => match (&change.old, &change.new) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => old.topologies != new.topologies,
        },
        StorageEvent::CsiNode(change) => match (&change.old, &change.new) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => old.migrated != new.migrated,
        },
        StorageEvent::CsiDriver(change) => {
            let tells = |driver: &Option<Arc<CsiDriver>>| driver.as_ref().is_some_and(|driver| driver.tells_capacity);
            tells(&change.old) && !tells(&change.new)
        }
        StorageEvent::Capacity(change) => has_more_room(change),
        StorageEvent::Attachment(_) => false,
    }
}

fn has_more_room(change: &Change<Capacity>) -> bool {
    match (&change.old, &change.new) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => new.limit > old.limit,
    }
}

fn held(found: Found, node: &Arc<str>) -> Held {
    let volumes = found.volumes.into_iter().map(|(volume, claim)| HeldVolume {
        volume: volume.name.clone(),
        claim: ClaimRef { name: claim.name.clone(), uid: Some(claim.uid.clone()) },
    });
    let claims = found.to_make.into_iter().map(|claim| HeldClaim {
        claim: claim.name.clone(),
        uid: claim.uid.clone(),
        node: node.clone(),
    });
    Held { volumes: volumes.collect(), claims: claims.collect() }
}

/// `None`: the API says so already.
fn bind_volume(held: &HeldVolume, world: &World) -> Option<Write> {
    let volume = world.volumes.volume(&held.volume)?;
    if volume.claim.as_ref() == Some(&held.claim) {
        return None;
    }
    Some(Write::BindVolume {
        volume: held.volume.clone(),
        uid: volume.uid.clone(),
        version: volume.version.clone(),
        claim: held.claim.name.clone(),
        claim_uid: held.claim.uid.clone()?,
        by_controller: volume.claim.is_none(),
    })
}

fn select_node(held: &HeldClaim, world: &World) -> Option<Write> {
    let claim = world.volumes.claim(&held.claim)?;
    if claim.selected_node.as_ref() == Some(&held.node) {
        return None;
    }
    Some(Write::SelectNode {
        claim: held.claim.clone(),
        uid: held.uid.clone(),
        version: claim.version.clone(),
        node: held.node.clone(),
    })
}
