//! Where requests leave a choice, nodes are better the earlier the alternatives are that they have.

use std::collections::HashSet;

use k8s_openapi::api::resource::v1::AllocationResult;

use super::request::Request;
use crate::{
    NodeInfo,
    device::{self, ResourceClaim},
    framework::{GroupScore, Scaled},
    world::World,
};

/// So many alternatives a request has at most (FirstAvailableDeviceRequestMaxSize).
const MAX_ALTERNATIVES: i64 = 8;

pub(super) fn by_choice(request: Request) -> impl GroupScore + 'static {
    let number = move |info: &NodeInfo, world: &World| {
        // A node that has nothing was rejected before.
        let found = request.find(&info.node, world).unwrap_or_default();
        request.allocations(&found.allocations).map(|(claim, allocation)| points(claim, allocation)).sum()
    };
    Scaled { number, reverse: false }
}

fn points(claim: &ResourceClaim, allocation: &AllocationResult) -> i64 {
    let given: HashSet<&str> = device::results(allocation).map(|result| result.request.as_str()).collect();
    let mut points = 0;
    for request in device::requests(&claim.spec) {
        for (at, one) in (0..).zip(request.first_available.iter().flatten()) {
            if given.contains(format!("{}/{}", request.name, one.name).as_str()) {
                points += MAX_ALTERNATIVES - at;
            }
        }
    }
    points
}
