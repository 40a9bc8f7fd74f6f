//! A pod that names its node goes there and nowhere else. Such pods pass the scheduler by; the filter keeps the rule for those
//! that come all the same.

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    world::World,
};

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        let Some(wanted) = pod.node_name.clone() else { return Ok(PreFilter::default()) };
        Ok(PreFilter::by_node(move |info: &NodeInfo, _: &World| {
            if info.node.name == wanted {
                Ok(())
            } else {
                Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
            }
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        matches!(event, Event::NodeAdded(node) if Some(&node.name) == pod.node_name.as_ref())
    }
}
