//! A cordoned node takes only pods that tolerate it.

use std::sync::Arc;

use crate::{
    NodeInfo, Pod, Taint, TaintEffect,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    world::World,
};

/// The taint that stands for the field.
const TAINT: &str = "node.kubernetes.io/unschedulable";

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        if tolerates(pod) {
            return Ok(PreFilter::default());
        }
        Ok(PreFilter::by_node(|info: &NodeInfo, _: &World| {
            if info.node.unschedulable { Err(Rejection::unresolvable("node(s) were unschedulable")) } else { Ok(()) }
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(node) => !node.unschedulable || tolerates(pod),
            Event::NodeUpdated { old, new } => old.unschedulable && !new.unschedulable,
            _ => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        !tolerates(old) && tolerates(new)
    }
}

fn tolerates(pod: &Pod) -> bool {
    let taint = Taint { key: TAINT.into(), value: Arc::default(), effect: TaintEffect::NoSchedule };
    pod.spec.tolerates(&taint)
}
