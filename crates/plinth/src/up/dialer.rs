//! How the API server reaches the node: a pipe within the process, on which the node speaks HTTP as a kubelet does.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use apiserver::{NodeDialer, Stream};
use async_trait::async_trait;

/// Bytes that wait in a pipe per direction.
const PIPE: usize = 64 << 10;

/// The node, once it has started: the API server starts before it.
#[derive(Clone, Default)]
pub struct NodeSlot(Arc<OnceLock<node::Handle>>);

impl NodeSlot {
    pub fn set(&self, node: node::Handle) {
        // There is one node, and it is set once.
        let _ = self.0.set(node);
    }
}

/// Dials the node of this process.
pub struct Dialer {
    pub node_name: String,
    pub slot: NodeSlot,
}

#[async_trait]
impl NodeDialer for Dialer {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn Stream>> {
        if node != self.node_name {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no way to node {node}: it is not this one")));
        }
        let Some(handle) = self.slot.0.get() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the node is still starting"));
        };
        let (ours, theirs) = tokio::io::duplex(PIPE);
        handle.serve_connection(theirs);
        Ok(Box::new(ours))
    }
}
