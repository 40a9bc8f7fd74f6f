//! Rules for the arguments of plugins.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use serde::Serialize;

use super::names;
use crate::{
    defaults,
    duration::GoDuration,
    field::{FieldError, Path},
    gates::{self, Gates},
    v1::{
        DefaultPreemptionArgs, DynamicResourcesArgs, InterPodAffinityArgs, NodeResourcesBalancedAllocationArgs,
        NodeResourcesFitArgs, PodTopologySpreadArgs, ScoringStrategy, UtilizationShapePoint, VolumeBindingArgs,
    },
};

const WHEN_UNSATISFIABLE: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
const STRATEGIES: [&str; 3] =
    [ScoringStrategy::LEAST_ALLOCATED, ScoringStrategy::MOST_ALLOCATED, ScoringStrategy::REQUESTED_TO_CAPACITY_RATIO];
/// The highest score of a point of a shape.
const MAX_SHAPE_SCORE: i32 = 10;

pub fn default_preemption(path: &Path, args: &DefaultPreemptionArgs, errors: &mut Vec<FieldError>) {
    let (percent, least) = (args.min_candidate_nodes_percentage, args.min_candidate_nodes_absolute);
    let (percent_path, least_path) =
        (path.child("minCandidateNodesPercentage"), path.child("minCandidateNodesAbsolute"));
    if !(0..=100).contains(&percent) {
        errors.push(FieldError::invalid(&percent_path, percent, "not in valid range [0, 100]"));
    }
    if least < 0 {
        errors.push(FieldError::invalid(&least_path, least, "not in valid range [0, inf)"));
    }
    if percent == 0 && least == 0 {
        let detail = "cannot be zero at the same time as minCandidateNodesAbsolute";
        errors.push(FieldError::invalid(&percent_path, percent, detail));
        let detail = "cannot be zero at the same time as minCandidateNodesPercentage";
        errors.push(FieldError::invalid(&least_path, least, detail));
    }
}

pub fn inter_pod_affinity(path: &Path, args: &InterPodAffinityArgs, errors: &mut Vec<FieldError>) {
    let weight = args.hard_pod_affinity_weight;
    if !(0..=100).contains(&weight) {
        let path = path.child("hardPodAffinityWeight");
        errors.push(FieldError::invalid(&path, weight, "not in valid range [0, 100]"));
    }
}

pub fn balanced_allocation(path: &Path, args: &NodeResourcesBalancedAllocationArgs, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, resource) in args.resources.iter().enumerate() {
        let path = path.child("resources").index(index);
        if !seen.insert(resource.name.as_str()) {
            errors.push(FieldError::duplicate(&path.child("name"), &resource.name));
        }
        if resource.weight != 1 {
            errors.push(FieldError::invalid(&path.child("weight"), resource.weight, "must be 1"));
        }
    }
}

pub fn topology_spread(path: &Path, args: &PodTopologySpreadArgs, errors: &mut Vec<FieldError>) {
    let types = [PodTopologySpreadArgs::SYSTEM, PodTopologySpreadArgs::LIST];
    let type_path = path.child("defaultingType");
    if !types.contains(&args.defaulting_type.as_str()) {
        errors.push(FieldError::unsupported(&type_path, &args.defaulting_type, &types));
    } else if args.defaulting_type == PodTopologySpreadArgs::SYSTEM && !args.default_constraints.is_empty() {
        let detail = "when .defaultConstraints are not empty";
        errors.push(FieldError::invalid(&type_path, &args.defaulting_type, detail));
    }
    let path = path.child("defaultConstraints");
    for (index, one) in args.default_constraints.iter().enumerate() {
        let at = path.index(index);
        constraint(&at, one, errors);
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == one.topology_key && other.when_unsatisfiable == one.when_unsatisfiable
        };
        if args.default_constraints[..index].iter().any(same) {
            let both = format!("{{{}, {}}}", one.topology_key, one.when_unsatisfiable);
            errors.push(FieldError::duplicate(&at, both));
        }
    }
}

fn constraint(path: &Path, constraint: &TopologySpreadConstraint, errors: &mut Vec<FieldError>) {
    if constraint.max_skew <= 0 {
        errors.push(FieldError::invalid(&path.child("maxSkew"), constraint.max_skew, "not in valid range (0, inf)"));
    }
    let key = path.child("topologyKey");
    if constraint.topology_key.is_empty() {
        errors.push(FieldError::required(&key, "can not be empty"));
    } else {
        names::label_name(&key, &constraint.topology_key, errors);
    }
    let when = path.child("whenUnsatisfiable");
    if constraint.when_unsatisfiable.is_empty() {
        errors.push(FieldError::required(&when, "can not be empty"));
    } else if !WHEN_UNSATISFIABLE.contains(&constraint.when_unsatisfiable.as_str()) {
        errors.push(FieldError::unsupported(&when, &constraint.when_unsatisfiable, &WHEN_UNSATISFIABLE));
    }
    if constraint.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        errors.push(FieldError::forbidden(&path.child("labelSelector"), detail));
    }
}

