//! Nodes are better when the pod makes the shares of their resources in use more equal.

use std::sync::Arc;

use super::amounts::Resource;
use crate::{
    NodeInfo, Pod,
    framework::{Event, MAX_SCORE, Plugin, Point, PreScore},
    world::World,
};

/// NodeResourcesBalancedAllocationArgs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    pub resources: Vec<String>,
}

impl Default for Args {
    fn default() -> Self {
        Args { resources: vec!["cpu".into(), "memory".into()] }
    }
}

pub struct NodeResourcesBalancedAllocation {
    resources: Arc<[Resource]>,
}

impl NodeResourcesBalancedAllocation {
    pub fn new(args: &Args) -> Self {
        NodeResourcesBalancedAllocation { resources: args.resources.iter().map(|name| Resource::named(name)).collect() }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn pre_score(&self, pod: &Pod, _world: &mut World) -> PreScore {
        let asked: Vec<_> = self.resources.iter().map(|r| (r.clone(), r.asked(&pod.spec))).collect();
        // Pods that ask for nothing would all go to the same node.
        if asked.iter().all(|(_, asked)| *asked == 0) {
            return PreScore::default();
        }
        let asked: Vec<_> = asked.into_iter().filter(|(resource, asked)| resource.counts(*asked)).collect();
        PreScore::by_node(move |info: &NodeInfo, _: &World| {
            let (with, without) = (balance(&asked, info, true), balance(&asked, info, false));
            MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
        })
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        false
    }
}

/// One less the standard deviation of the shares in use, in 1/[`MAX_SCORE`].
fn balance(asked: &[(Resource, i64)], info: &NodeInfo, with: bool) -> i64 {
    let share = |(resource, asked): &(Resource, i64)| {
        let all = resource.allocatable(info);
        let used = resource.requested(info) + if with { *asked } else { 0 };
        (all > 0).then(|| (used as f64 / all as f64).min(1.0))
    };
    let mut shares = asked.iter().filter_map(share);
    let deviation = match (shares.next(), shares.next(), shares.next()) {
        (Some(a), Some(b), None) => ((a - b) / 2.0).abs(),
        (Some(_), Some(_), Some(_)) => {
            let shares: Vec<f64> = asked.iter().filter_map(share).collect();
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64).sqrt()
        }
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
