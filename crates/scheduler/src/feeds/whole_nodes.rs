//! Nodes in full: kept for extenders before the engine learns of them.

use std::sync::Arc;

use client::{
    Client,
    feed::{Closed, Event, Fed, Sink, feed},
};
use runtime::Tasks;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Input, Inputs, Node};
use crate::extenders::Nodes;

pub(super) fn follow(client: &Client, tasks: &Tasks, nodes: Nodes, sender: &mpsc::Sender<Input>) {
    tasks.spawn("feed", feed::<WholeNode>(client.clone(), Kept { nodes, inputs: Inputs(sender.clone()) }));
}

struct WholeNode {
    node: Node,
    json: Arc<str>,
}

impl<'de> Deserialize<'de> for WholeNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let node = Node::deserialize(&value).map_err(D::Error::custom)?;
        Ok(WholeNode { node, json: value.to_string().into() })
    }
}

impl Fed for WholeNode {
    const PATH: &'static str = Node::PATH;

    fn namespace(&self) -> &str {
        self.node.namespace()
    }

    fn name(&self) -> &str {
        self.node.name()
    }

    fn uid(&self) -> &str {
        self.node.uid()
    }

    fn version(&self) -> &str {
        self.node.version()
    }
}

struct Kept {
    nodes: Nodes,
    inputs: Inputs,
}

impl Sink<WholeNode> for Kept {
    async fn take(&mut self, event: Event<WholeNode>) -> Result<(), Closed> {
        let event = match event {
            Event::Is(WholeNode { node, json }) => {
                self.nodes.set(node.name(), json);
                Event::Is(node)
            }
            Event::Gone { namespace, name, uid } => {
                self.nodes.remove(&name);
                Event::Gone { namespace, name, uid }
            }
            Event::Synced => Event::Synced,
        };
        Sink::<Node>::take(&mut self.inputs, event).await
    }
}