pub fn volume_binding(path: &Path, args: &VolumeBindingArgs, gates: &Gates, errors: &mut Vec<FieldError>) {
    if args.bind_timeout_seconds < 0 {
        let detail = "invalid BindTimeoutSeconds, should not be a negative value";
        errors.push(FieldError::invalid(&path.child("bindTimeoutSeconds"), args.bind_timeout_seconds, detail));
    }
    if gates.enabled(gates::STORAGE_CAPACITY_SCORING) {
        shape(&path.child("shape"), &args.shape, errors);
    } else if !args.shape.is_empty() {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
        errors.push(FieldError::invalid(&path.child("shape"), go_shape(&args.shape), detail));
    }
}

pub fn dynamic_resources(path: &Path, args: &DynamicResourcesArgs, gates: &Gates, errors: &mut Vec<FieldError>) {
    if let Some(timeout) = args.filter_timeout {
        let path = path.child("filterTimeout");
        if !gates.enabled(gates::DRA_SCHEDULER_FILTER_TIMEOUT) {
            errors.push(FieldError::forbidden(&path, "DRASchedulingFilterTimeout feature gate is disabled"));
        } else if timeout < GoDuration::default() {
            errors.push(FieldError::invalid(&path, timeout, "must be zero or positive"));
        }
    }
    if let Some(timeout) = args.binding_timeout {
        let path = path.child("bindingTimeout");
        if !defaults::binds_with_conditions(gates) {
            let detail = "DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is disabled";
            errors.push(FieldError::forbidden(&path, detail));
        } else if timeout < GoDuration::seconds(1) {
            errors.push(FieldError::invalid(&path, timeout, "must be at least 1 second"));
        }
    }
}

/// The rules that NodeResourcesFit itself has for its arguments.
pub(crate) fn fit(path: &Path, args: &NodeResourcesFitArgs) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, resource) in args.ignored_resources.iter().enumerate() {
        names::label_name(&path.child("ignoredResources").index(index), resource, &mut errors);
    }
    for (index, group) in args.ignored_resource_groups.iter().enumerate() {
        let path = path.child("ignoredResourceGroups").index(index);
        if group.contains('/') {
            errors.push(FieldError::invalid(&path, group, "resource group name can't contain '/'"));
        }
        names::label_name(&path, group, &mut errors);
    }
    let path = path.child("scoringStrategy");
    let strategy = &args.scoring_strategy;
    if !STRATEGIES.contains(&strategy.kind.as_str()) {
        errors.push(FieldError::unsupported(&path.child("type"), &strategy.kind, &STRATEGIES));
    }
    for (index, resource) in strategy.resources.iter().enumerate() {
        if !(1..=100).contains(&resource.weight) {
            let path = path.child("resources").index(index).child("weight");
            let detail = format!("resource weight of {} not in valid range (0, 100]", resource.name);
            errors.push(FieldError::invalid(&path, resource.weight, &detail));
        }
    }
    let path = path.child("requestedToCapacityRatio");
    let by_shape = strategy.kind == ScoringStrategy::REQUESTED_TO_CAPACITY_RATIO;
    match &strategy.requested_to_capacity_ratio {
        Some(ratio) if by_shape => shape(&path.child("shape"), &ratio.shape, &mut errors),
        None if by_shape => {
            errors.push(FieldError::required(&path, "must be specified when type is RequestedToCapacityRatio"));
        }
        Some(_) => {
            errors.push(FieldError::forbidden(&path, "must be nil when type is not RequestedToCapacityRatio"));
        }
        None => {}
    }
    errors
}

fn shape(path: &Path, shape: &[UtilizationShapePoint], errors: &mut Vec<FieldError>) {
    if shape.is_empty() {
        errors.push(FieldError::required(path, "at least one point must be specified"));
        return;
    }
    let unsorted = shape.windows(2).position(|pair| pair[0].utilization >= pair[1].utilization);
    if let Some(at) = unsorted {
        let path = path.index(at + 1).child("utilization");
        let detail = "values must be sorted in increasing order";
        errors.push(FieldError::invalid(&path, shape[at + 1].utilization, detail));
    }
    for (index, point) in shape.iter().enumerate() {
        for (name, value, max) in [("utilization", point.utilization, 100), ("score", point.score, MAX_SHAPE_SCORE)] {
            if !(0..=max).contains(&value) {
                let detail = format!("not in valid range [0, {max}]");
                errors.push(FieldError::invalid(&path.index(index).child(name), value, &detail));
            }
        }
    }
}

/// A point as Go's encoder writes the type without names for its fields.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GoPoint {
    utilization: i32,
    score: i32,
}

fn go_shape(shape: &[UtilizationShapePoint]) -> Vec<GoPoint> {
    shape.iter().map(|point| GoPoint { utilization: point.utilization, score: point.score }).collect()
}
