//! A pod that names its node goes there and nowhere else.

use super::Filter;
use crate::{NodeInfo, Pod, diagnosis::Rejection};

pub struct NodeName;

impl Filter for NodeName {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
        match &pod.node_name {
            Some(name) if *name != info.node.name => {
                Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }
}
