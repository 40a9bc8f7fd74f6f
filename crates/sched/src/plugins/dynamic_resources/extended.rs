//! Extended resources for which devices stand (KEP-5004): where a node has none of a resource and a class of devices stands for
//! it, the pod gets a claim for the devices that its containers want.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::resource::v1::{DeviceClaim, DeviceRequest, ExactDeviceRequest, ResourceClaimSpec};

use crate::{
    ExtendedRequest, Node, Pod, Spec,
    device::{Mapping, ResourceClaim},
    world::World,
};

/// The extended resources of a pod, when devices stand for one of them at least.
pub(super) struct Extended {
    spec: Arc<Spec>,
    /// The class that stands for each resource, if one does.
    classes: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// What an earlier attempt has left. It may suit no node, so it goes first.
    pub left: Option<Arc<ResourceClaim>>,
}

impl Extended {
    pub fn of(pod: &Pod, world: &World) -> Option<Self> {
        let resources = pod.spec.extended.iter().map(|one| &one.resource);
        let classes: BTreeMap<_, _> =
            resources.map(|resource| (resource.clone(), world.devices.class_for(resource).cloned())).collect();
        if classes.values().all(Option::is_none) {
            return None;
        }
        let left = world.devices.made_for(&pod.uid).cloned();
        Some(Extended { spec: pod.spec.clone(), classes, left })
    }

    /// The resources for which devices are needed on a node, with their classes.
    pub fn needed(&self, node: &Node) -> Result<BTreeMap<Arc<str>, Arc<str>>, &'static str> {
        let mut needed = BTreeMap::new();
        for (resource, class) in &self.classes {
            match class {
                Some(class) if node.allocatable.scalar(resource) == 0 => {
                    needed.insert(resource.clone(), class.clone());
                }
                None if !node.allocatable.scalars.iter().any(|(name, _)| name == resource) => {
                    return Err("cannot fit resource");
                }
                _ => {}
            }
        }
        Ok(needed)
    }

    /// What a claim for these resources wants, and which request is for which container.
    pub fn claim(&self, needed: &BTreeMap<Arc<str>, Arc<str>>) -> (ResourceClaimSpec, Vec<Mapping>) {
        let (mut requests, mut mappings) = (Vec::new(), Vec::new());
        for (resource, class) in needed {
            let of_resource = self.spec.extended.iter().filter(|one| one.resource == *resource);
            let part = Part::of(of_resource.collect());
            requests.extend(part.requests.iter().map(|request| device_request(request, class)));
            mappings.extend(part.mappings);
        }
        requests.sort_by(|a, b| a.name.cmp(&b.name));
        let devices = DeviceClaim { requests: Some(requests), ..Default::default() };
        (ResourceClaimSpec { devices: Some(devices) }, mappings)
    }
}

#[derive(Clone, Debug)]
struct Request {
    name: String,
    index: usize,
    count: i64,
}

/// What containers want of one resource.
#[derive(Default)]
struct Part {
    requests: Vec<Request>,
    mappings: Vec<Mapping>,
}

impl Part {
    /// Containers that run to the end have devices of their own. One that ends before uses those of later ones, and what it needs
    /// more is shared by all that end before.
    fn of(wanted: Vec<&ExtendedRequest>) -> Self {
        let mut part = Part::default();
        for one in wanted.iter().filter(|one| !one.brief) {
            let name = name(one);
            part.mappings.push(mapping(one, &name));
            part.requests.push(Request { name, index: one.index, count: one.count });
        }
        let (mut largest, mut names, mut brief): (Option<Request>, BTreeSet<String>, Vec<Mapping>) = Default::default();
        for one in wanted.iter().filter(|one| one.brief) {
            let mut missing = one.count;
            for later in part.requests.iter().filter(|request| request.index >= one.index) {
                if missing <= 0 {
                    break;
                }
                missing -= later.count;
                brief.push(mapping(one, &later.name));
            }
            if missing > 0 {
                let name = name(one);
                brief.push(mapping(one, &name));
                names.insert(name.clone());
                if largest.as_ref().is_none_or(|largest| largest.count < missing) {
                    largest = Some(Request { name, index: one.index, count: missing });
                }
            }
        }
        if let Some(largest) = largest {
            for mapping in brief.iter_mut().filter(|mapping| names.contains(&mapping.request)) {
                mapping.request.clone_from(&largest.name);
            }
            part.requests.push(largest);
        }
        part.mappings.extend(brief);
        part
    }
}

fn name(one: &ExtendedRequest) -> String {
    format!("container-{}-request-{}", one.index, one.place)
}

fn mapping(one: &ExtendedRequest, request: &str) -> Mapping {
    Mapping { container: one.container.clone(), resource: one.resource.clone(), request: request.to_owned() }
}

fn device_request(request: &Request, class: &str) -> DeviceRequest {
    let exactly = ExactDeviceRequest {
        device_class_name: class.to_owned(),
        allocation_mode: Some("ExactCount".to_owned()),
        count: Some(request.count),
        ..Default::default()
    };
    DeviceRequest { name: request.name.clone(), exactly: Some(exactly), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_end_use_the_devices_of_later_ones() {
        // Each container: its name, whether it ends before the others, and how many it wants.
        let check = |containers: &[(&str, bool, i64)], requests: &[(&str, i64)], mappings: &[(&str, &str)]| {
            let wanted: Vec<ExtendedRequest> = (0..)
                .zip(containers)
                .map(|(index, (container, brief, count))| ExtendedRequest {
                    container: (*container).into(),
                    index,
                    brief: *brief,
                    place: 0,
                    resource: "r".into(),
                    count: *count,
                })
                .collect();
            let part = Part::of(wanted.iter().collect());
            let mut found: Vec<_> = part.requests.iter().map(|request| (&*request.name, request.count)).collect();
            found.sort_unstable();
            assert_eq!(found, requests, "{containers:?}");
            let found: Vec<_> = part.mappings.iter().map(|mapping| (&*mapping.container, &*mapping.request)).collect();
            assert_eq!(found, mappings, "{containers:?}");
        };
        let (zero, one, two) = ("container-0-request-0", "container-1-request-0", "container-2-request-0");
        check(&[("a", false, 1), ("b", false, 2)], &[(zero, 1), (one, 2)], &[("a", zero), ("b", one)]);
        check(&[("i", true, 1), ("a", false, 2)], &[(one, 2)], &[("a", one), ("i", one)]);
        check(&[("i", true, 3), ("a", false, 2)], &[(zero, 1), (one, 2)], &[("a", one), ("i", one), ("i", zero)]);
        // What one started before has is not for it.
        check(&[("s", false, 2), ("i", true, 1)], &[(zero, 2), (one, 1)], &[("s", zero), ("i", one)]);
        // Two that end take turns.
        check(
            &[("i", true, 1), ("j", true, 3), ("a", false, 1)],
            &[(one, 2), (two, 1)],
            &[("a", two), ("i", two), ("j", two), ("j", one)],
        );
        check(&[("i", true, 2), ("j", true, 1)], &[(zero, 2)], &[("i", zero), ("j", zero)]);
    }
}
