//! How the API server reaches the node: a pipe within the process, on which the node speaks HTTP as a kubelet does.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use apiserver::{NodeDialer, Stream};
use async_trait::async_trait;
use runtime::Tasks;

/// Bytes that wait in a pipe per direction.
const PIPE: usize = 64 << 10;

/// The node, once it has started: the API server starts before it.
#[derive(Clone, Default)]
pub struct NodeSlot(Arc<OnceLock<(node::Handle, Tasks)>>);

impl NodeSlot {
    /// `tasks` run the node's end of each connection.
    pub fn set(&self, node: node::Handle, tasks: Tasks) {
        // There is one node, and it is set once.
        let _ = self.0.set((node, tasks));
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
        let Some((handle, tasks)) = self.slot.0.get() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the node is still starting"));
        };
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let handle = handle.clone();
        tasks.spawn("connection", async move {
            if let Err(error) = handle.serve_connection(theirs).await {
                tracing::debug!(%error, "a connection to the node ended early");
            }
        });
        Ok(Box::new(ours))
    }
}
