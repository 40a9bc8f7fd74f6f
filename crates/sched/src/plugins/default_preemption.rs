//! Says that a pod which no node takes may have pods of lower priority evicted; [`crate::preempt`] chooses them.

use crate::{
    Pod,
    framework::{Plugin, Point, PostFilter, Unplaced},
    world::World,
};

/// DefaultPreemptionArgs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// Of all nodes, so many in a hundred are tried at least.
    pub min_candidate_nodes_percentage: usize,
    /// And at least so many.
    pub min_candidate_nodes_absolute: usize,
}

impl Default for Args {
    fn default() -> Self {
        Args { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

pub struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn post_filter(&self, _pod: &Pod, _found: &Unplaced<'_>, _world: &World) -> PostFilter {
        PostFilter::Preempts
    }
}
