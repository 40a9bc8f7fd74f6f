//! Writes down what was found, as the claim's status has it.

use k8s_openapi::{
    api::{
        core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        resource::v1::{
            AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    ground::Ground,
    search::{Pick, Search},
};
use crate::{
    Error, NodeFacts,
    wanted::{Alternative, Wanted},
};

/// The allocation of one claim.
pub(super) fn of(search: &Search<'_>, claim: usize, node: &NodeFacts<'_>) -> Result<AllocationResult, Error> {
    let (wanted, picks) = (search.wanted[claim], &search.picks[claim]);
    let chosen: Vec<&Alternative> = wanted
        .requests
        .iter()
        .zip(&search.chosen[claim])
        .map(|(request, alternative)| &request.alternatives[*alternative])
        .collect();
    let results: Vec<_> = picks.iter().map(|pick| device(search.ground, chosen[pick.request], pick)).collect();
    let config = config(wanted, &chosen);
    let devices = DeviceAllocationResult {
        config: (!config.is_empty()).then_some(config),
        results: (!results.is_empty()).then_some(results),
    };
    Ok(AllocationResult {
        allocation_timestamp: None,
        devices: Some(devices),
        node_selector: node_selector(search.ground, wanted, picks, node)?,
    })
}

fn device(ground: &Ground<'_>, alternative: &Alternative, pick: &Pick) -> DeviceRequestAllocationResult {
    let candidate = &ground.candidates[pick.candidate];
    let (driver, pool) = ground.pool(candidate);
    let raw = candidate.offer.raw();
    let conditional = ground.features.device_binding_conditions;
    let share = pick.share.as_ref();
    let consumed = share.filter(|amounts| !amounts.is_empty());
    let written =
        |(name, amount): (&String, &kube_schema::quantity::Quantity)| (name.clone(), Quantity(amount.to_string()));
    DeviceRequestAllocationResult {
        admin_access: alternative.admin_access.then_some(true),
        binding_conditions: raw.binding_conditions.clone().filter(|_| conditional),
        binding_failure_conditions: raw.binding_failure_conditions.clone().filter(|_| conditional),
        consumed_capacity: consumed.map(|amounts| amounts.iter().map(written).collect()),
        device: raw.name.clone(),
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        request: alternative.full_name.clone(),
        share_id: share.map(|_| String::new()),
        tolerations: (!alternative.tolerations.is_empty()).then(|| alternative.tolerations.clone()),
    }
}

/// The configuration of the classes, each once and for all requests that use it, then that of the claim, as far as it
/// is meant for what was chosen.
fn config(wanted: &Wanted, chosen: &[&Alternative]) -> Vec<DeviceAllocationConfiguration> {
    let mut found: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut classes: Vec<&str> = Vec::new();
    for alternative in chosen {
        let class = &alternative.class;
        if classes.contains(&&*class.name) {
            continue;
        }
        classes.push(&class.name);
        let users = chosen.iter().filter(|other| other.class.name == class.name);
        let requests: Vec<String> = users.map(|user| user.full_name.clone()).collect();
        found.extend(class.spec.config.iter().flatten().map(|config| DeviceAllocationConfiguration {
            opaque: config.opaque.clone(),
            requests: Some(requests.clone()),
            source: "FromClass".to_owned(),
        }));
    }
    for config in &wanted.config {
        let requests = config.requests.as_deref().unwrap_or_default();
        let mut names = wanted.requests.iter().zip(chosen);
        let meant = |(request, alternative): (&crate::wanted::Request, &&Alternative)| {
            requests.contains(&request.name) || requests.contains(&alternative.full_name)
        };
        if requests.is_empty() || names.any(meant) {
            found.push(DeviceAllocationConfiguration {
                opaque: config.opaque.clone(),
                requests: config.requests.clone(),
                source: "FromClaim".to_owned(),
            });
        }
    }
    found
}

/// Where the devices can be used from: on this node if one of them is local, else where all their selectors agree;
/// none if that is everywhere.
fn node_selector(
    ground: &Ground<'_>,
    wanted: &Wanted,
    picks: &[Pick],
    node: &NodeFacts<'_>,
) -> Result<Option<NodeSelector>, Error> {
    let mut term = NodeSelectorTerm::default();
    for pick in picks {
        let offer = ground.candidates[pick.candidate].offer;
        let (raw, spec) = (offer.raw(), &offer.slice.spec);
        let (name, selector) = match spec.per_device_node_selection {
            Some(true) => (&raw.node_name, &raw.node_selector),
            _ => (&spec.node_name, &spec.node_selector),
        };
        if name.is_some() || raw.binds_to_node == Some(true) {
            return Ok(Some(only(node.name)));
        }
        match selector.as_ref().map_or(&[][..], |selector| &selector.node_selector_terms) {
            [] => {}
            [one] => {
                merge(&one.match_fields, &mut term.match_fields);
                merge(&one.match_expressions, &mut term.match_expressions);
            }
            many => {
                let reason =
                    format!("create NodeSelector: unsupported ResourceSlice.NodeSelector with {} terms", many.len());
                return Err(wanted.error("", reason));
            }
        }
    }
    let any = term.match_fields.is_some() || term.match_expressions.is_some();
    Ok(any.then(|| NodeSelector { node_selector_terms: vec![term] }))
}

fn only(node: &str) -> NodeSelector {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![name]) };
    NodeSelector { node_selector_terms: vec![term] }
}

/// Adds requirements that are not there yet.
fn merge(from: &Option<Vec<NodeSelectorRequirement>>, to: &mut Option<Vec<NodeSelectorRequirement>>) {
    let values = |requirement: &NodeSelectorRequirement| {
        let mut values = requirement.values.clone().unwrap_or_default();
        values.sort();
        values.dedup();
        values
    };
    for requirement in from.iter().flatten() {
        let to = to.get_or_insert_default();
        let same = |known: &NodeSelectorRequirement| {
            known.key == requirement.key
                && known.operator == requirement.operator
                && values(known) == values(requirement)
        };
        if !to.iter().any(same) {
            to.push(requirement.clone());
        }
    }
}
