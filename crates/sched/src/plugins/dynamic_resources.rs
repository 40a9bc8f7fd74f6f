//! A pod's claims to devices must be met on its node. A claim that is allocated must be usable there; any other gets devices with
//! the node, and the pod is entered as a user of each before it is bound.
//!
//! What was found for a node is found again when the node is reserved, and promised to the pod ([`crate::world::Devices`]). Nobody
//! else uses a claim before its promise has come true, but the pods of the same gang: they are placed in one step.

mod claims;
mod extended;
mod request;
mod score;

use std::{sync::Arc, time::Duration};

use crate::{
    NodeInfo, Pod,
    device::{self, DeviceEvent, Readiness, ResourceClaim, must_get_ready},
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PostFilter, PreFilter, PreScore, Unplaced},
    pre_bind::{PreBind, Progress, Write},
    storage::Change,
    world::{NodeId, World},
};
use extended::Extended;
use request::{Request, UNAVAILABLE};

/// DynamicResourcesArgs, and what feature gates say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// How long devices may take to get ready for a pod; `None`: nobody waits for them.
    pub binding_timeout: Option<Duration>,
    /// Claims may name alternatives (`firstAvailable`).
    pub prioritized_list: bool,
}

impl Default for Args {
    fn default() -> Self {
        Args { binding_timeout: Some(Duration::from_secs(600)), prioritized_list: true }
    }
}

pub struct DynamicResources {
    args: Args,
}

impl DynamicResources {
    pub fn new(args: &Args) -> Self {
        DynamicResources { args: args.clone() }
    }
}

/// Whether a pod can want devices.
fn concerns(pod: &Pod) -> bool {
    !pod.spec.claims.is_empty() || !pod.spec.extended.is_empty()
}

fn delete(claim: &ResourceClaim) -> Write {
    Write::DeleteClaim { claim: claim.name.clone(), uid: claim.uid.clone() }
}

/// Whether a claim that is allocated cannot be used because of its devices: they failed, or did not get ready in time.
fn is_spoilt(timeout: Option<Duration>, claim: &ResourceClaim, world: &World) -> bool {
    let Some(timeout) = timeout else { return false };
    match claim.readiness() {
        Readiness::Ready => false,
        Readiness::Failed(_) => true,
        Readiness::Pending => is_overdue(timeout, claim, world),
    }
}

fn is_overdue(timeout: Duration, claim: &ResourceClaim, world: &World) -> bool {
    let since = claim.allocated_at.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    since.is_some_and(|since| since + timeout < world.unix_time())
}

