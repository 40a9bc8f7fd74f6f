//! A node must have declared the features that a pod cannot do without (KEP-5328).

use std::sync::Arc;

use crate::{
    Node, NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    world::World,
};

const UNSATISFIED: &str = "node(s) didn't match Pod's required features";

pub struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &str {
        "NodeDeclaredFeatures"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        if pod.spec.features.is_empty() {
            return Ok(PreFilter::default());
        }
        let wanted = pod.spec.features.clone();
        Ok(PreFilter::by_node(move |info: &NodeInfo, _: &World| {
            if has(&info.node, &wanted) { Ok(()) } else { Err(Rejection::unresolvable(UNSATISFIED)) }
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(node) => has(node, &pod.spec.features),
            Event::NodeUpdated { old, new } => !has(old, &pod.spec.features) && has(new, &pod.spec.features),
            _ => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        old.spec.features.iter().any(|feature| !new.spec.features.contains(feature))
    }
}

fn has(node: &Node, wanted: &[Arc<str>]) -> bool {
    wanted.iter().all(|feature| node.features.contains(feature))
}
