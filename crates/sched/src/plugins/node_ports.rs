//! A port of the node belongs to one pod at a time.

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
    world::World,
};

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        if pod.spec.host_ports.is_empty() {
            return Ok(PreFilter::default());
        }
        let spec = pod.spec.clone();
        Ok(PreFilter::by_node(move |info: &NodeInfo, _: &World| {
            let taken = spec.host_ports.iter().any(|port| info.ports.iter().any(|used| used.conflicts(port)));
            if taken {
                Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"))
            } else {
                Ok(())
            }
        }))
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            // An empty node has all its ports.
            Event::NodeAdded(_) => true,
            Event::PodRemoved(gone) => {
                gone.spec.host_ports.iter().any(|port| pod.spec.host_ports.iter().any(|own| own.conflicts(port)))
            }
            _ => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        old.spec.host_ports != new.spec.host_ports
    }
}
