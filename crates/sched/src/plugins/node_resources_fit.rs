//! A node takes a pod when what is left covers its requests. Which of those that do is best depends on the strategy: the one
//! with the most left (LeastAllocated), the one with the least (MostAllocated), or by a curve over the share in use
//! (RequestedToCapacityRatio).

use std::sync::Arc;

use super::amounts::Resource;
use crate::{
    Node, NodeInfo, Pod, Resources, Spec,
    device::DeviceEvent,
    diagnosis::{Reason, Rejection},
    framework::{Event, MAX_SCORE, Plugin, Point, PreFilter, PreScore},
    world::{Devices, World},
};

/// NodeResourcesFitArgs.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    pub ignored_resources: Vec<String>,
    /// Everything before the slash of a resource's name.
    pub ignored_resource_groups: Vec<String>,
    pub strategy: Strategy,
    /// With their weights.
    pub resources: Vec<(String, i64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Points (share in use in per cent, score 0 to 10), in ascending order.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

impl Default for Args {
    fn default() -> Self {
        Args {
            ignored_resources: Vec::new(),
            ignored_resource_groups: Vec::new(),
            strategy: Strategy::LeastAllocated,
            resources: vec![("cpu".into(), 1), ("memory".into(), 1)],
        }
    }
}

/// Scores of a curve's points go up to this.
const MAX_POINT_SCORE: i64 = 10;
/// A share of all.
const ALL: i64 = 100;

pub struct NodeResourcesFit {
    args: Arc<Args>,
    resources: Arc<[(Resource, i64)]>,
}

impl NodeResourcesFit {
    pub fn new(args: &Args) -> Self {
        let resources = args.resources.iter().map(|(name, weight)| (Resource::named(name), *weight)).collect();
        NodeResourcesFit { args: Arc::new(args.clone()), resources }
    }

    fn fits_empty(&self, pod: &Pod, node: &Arc<Node>, world: &World) -> bool {
        fits(&pod.spec, &NodeInfo::empty(node.clone()), &self.args, &world.devices).is_ok()
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        let (spec, args) = (pod.spec.clone(), self.args.clone());
        Ok(PreFilter::by_node(move |info: &NodeInfo, world: &World| fits(&spec, info, &args, &world.devices)))
    }

    fn pre_score(&self, pod: &Pod, _world: &mut World) -> PreScore {
        let resources = self.resources.iter();
        let asked = resources.map(|(resource, weight)| (resource.clone(), *weight, resource.asked_scored(&pod.spec)));
        let asked: Vec<_> = asked.filter(|(resource, _, asked)| resource.counts(*asked)).collect();
        let args = self.args.clone();
        PreScore::by_node(move |info: &NodeInfo, _: &World| score(&args.strategy, &asked, info))
    }

    fn helps(&self, pod: &Pod, event: &Event, world: &World) -> bool {
        match event {
            Event::NodeAdded(node) => self.fits_empty(pod, node, world),
            Event::NodeUpdated { old, new } => {
                let grown = grows(&pod.spec, &old.allocatable, &new.allocatable) || new.allowed_pods > old.allowed_pods;
                let stood_for = || pod.spec.extended.iter().any(|one| stand_in(&one.resource, new, &world.devices));
                (grown || stood_for()) && self.fits_empty(pod, new, world)
            }
            // Each pod also holds one of the places that the node has for pods.
            Event::PodRemoved(_) => true,
            Event::PodUpdated { old, new } => grows(&pod.spec, &new.spec.requests, &old.spec.requests),
            Event::Devices(DeviceEvent::Class { there: true }) => !pod.spec.extended.is_empty(),
            _ => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        grows(&old.spec, &new.spec.requests, &old.spec.requests)
    }
}

fn fits(spec: &Spec, info: &NodeInfo, args: &Args, devices: &Devices) -> Result<(), Rejection> {
    let (asked, all, used) = (&spec.requests, &info.node.allocatable, &info.requested);
    let full = info.pods + 1 > info.node.allowed_pods;
    let lacks = |asked: i64, all: i64, used: i64| asked > 0 && asked > all - used;
    // The common answer costs nothing but comparisons.
    if !full
        && !lacks(asked.milli_cpu, all.milli_cpu, used.milli_cpu)
        && !lacks(asked.memory, all.memory, used.memory)
        && !lacks(asked.ephemeral_storage, all.ephemeral_storage, used.ephemeral_storage)
        && asked.scalars.is_empty()
    {
        return Ok(());
    }
    let mut rejection = Rejection { reasons: Vec::new(), unresolvable: false };
    if full {
        rejection.reasons.push("Too many pods".into());
    }
    let mut check = |asked: i64, all: i64, used: i64, reason: &dyn Fn() -> Reason| {
        if lacks(asked, all, used) {
            rejection.reasons.push(reason());
            rejection.unresolvable |= asked > all;
        }
    };
    check(asked.milli_cpu, all.milli_cpu, used.milli_cpu, &|| "Insufficient cpu".into());
    check(asked.memory, all.memory, used.memory, &|| "Insufficient memory".into());
    check(asked.ephemeral_storage, all.ephemeral_storage, used.ephemeral_storage, &|| {
        "Insufficient ephemeral-storage".into()
    });
    let counts = |name: &Arc<str>| !ignored(name, args) && !stand_in(name, &info.node, devices);
    for (name, amount) in asked.scalars.iter().filter(|(name, _)| counts(name)) {
        check(*amount, all.scalar(name), used.scalar(name), &|| format!("Insufficient {name}").into());
    }
    if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
}

/// Whether devices have to stand for a resource that the node has none of; whether they do is plugin DynamicResources' business.
fn stand_in(resource: &str, node: &Node, devices: &Devices) -> bool {
    node.allocatable.scalar(resource) == 0 && devices.class_for(resource).is_some()
}

fn ignored(name: &str, args: &Args) -> bool {
    let group = name.split_once('/').map(|(group, _)| group);
    args.ignored_resources.iter().any(|ignored| ignored == name)
        || group.is_some_and(|group| args.ignored_resource_groups.iter().any(|ignored| ignored == group))
}

/// Whether something that the pod asks for has become more.
fn grows(spec: &Spec, old: &Resources, new: &Resources) -> bool {
    let asked = &spec.requests;
    asked.milli_cpu > 0 && new.milli_cpu > old.milli_cpu
        || asked.memory > 0 && new.memory > old.memory
        || asked.ephemeral_storage > 0 && new.ephemeral_storage > old.ephemeral_storage
        || asked.scalars.iter().any(|(name, amount)| *amount > 0 && new.scalar(name) > old.scalar(name))
}

fn score(strategy: &Strategy, asked: &[(Resource, i64, i64)], info: &NodeInfo) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (resource, weight, asked) in asked {
        let all = resource.allocatable(info);
        if all <= 0 {
            continue;
        }
        let used = resource.scored(info) + asked;
        let own = match strategy {
            Strategy::LeastAllocated if used > all => 0,
            Strategy::LeastAllocated => share(all - used, all, MAX_SCORE),
            Strategy::MostAllocated => share(used.min(all), all, MAX_SCORE),
            Strategy::RequestedToCapacityRatio(points) => {
                let in_use = if used > all { ALL } else { share(used, all, ALL) };
                let own = on_curve(points, in_use);
                if own <= 0 {
                    continue;
                }
                own
            }
        };
        sum += own * weight;
        weights += weight;
    }
    match (strategy, weights) {
        (_, 0) => 0,
        (Strategy::RequestedToCapacityRatio(_), _) => (2 * sum + weights) / (2 * weights),
        _ => sum / weights,
    }
}

/// `part` of `all`, in 1/`of`.
fn share(part: i64, all: i64, of: i64) -> i64 {
    match part.checked_mul(of) {
        Some(scaled) => scaled / all,
        None => i64::try_from(i128::from(part) * i128::from(of) / i128::from(all)).unwrap_or(of),
    }
}

/// The score at a share in use, on straight lines between the points.
fn on_curve(points: &[(i64, i64)], in_use: i64) -> i64 {
    let scaled = |score: i64| score * (MAX_SCORE / MAX_POINT_SCORE);
    match points.iter().position(|(at, _)| in_use <= *at) {
        None => points.last().map_or(0, |(_, score)| scaled(*score)),
        Some(0) => scaled(points[0].1),
        Some(next) => {
            let ((from, low), (to, high)) = (points[next - 1], points[next]);
            scaled(low) + (scaled(high) - scaled(low)) * (in_use - from) / (to - from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_score_as_kube_scheduler_does() {
        let node = Node {
            name: "a".into(),
            allocatable: Resources { milli_cpu: 4000, memory: 10_000, ..Default::default() },
            ..Default::default()
        };
        let mut info = NodeInfo::empty(Arc::new(node));
        (info.scored_milli_cpu, info.scored_memory) = (1000, 2000);
        let check = |strategy: Strategy, cpu: i64, memory: i64, expected: i64| {
            let asked = [(Resource::Cpu, 1, cpu), (Resource::Memory, 1, memory)];
            assert_eq!(score(&strategy, &asked, &info), expected, "{strategy:?}");
        };
        check(Strategy::LeastAllocated, 1000, 1000, (50 + 70) / 2);
        check(Strategy::LeastAllocated, 4000, 1000, 70 / 2);
        check(Strategy::MostAllocated, 1000, 1000, (50 + 30) / 2);
        check(Strategy::MostAllocated, 9000, 1000, (100 + 30) / 2);
        let ratio = |points: &[(i64, i64)]| Strategy::RequestedToCapacityRatio(points.to_vec());
        check(ratio(&[(0, 0), (100, 10)]), 1000, 1000, 40);
        check(ratio(&[(0, 10), (100, 0)]), 1000, 1000, 60);
        check(ratio(&[(0, 10), (100, 0)]), 3000, 1000, 70);
    }
}
