//! Whether what was promised to a pod has come true. Only what the API shows counts here, never a promise.

use std::sync::Arc;

use super::request;
use crate::{
    Node,
    pre_bind::Progress,
    storage::{Claim, Name, PersistentVolume},
    world::{Held, HeldClaim, HeldVolume, World},
};

/// An answer that ends the look at the rest: it has failed, or has to wait.
type Step = Result<(), Progress>;

pub(super) fn of(held: &Held, node: &str, world: &World) -> Progress {
    let Some(node) = world.node(node) else {
        return Progress::Failed(format!("failed to get node {node:?}: node {node:?} not found"));
    };
    let volumes = held.volumes.iter().map(|held| volume(held, node, world));
    let claims = held.claims.iter().map(|held| to_make(held, node, world));
    // A failure is told at once, also behind one that has to wait.
    let mut waits = false;
    for step in volumes.chain(claims) {
        match step {
            Ok(()) | Err(Progress::Done) => {}
            Err(Progress::Waiting) => waits = true,
            Err(failed) => return failed,
        }
    }
    if waits { Progress::Waiting } else { Progress::Done }
}

fn failed(text: String) -> Step {
    Err(Progress::Failed(text))
}

fn claim<'a>(name: &Name, uid: &Arc<str>, world: &'a World) -> Result<&'a Arc<Claim>, Progress> {
    let found = world.volumes.claim(name).filter(|claim| claim.uid == *uid);
    found.ok_or_else(|| {
        Progress::Failed(format!("failed to check binding: persistentvolumeclaim \"{}/{}\" not found", name.0, name.1))
    })
}

fn reachable(volume: &PersistentVolume, node: &Node, world: &World) -> Step {
    if request::reaches(volume, node, world) {
        return Ok(());
    }
    failed(format!("pv {:?} node affinity doesn't match node {:?}", volume.name, node.name))
}

fn volume(held: &HeldVolume, node: &Node, world: &World) -> Step {
    let Some(volume) = world.volumes.volume(&held.volume) else {
        return failed(format!("failed to check binding: persistentvolume {:?} not found", held.volume));
    };
    let uid = held.claim.uid.as_ref().expect("a promise is one to a claim that is there");
    let claim = claim(&held.claim.name, uid, world)?;
    let Some(seen) = world.volumes.volume_was_seen(held) else {
        return failed(format!("pv {:?} went to another claim", volume.name));
    };
    match &volume.claim {
        Some(shown) if *shown == held.claim => {}
        Some(shown) if shown.uid.is_some() || shown.name != held.claim.name => {
            return failed(format!("pv {:?} went to claim \"{}/{}\"", volume.name, shown.name.0, shown.name.1));
        }
        _ if seen => return failed(format!("ClaimRef got reset for pv {:?}", volume.name)),
        _ => return Err(Progress::Waiting),
    }
    reachable(volume, node, world)?;
    match &claim.volume {
        Some(other) if *other != held.volume => failed(format!("PVC {:?} was bound to pv {other:?}", claim.name.1)),
        _ if claim.is_bound() => Ok(()),
        _ => Err(Progress::Waiting),
    }
}

fn to_make(held: &HeldClaim, node: &Node, world: &World) -> Step {
    let claim = claim(&held.claim, &held.uid, world)?;
    let seen = world.volumes.claim_was_seen(held);
    match &claim.selected_node {
        Some(shown) if *shown == held.node => {}
        None if seen == Some(false) => return Err(Progress::Waiting),
        // A provisioner that cannot make the volume takes the node off again.
        _ => return failed(format!("provisioning failed for PVC {:?}", claim.name.1)),
    }
    let Some(name) = &claim.volume else { return Err(Progress::Waiting) };
    // It may be told a little later than the claim.
    let Some(volume) = world.volumes.volume(name) else { return Err(Progress::Waiting) };
    reachable(volume, node, world)?;
    if claim.is_bound() { Ok(()) } else { Err(Progress::Waiting) }
}
