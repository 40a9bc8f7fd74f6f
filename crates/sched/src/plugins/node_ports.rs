//! A port of a node belongs to one container.

use super::{Event, Filter};
use crate::{NodeInfo, Pod, diagnosis::Rejection};

pub struct NodePorts;

impl Filter for NodePorts {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
        let taken = pod.host_ports.iter().any(|wanted| info.ports.iter().any(|used| used.conflicts(wanted)));
        if taken {
            return Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }

    fn wakes(&self, pod: &Pod, event: &Event) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            // A node's own change frees no port.
            Event::NodeUpdated { .. } => false,
            Event::PodRemoved(gone) => {
                pod.host_ports.iter().any(|wanted| gone.host_ports.iter().any(|freed| freed.conflicts(wanted)))
            }
        }
    }
}
