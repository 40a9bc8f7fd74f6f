//! What a pod's claims ask for, and what a node has for them.

use std::{sync::Arc, time::Duration};

use devices::Wanted;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequest, ResourceClaimSpec};

use super::{Args, claims, extended::Extended, is_spoilt};
use crate::{
    Node, Pod,
    device::{self, ExtendedClaim, MAX_CONSUMERS, Mapping, ResourceClaim},
    diagnosis::Rejection,
    world::{Promised, World},
};

pub(super) const UNAVAILABLE: &str = "resourceclaim not available on the node";
const NOT_ALL: &str = "cannot allocate all claims";

type WantsExtended = (ResourceClaimSpec, Vec<Mapping>, Wanted);

/// What all claims of a pod ask for.
pub(super) struct Request {
    /// In the pod's order.
    claims: Vec<Asked>,
    namespace: Arc<str>,
    extended: Option<Extended>,
    binding_timeout: Option<Duration>,
}

/// What a node has for a pod's claims.
#[derive(Default)]
pub(super) struct Found {
    /// For the claims that need devices, in their order.
    pub allocations: Vec<AllocationResult>,
    pub extended: Option<ExtendedClaim>,
}

/// What one claim asks for.
struct Asked {
    claim: Arc<ResourceClaim>,
    needs: Needs,
}

enum Needs {
    /// Nodes from which its devices can be used.
    Reach(Arc<AllocationResult>),
    /// Likewise; the API does not show the allocation yet.
    Share(Arc<AllocationResult>),
    Devices(Arc<Wanted>),
}

impl Request {
    /// `None`: the pod has no claims. An error, if no node will do.
    pub fn of(pod: &Pod, args: &Args, world: &mut World) -> Result<Option<Self>, Rejection> {
        let all: Vec<Arc<ResourceClaim>> = claims::of(pod, world)?.into_iter().cloned().collect();
        let extended = Extended::of(pod, world);
        if all.is_empty() && extended.is_none() {
            return Ok(None);
        }
        let (claims, namespace, binding_timeout) = (Vec::new(), pod.namespace.clone(), args.binding_timeout);
        let mut request = Request { claims, namespace, extended, binding_timeout };
        for claim in all {
            let needs = needs(pod, &claim, args, world)?;
            request.claims.push(Asked { claim, needs });
        }
        Ok(Some(request))
    }

    pub fn leaves_a_choice(&self) -> bool {
        self.claims.iter().any(|asked| asked.claim.leaves_a_choice())
    }

    pub fn find(&self, node: &Node, world: &World) -> Result<Found, Rejection> {
        let extended = self.wants_extended(node, world)?;
        let mut wanted: Vec<&Wanted> = self.claims.iter().filter_map(|asked| asked.needs.wanted()).collect();
        wanted.extend(extended.iter().map(|(_, _, wanted)| wanted));
        let mut found = Found::default();
        if !wanted.is_empty() {
            let (used, inventory) = (world.devices.used(), world.devices.inventory());
            let answer = device::about(node, |node| devices::allocate(&wanted, node, used, inventory));
            found.allocations = match answer {
                Ok(Some(allocations)) => allocations,
                Ok(None) => return Err(Rejection::unresolvable(NOT_ALL)),
                Err(error) => return Err(Rejection::unresolvable(error.to_string())),
            };
        }
        if let Some((spec, mappings, _)) = extended
            && let Some(allocation) = found.allocations.pop()
        {
            found.extended = Some(ExtendedClaim { spec, allocation: Arc::new(allocation), mappings });
        }
        let usable = |asked: &Asked| match &asked.needs {
            Needs::Devices(_) => true,
            Needs::Share(allocation) => reaches(allocation, node),
            Needs::Reach(allocation) => {
                reaches(allocation, node) && !is_spoilt(self.binding_timeout, &asked.claim, world)
            }
        };
        if !self.claims.iter().all(usable) {
            return Err(Rejection::unresolvable(UNAVAILABLE));
        }
        Ok(found)
    }

