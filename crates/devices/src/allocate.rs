//! Finds devices for claims on one node.

mod capacity;
mod constraints;
mod ground;
mod result;
mod search;
mod twins;

use std::collections::HashMap;

use k8s_openapi::api::resource::v1::AllocationResult;

use crate::{
    Error, Inventory, NodeFacts, Used, Wanted,
    wanted::{Alternative, Mode},
};
use ground::Ground;
use search::Search;

/// The allocations of the claims on the node, in the claims' order; none if they do not fit there.
///
/// Shares of a device have an empty `shareID`: see [`name_shares`].
pub fn allocate(
    wanted: &[&Wanted],
    node: &NodeFacts<'_>,
    used: &Used,
    inventory: &Inventory,
) -> Result<Option<Vec<AllocationResult>>, Error> {
    let ground = Ground::of(node, used, inventory)?;
    let mut all = HashMap::new();
    for (claim, wanted) in wanted.iter().enumerate() {
        collect_all(claim, wanted, &ground, &mut all)?;
    }
    let mut search = Search::new(wanted, &ground, all);
    if !search.run()? {
        return search.refusal.take().or_else(|| ground.invalid_pools()).map_or(Ok(None), Err);
    }
    let results = (0..wanted.len()).map(|claim| result::of(&search, claim, node));
    results.collect::<Result<_, _>>().map(Some)
}

/// Finds out how many devices "all" are for the claim's requests, and refuses what is too many together.
fn collect_all(
    claim: usize,
    wanted: &Wanted,
    ground: &Ground<'_>,
    all: &mut HashMap<(usize, usize), Vec<usize>>,
) -> Result<(), Error> {
    let alternatives = wanted.requests.iter().flat_map(|request| &request.alternatives);
    let mut any = false;
    for alternative in alternatives.filter(|alternative| alternative.mode == Mode::All) {
        all.insert((claim, alternative.number), ground.all(wanted, alternative)?);
        any = true;
    }
    if !any {
        return Ok(());
    }
    let count = |alternative: &Alternative| all.get(&(claim, alternative.number)).map_or(0, Vec::len);
    // How many "all" are is this node's affair.
    wanted.check_count(count).map_err(|error| match error {
        Error::Claim { claim, place, reason, .. } => Error::Claim { claim, place, reason, here: true },
        other => other,
    })
}

/// Gives each share of a device in the allocation its ID, a new UID from `uid`. To be done once, for the node that was
/// chosen and before the allocation is written.
pub fn name_shares(allocation: &mut AllocationResult, uid: &mut dyn FnMut() -> String) {
    let results = allocation.devices.iter_mut().flat_map(|devices| devices.results.iter_mut().flatten());
    for result in results {
        if let Some(share) = &mut result.share_id {
            *share = uid();
        }
    }
}

#[cfg(test)]
mod tests;