impl Plugin for DynamicResources {
    fn name(&self) -> &str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        &[
            Point::PreEnqueue,
            Point::PreFilter,
            Point::Filter,
            Point::PostFilter,
            Point::Score,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn pre_enqueue(&self, pod: &Pod, world: &World) -> Result<(), Rejection> {
        if pod.spec.claims.is_empty() {
            return Ok(());
        }
        claims::of(pod, world).map(drop)
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        if !concerns(pod) {
            return Ok(PreFilter::default());
        }
        let Some(request) = Request::of(pod, &self.args, world)? else { return Ok(PreFilter::default()) };
        let filter = move |info: &NodeInfo, world: &World| request.find(&info.node, world).map(drop);
        Ok(PreFilter { own: true, ..PreFilter::by_node(filter) })
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        if pod.spec.claims.is_empty() || !self.args.prioritized_list {
            return PreScore::default();
        }
        match Request::of(pod, &self.args, world) {
            Ok(Some(request)) if request.leaves_a_choice() => PreScore::by_group(score::by_choice(request)),
            _ => PreScore::default(),
        }
    }

    fn post_filter(&self, pod: &Pod, Unplaced { diagnosis, .. }: &Unplaced<'_>, world: &World) -> PostFilter {
        let claims = claims::of(pod, world).unwrap_or_default();
        let extended = Extended::of(pod, world);
        if (claims.is_empty() && extended.is_none()) || diagnosis.before_nodes.is_some() {
            return PostFilter::Says("no new claims to deallocate".into());
        }
        let unavailable = diagnosis.rejected.iter().any(|rejected| rejected.rejection.reasons == [UNAVAILABLE]);
        let in_the_way = |claim: &&&Arc<ResourceClaim>| {
            let Some(allocation) = &claim.allocation else { return false };
            let reaches = |info: &NodeInfo| device::about(&info.node, |node| devices::reaches(allocation, node));
            claim.is_unused_but_by(&pod.uid)
                && (is_spoilt(self.args.binding_timeout, claim, world) || !world.nodes().all(reaches))
        };
        match claims.iter().filter(|_| unavailable).find(in_the_way) {
            Some(claim) => {
                let (name, uid, version) = (claim.name.clone(), claim.uid.clone(), claim.version.clone());
                let write = Write::DeallocateClaim { claim: name, uid, version };
                PostFilter::Writes(write, "deallocation of ResourceClaim completed".into())
            }
            None => match extended.and_then(|extended| extended.left) {
                Some(left) => PostFilter::Writes(delete(&left), "deletion of ResourceClaim completed".into()),
                None => PostFilter::Says("still not schedulable".into()),
            },
        }
    }

    fn reserve(&mut self, pod: &Pod, node: NodeId, world: &mut World) -> Result<(), Rejection> {
        if !concerns(pod) {
            return Ok(());
        }
        let Some(request) = Request::of(pod, &self.args, world)? else { return Ok(()) };
        let node = world.info(node).node.clone();
        let found = request.find(&node, world)?;
        let promises = request.promises(found.allocations);
        world.devices.promise(&pod.uid, claims::gang(pod).as_ref(), promises);
        if let Some(claim) = found.extended {
            world.devices.promise_extended(&pod.uid, &pod.namespace, claim);
        }
        Ok(())
    }

    fn unreserve(&mut self, pod: &Pod, _node: &str, world: &mut World) {
        if concerns(pod) {
            world.devices.release(&pod.uid);
        }
    }

    fn pre_bind(&self, pod: &Pod, world: &World) -> PreBind {
        let mut pre_bind = PreBind::default();
        for claim in claims::of(pod, world).unwrap_or_default() {
            let promised = world.devices.promise_for(claim).map(|promised| &promised.allocation);
            let Some(allocation) = claim.allocation.as_ref().or(promised) else { continue };
            if self.args.binding_timeout.is_some() && must_get_ready(allocation) {
                pre_bind.wait = self.args.binding_timeout;
            }
            if !claim.is_reserved_for(&pod.uid) {
                let (name, uid, allocation) = (claim.name.clone(), claim.uid.clone(), allocation.clone());
                let allocate = claim.allocation.is_none();
                pre_bind.writes.push(Write::ReserveClaim { claim: name, uid, allocation, allocate });
            }
        }
        if let Some(claim) = world.devices.to_make(&pod.uid) {
            if self.args.binding_timeout.is_some() && must_get_ready(&claim.allocation) {
                pre_bind.wait = self.args.binding_timeout;
            }
            pre_bind.writes.push(Write::MakeClaim(claim.clone()));
        }
        if pre_bind.wait.is_some()
            && let Some((_, node)) = world.placed(&pod.uid)
        {
            let note = format!("waiting for binding conditions for device on node {}", world.info(node).node.name);
            pre_bind.tells.push(("BindingConditionsPending", note));
        }
        pre_bind
    }

    fn pre_bound(&self, pod: &Pod, _node: &str, world: &World) -> Progress {
        let Some(timeout) = self.args.binding_timeout.filter(|_| concerns(pod)) else {
            return Progress::Done;
        };
        let mut claims = match claims::of(pod, world) {
            Ok(claims) => claims,
            Err(rejection) => return Progress::Failed(rejection.text()),
        };
        claims.extend(world.devices.made_for(&pod.uid));
        let mut all = Progress::Done;
        for claim in claims {
            match claim.readiness() {
                Readiness::Failed(why) => return Progress::Failed(why),
                Readiness::Pending if is_overdue(timeout, claim, world) => {
                    return Progress::Failed(format!("device binding timeout: claim={}", claim.name.1));
                }
                Readiness::Ready if claim.allocation.is_some() => {}
                // The first of what the API shows of it may come later than the answer to the write.
                Readiness::Pending | Readiness::Ready => all = Progress::Waiting,
            }
        }
        all
    }

    fn waited_in_vain(&self) -> String {
        "device binding timeout: context deadline exceeded".to_owned()
    }

    fn take_back(&self, pod: &Pod, world: &World) -> Vec<Write> {
        let own = claims::there(pod, world).filter(|claim| {
            // What was begun may have happened, though its answer was lost.
            claim.is_reserved_for(&pod.uid) || world.devices.was_begun(&pod.uid)
        });
        let own = own.map(|claim| Write::UnreserveClaim { claim: claim.name.clone(), uid: claim.uid.clone() });
        own.chain(world.devices.made_for(&pod.uid).map(|claim| delete(claim))).collect()
    }

    fn helps(&self, pod: &Pod, event: &Event, world: &World) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { old, new } => old.labels != new.labels || old.allocatable != new.allocatable,
            // A placement was undone, and the devices that were promised with it are free again.
            Event::PodRemoved(gone) => gone.node_name.is_none() && concerns(gone),
            Event::Devices(DeviceEvent::Claim(change)) => claim_helps(pod, change, world),
            Event::Devices(DeviceEvent::Class { there } | DeviceEvent::Slice { there }) => *there,
            _ => false,
        }
    }
}

fn claim_helps(pod: &Pod, change: &Change<ResourceClaim>, world: &World) -> bool {
    let Ok(own) = claims::of(pod, world) else { return false };
    let was_allocated = change.old.as_ref().is_some_and(|old| old.allocation.is_some());
    if was_allocated && change.new.as_ref().is_none_or(|new| new.allocation.is_none()) {
        // Its devices are free for others.
        return true;
    }
    if change.old.as_ref().is_some_and(|old| old.extended && old.owner.as_ref() == Some(&pod.uid)) {
        // What an earlier attempt has left is gone.
        return change.new.is_none();
    }
    let Some(new) = change.new.as_ref().filter(|new| own.iter().any(|claim| claim.uid == new.uid)) else {
        return false;
    };
    let before = change.old.as_ref().filter(|old| old.uid == new.uid);
    before.is_none_or(|old| !new.has_status_of(old))
}
