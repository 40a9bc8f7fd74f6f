//! A pod's claims, as the volume plugins look for them.

use std::sync::Arc;

use crate::{
    Pod,
    diagnosis::Rejection,
    storage::{Change, Claim, Name},
    world::World,
};

pub fn full_name(pod: &Pod, claim: &Arc<str>) -> Name {
    (pod.namespace.clone(), claim.clone())
}

pub fn find<'a>(pod: &Pod, claim: &Arc<str>, world: &'a World) -> Result<&'a Arc<Claim>, Rejection> {
    let found = world.volumes.claim(&full_name(pod, claim));
    found.ok_or_else(|| Rejection::unresolvable(format!("persistentvolumeclaim {claim:?} not found")))
}

/// Whether a change is one of a claim of the pod that is there now. Those that are made for the pod count if asked for.
pub fn concerns(pod: &Pod, change: &Change<Claim>, ephemeral: bool) -> bool {
    let Some(claim) = &change.new else { return false };
    let (namespace, name) = &claim.name;
    *namespace == pod.namespace
        && pod.spec.volumes.iter().any(|volume| {
            let own = if ephemeral { volume.claim() } else { volume.standing_claim() };
            own == Some(name)
        })
}
