//! Which events a guest wants to hear of: what its `enqueue` names. Others do not help pods that it has rejected.

use sched::{Node, framework::Event};

/// Kinds of objects, as kube-scheduler-wasm-extension numbers them.
const POD: u32 = 0;
const NODE: u32 = 1;
const WILDCARD: u32 = 10;
/// The kinds of which storage is made: volumes, claims, classes, and what drivers say of themselves.
const STORAGE: [u32; 6] = [2, 3, 6, 7, 8, 9];

/// What can happen to them, as bits.
const ADD: u32 = 1;
const DELETE: u32 = 1 << 1;
const UPDATE_ALLOCATABLE: u32 = 1 << 2;
const UPDATE_LABEL: u32 = 1 << 3;
const UPDATE_TAINT: u32 = 1 << 4;
const UPDATE_CONDITION: u32 = 1 << 5;
const UPDATE: u32 = UPDATE_ALLOCATABLE | UPDATE_LABEL | UPDATE_TAINT | UPDATE_CONDITION;

/// Pairs of a kind and what happens to it. Without any, everything may help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest(Vec<(u32, u32)>);

impl Interest {
    /// Reads what the guest has handed over: two numbers of 32 bits, little endian, for each pair.
    pub fn read(bytes: &[u8]) -> Self {
        let (pairs, _) = bytes.as_chunks::<8>();
        let pairs = pairs.iter().map(|[a, b, c, d, e, f, g, h]| {
            (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]))
        });
        Interest(pairs.collect())
    }

    pub fn includes(&self, event: &Event) -> bool {
        let named = |kinds: &[u32], action: u32| {
            let fits =
                |(kind, actions): &(u32, u32)| (kinds.contains(kind) || *kind == WILDCARD) && actions & action != 0;
            self.0.is_empty() || self.0.iter().any(fits)
        };
        match event {
            Event::NodeAdded(_) => named(&[NODE], ADD),
            Event::NodeUpdated { old, new } => named(&[NODE], changes(old, new)),
            Event::NodeRemoved(_) => named(&[NODE], DELETE),
            Event::PodAdded(_) => named(&[POD], ADD),
            Event::PodUpdated { .. } => named(&[POD], UPDATE),
            Event::PodRemoved(_) => named(&[POD], DELETE),
            Event::Storage(_) => named(&STORAGE, ADD | DELETE | UPDATE),
            // These have no number: only who wants everything hears of them.
            Event::NamespaceChanged | Event::WorkloadChanged | Event::Devices(_) => named(&[], UPDATE),
        }
    }
}

/// What has changed of a node.
fn changes(old: &Node, new: &Node) -> u32 {
    let kinds = [
        (old.allocatable != new.allocatable || old.allowed_pods != new.allowed_pods, UPDATE_ALLOCATABLE),
        (old.labels != new.labels, UPDATE_LABEL),
        (old.taints != new.taints || old.unschedulable != new.unschedulable, UPDATE_TAINT),
        (old.images != new.images, UPDATE_CONDITION),
    ];
    kinds.into_iter().filter(|(changed, _)| *changed).fold(0, |all, (_, kind)| all | kind)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_guest_hears_of_what_it_has_named() {
        let check = |pairs: &[(u32, u32)], event: &Event, expected: bool| {
            let bytes: Vec<u8> =
                pairs.iter().flat_map(|(kind, action)| [kind.to_le_bytes(), action.to_le_bytes()]).flatten().collect();
            assert_eq!(Interest::read(&bytes).includes(event), expected, "{pairs:?} {event:?}");
        };
        let old = Arc::new(Node::default());
        let new = Arc::new(Node { labels: vec![("a".into(), "b".into())], ..Default::default() });
        let updated = Event::NodeUpdated { old: old.clone(), new };
        let added = Event::NodeAdded(old);
        check(&[], &added, true);
        check(&[], &Event::WorkloadChanged, true);
        check(&[(NODE, ADD)], &added, true);
        check(&[(NODE, DELETE)], &added, false);
        check(&[(POD, ADD)], &added, false);
        check(&[(POD, ADD), (NODE, UPDATE_LABEL)], &updated, true);
        check(&[(NODE, UPDATE_TAINT)], &updated, false);
        check(&[(WILDCARD, 0x3f)], &updated, true);
        check(&[(NODE, 0x3f)], &Event::WorkloadChanged, false);
        // What is too short for a pair is none.
        assert_eq!(Interest::read(&[1; 7]), Interest::default());
    }
}
