//! A pod's claims to devices, as they are now.

use std::sync::Arc;

use crate::{ClaimSource, Pod, device::ResourceClaim, diagnosis::Rejection, storage::Name, world::World};

/// The claims of a pod, each once; an error, if one of them is not there or not to be used. One that was not needed is none.
pub(super) fn of<'a>(pod: &Pod, world: &'a World) -> Result<Vec<&'a Arc<ResourceClaim>>, Rejection> {
    let mut all: Vec<&Arc<ResourceClaim>> = Vec::new();
    for wanted in &pod.spec.claims {
        let whose = || format!("pod \"{}/{}\"", pod.namespace, pod.name);
        let (name, made) = match &wanted.source {
            ClaimSource::Named(name) => (name, false),
            ClaimSource::Made(name) => (name, true),
            ClaimSource::Spared => continue,
            ClaimSource::Unmade => {
                return Err(Rejection::unresolvable(format!("{}: ResourceClaim not created yet", whose())));
            }
            ClaimSource::Unknown => {
                let text = "none of the supported fields are set";
                return Err(Rejection::unresolvable(format!(
                    "{}, spec.resourceClaim {:?}: {text}",
                    whose(),
                    wanted.name
                )));
            }
        };
        let claim = usable(pod, name, made, world).map_err(Rejection::unresolvable)?;
        if !all.iter().any(|known| known.uid == claim.uid) {
            all.push(claim);
        }
    }
    Ok(all)
}

/// The claims of a pod that are there, whether or not they can be used and whatever of the others.
pub(super) fn there<'a>(pod: &Pod, world: &'a World) -> impl Iterator<Item = &'a Arc<ResourceClaim>> {
    let names = pod.spec.claims.iter().filter_map(|wanted| match &wanted.source {
        ClaimSource::Named(name) | ClaimSource::Made(name) => Some(name),
        ClaimSource::Unmade | ClaimSource::Spared | ClaimSource::Unknown => None,
    });
    names.filter_map(|name| world.devices.claim(&(pod.namespace.clone(), name.clone())))
}

fn usable<'a>(pod: &Pod, name: &Arc<str>, made: bool, world: &'a World) -> Result<&'a Arc<ResourceClaim>, String> {
    let (namespace, pod_name) = (&pod.namespace, &pod.name);
    let found = world.devices.claim(&(namespace.clone(), name.clone()));
    let claim = found.ok_or_else(|| format!("could not find ResourceClaim \"{namespace}/{name}\""))?;
    if claim.deleting {
        return Err(format!("resourceclaim {name:?} is being deleted"));
    }
    if made && claim.owner.as_ref() != Some(&pod.uid) {
        let whose = format!("Pod {namespace}/{pod_name}");
        return Err(format!("ResourceClaim {namespace}/{name} was not created for {whose} (Pod is not owner)"));
    }
    Ok(claim)
}

/// The gang that a pod is placed with.
pub(super) fn gang(pod: &Pod) -> Option<Name> {
    Some((pod.namespace.clone(), pod.group.clone()?))
}
