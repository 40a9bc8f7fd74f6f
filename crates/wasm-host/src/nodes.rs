//! The nodes as guests may ask for them by name: a mirror of the engine's, brought up to date at the cost of what has changed.
//!
//! A guest's call cannot borrow the engine's world, since it may outlive any borrow; the mirror is what it gets instead. Each
//! node is encoded once per version.

use std::{collections::HashMap, sync::Arc};

use sched::{Node, NodeInfo, World};

use crate::objects;

/// Encoded nodes that are kept; past it, they are encoded each time.
const MAX_ENCODED_BYTES: usize = 64 << 20;
/// The field `items` of a list, as a key of protobuf's (2, length-delimited).
const ITEMS: u8 = 0x12;

struct Known {
    node: Arc<Node>,
    slot: usize,
    encoded: Option<Arc<[u8]>>,
}

#[derive(Default)]
pub(crate) struct Nodes {
    /// Of the world's log; `None`: nothing is known yet.
    position: Option<u64>,
    known: HashMap<Arc<str>, Known>,
    /// Who has which number: a number is given anew when its node is gone.
    slots: Vec<Option<Arc<str>>>,
    encoded_bytes: usize,
}

impl Nodes {
    /// Takes in what has changed.
    pub fn sync(&mut self, world: &World) {
        let position = world.position();
        if self.position == Some(position) {
            return;
        }
        match self.position.and_then(|before| world.changes_since(before)) {
            Some(changed) => changed.for_each(|id| self.update(world.info(id))),
            None => {
                *self = Nodes::default();
                world.nodes().for_each(|info| self.update(info));
            }
        }
        self.position = Some(position);
    }

    fn update(&mut self, info: &NodeInfo) {
        let slot = info.id.index();
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        if let Some(before) = self.slots[slot].take()
            && (!info.known || before != info.node.name)
            && self.known.get(&before).is_some_and(|known| known.slot == slot)
        {
            self.forget(&before);
        }
        if !info.known {
            return;
        }
        let name = info.node.name.clone();
        self.slots[slot] = Some(name.clone());
        if let Some(known) = self.known.get_mut(&name)
            && Arc::ptr_eq(&known.node, &info.node)
        {
            known.slot = slot;
            return;
        }
        self.forget(&name);
        self.known.insert(name, Known { node: info.node.clone(), slot, encoded: None });
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.known.remove(name) {
            self.encoded_bytes -= known.encoded.map_or(0, |bytes| bytes.len());
        }
    }

    /// A node's encoding.
    pub fn encoded(&mut self, name: &str) -> Option<Arc<[u8]>> {
        let known = self.known.get_mut(name)?;
        if let Some(encoded) = &known.encoded {
            return Some(encoded.clone());
        }
        let encoded: Arc<[u8]> = objects::node(&known.node).into();
        if self.encoded_bytes + encoded.len() <= MAX_ENCODED_BYTES {
            self.encoded_bytes += encoded.len();
            known.encoded = Some(encoded.clone());
        }
        Some(encoded)
    }

    /// All nodes as one NodeList, sorted by name.
    pub fn list(&mut self) -> Vec<u8> {
        let mut list = Vec::new();
        for name in self.names() {
            let Some(encoded) = self.encoded(&name) else { continue };
            list.push(ITEMS);
            prost::encode_length_delimiter(encoded.len(), &mut list).expect("a vector takes all that is written");
            list.extend_from_slice(&encoded);
        }
        list
    }

    /// The names of all nodes, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.known.keys().cloned().collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, label: &str) -> Arc<Node> {
        Arc::new(Node { name: name.into(), labels: vec![("l".into(), label.into())], ..Default::default() })
    }

    #[test]
    fn the_mirror_follows_the_world() {
        let (mut world, mut nodes) = (World::default(), Nodes::default());
        let mut check = |world: &World, expected: &[(&str, &str)]| {
            nodes.sync(world);
            let names: Vec<_> = expected.iter().map(|(name, _)| (*name).into()).collect();
            assert_eq!(nodes.names(), names);
            for (name, label) in expected {
                // Twice: as it is encoded, and as it is kept.
                for _ in 0..2 {
                    assert_eq!(*nodes.encoded(name).unwrap(), *objects::node(&node(name, label)), "{name}");
                }
            }
            assert!(nodes.encoded("none").is_none());
            let bytes: usize = nodes.known.values().filter_map(|known| Some(known.encoded.as_ref()?.len())).sum();
            assert_eq!(nodes.encoded_bytes, bytes);
        };
        check(&world, &[]);
        world.upsert_node(node("a", "1"));
        world.upsert_node(node("b", "1"));
        check(&world, &[("a", "1"), ("b", "1")]);
        world.upsert_node(node("a", "2"));
        check(&world, &[("a", "2"), ("b", "1")]);
        // A number that is given to another, and a name that comes back with another number.
        world.remove_node("a");
        world.remove_node("b");
        world.upsert_node(node("b", "3"));
        world.upsert_node(node("c", "3"));
        check(&world, &[("b", "3"), ("c", "3")]);
        world.remove_node("c");
        check(&world, &[("b", "3")]);
    }
}