    /// The claim for the extended resources that the node has none of.
    fn wants_extended(&self, node: &Node, world: &World) -> Result<Option<WantsExtended>, Rejection> {
        let Some(extended) = &self.extended else { return Ok(None) };
        if extended.left.is_some() {
            return Err(Rejection::unresolvable("cannot schedule extended resource claim"));
        }
        let needed = extended.needed(node).map_err(Rejection::unresolvable)?;
        if needed.is_empty() {
            return Ok(None);
        }
        let (spec, mappings) = extended.claim(&needed);
        let name = format!("{}/<extended-resources>", self.namespace);
        let wanted = Wanted::of(&name, &spec, world.devices.inventory());
        Ok(Some((spec, mappings, wanted.map_err(|error| Rejection::unresolvable(error.to_string()))?)))
    }

    /// What a pod relies on when it has been given the node with these devices.
    pub fn promises(&self, found: Vec<AllocationResult>) -> Vec<Promised> {
        let mut found = found.into_iter();
        let promised = self.claims.iter().filter_map(|asked| {
            let allocation = match &asked.needs {
                Needs::Reach(_) => return None,
                Needs::Share(allocation) => allocation.clone(),
                Needs::Devices(_) => Arc::new(found.next()?),
            };
            Some(Promised { claim: asked.claim.name.clone(), uid: asked.claim.uid.clone(), allocation })
        });
        promised.collect()
    }

    /// Each claim with the allocation that it has, or has with what was found.
    pub fn allocations<'a>(
        &'a self,
        found: &'a [AllocationResult],
    ) -> impl Iterator<Item = (&'a ResourceClaim, &'a AllocationResult)> {
        let mut found = found.iter();
        self.claims.iter().filter_map(move |asked| match &asked.needs {
            Needs::Reach(allocation) | Needs::Share(allocation) => Some((&*asked.claim, &**allocation)),
            Needs::Devices(_) => Some((&*asked.claim, found.next()?)),
        })
    }
}

impl Needs {
    fn wanted(&self) -> Option<&Wanted> {
        match self {
            Needs::Devices(wanted) => Some(wanted),
            Needs::Reach(_) | Needs::Share(_) => None,
        }
    }
}

fn reaches(allocation: &AllocationResult, node: &Node) -> bool {
    device::about(node, |node| devices::reaches(allocation, node))
}

fn needs(pod: &Pod, claim: &ResourceClaim, args: &Args, world: &mut World) -> Result<Needs, Rejection> {
    if let Some(allocation) = &claim.allocation {
        if claim.reserved_for.len() >= MAX_CONSUMERS && !claim.is_reserved_for(&pod.uid) {
            return Err(Rejection::unresolvable("resourceclaim in use"));
        }
        return Ok(Needs::Reach(allocation.clone()));
    }
    let name = format!("{}/{}", claim.name.0, claim.name.1);
    if world.devices.promise_for(claim).is_some() {
        let shared = claims::gang(pod).and_then(|gang| world.devices.promise_to_gang(claim, &gang).cloned());
        let waits = || Rejection::unresolvable(format!("resource claim {name} is in the process of being allocated"));
        return shared.map(|promised| Needs::Share(promised.allocation)).ok_or_else(waits);
    }
    for request in device::requests(&claim.spec) {
        check(request, &name, args, world).map_err(Rejection::unresolvable)?;
    }
    match world.devices.wanted(claim) {
        Ok(wanted) => Ok(Needs::Devices(wanted)),
        Err(error) => Err(Rejection::unresolvable(error.to_string())),
    }
}

/// Whether a request can be met at all.
fn check(request: &DeviceRequest, claim: &str, args: &Args, world: &World) -> Result<(), String> {
    let name = &request.name;
    let class = |request: &str, class: &str| match class {
        "" => Err(format!("request {request}: unsupported request type")),
        class if world.devices.has_class(class) => Ok(()),
        class => Err(format!("request {request}: device class {class} does not exist")),
    };
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    if let Some(exactly) = &request.exactly {
        return class(name, &exactly.device_class_name);
    }
    if alternatives.is_empty() {
        return Err(format!("resource claim {claim}, request {name}: unknown request type"));
    }
    if !args.prioritized_list {
        let text = "has subrequests, but the DRAPrioritizedList feature is disabled";
        return Err(format!("resource claim {claim}, request {name}: {text}"));
    }
    alternatives.iter().try_for_each(|one| class(&format!("{name}/{}", one.name), &one.device_class_name))
}
