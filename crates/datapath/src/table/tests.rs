//! Transcripts of single changes, and the property that any history ends where a rebuild would.

use std::net::Ipv4Addr;

use client::Key;
use proptest::prelude::*;

use super::*;
use crate::plan::{Scope, address, backend, frontend};

/// The maps as the kernel would hold them.
#[derive(Clone, Default, Debug, PartialEq)]
struct Maps {
    services: BTreeMap<Frontend, Service>,
    backends: BTreeMap<Slot, Backend>,
    members: BTreeSet<Member>,
}

impl Maps {
    fn run(&mut self, op: Op) {
        match op {
            Op::SetBackend(slot, backend) => drop(self.backends.insert(slot, backend)),
            Op::RemoveBackend(slot) => assert!(self.backends.remove(&slot).is_some(), "{op:?} of nothing"),
            Op::AddMember(member) => drop(self.members.insert(member)),
            Op::RemoveMember(member) => assert!(self.members.remove(&member), "{op:?} of nothing"),
            Op::SetService(frontend, service) => drop(self.services.insert(frontend, service)),
            Op::RemoveService(frontend) => assert!(self.services.remove(&frontend).is_some(), "{op:?} of nothing"),
        }
        for service in self.services.values() {
            for index in 0..service.count {
                let slot = Slot { service: service.id, index };
                assert!(self.backends.contains_key(&slot), "after {op:?} slot {index} of {service:?} is empty");
            }
        }
    }

    fn adopt(&self) -> (Table, Vec<Op>) {
        Table::adopt(self.services.clone(), self.backends.clone(), self.members.clone())
    }

    /// What clients can observe: each frontend's backends and affinity. Nothing else may be in the maps.
    fn view(&self) -> BTreeMap<Frontend, (BTreeSet<Backend>, u32)> {
        let mut named = BTreeSet::new();
        let view = self.services.iter().map(|(frontend, service)| {
            let slots = (0..service.count).map(|index| Slot { service: service.id, index });
            let backends: BTreeSet<Backend> = slots.clone().map(|slot| self.backends[&slot]).collect();
            assert_eq!(backends.len(), service.count as usize, "a backend stands twice");
            if service.flags & SERVICE_AFFINITY != 0 {
                assert!(backends.iter().all(|b| self.members.contains(&Member {
                    service: service.id,
                    address: b.address,
                    port: b.port,
                    unused: 0
                })));
            }
            named.extend(slots);
            (*frontend, (backends, service.affinity_seconds))
        });
        let view = view.collect();
        assert!(self.backends.keys().all(|slot| named.contains(slot)), "backends without a service: {self:?}");
        view
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, 0, last)
}

fn id(name: &str) -> PortId {
    PortId { service: Key::new("default", name), port: "http".into(), protocol: 6, scope: Scope::Internal }
}

fn group(frontends: &[u8], backends: &[u8], affinity_seconds: u32) -> Group {
    Group {
        frontends: frontends.iter().map(|n| frontend(Ipv4Addr::new(10, 43, 0, *n), 80, 6)).collect(),
        backends: backends.iter().map(|n| backend(ip(*n), 80)).collect(),
        outside: BTreeSet::new(),
        affinity_seconds,
    }
}

fn show(ops: &[Op]) -> Vec<String> {
    let last = |a: u32| address(a).octets()[3];
    ops.iter()
        .map(|op| match op {
            Op::SetBackend(slot, b) => format!("slot {}.{} = {}", slot.service, slot.index, last(b.address)),
            Op::RemoveBackend(slot) => format!("slot {}.{} gone", slot.service, slot.index),
            Op::AddMember(m) => format!("member {}.{}", m.service, last(m.address)),
            Op::RemoveMember(m) => format!("member {}.{} gone", m.service, last(m.address)),
            Op::SetService(f, s) => format!("frontend {} = service {} with {}", last(f.address), s.id, s.count),
            Op::RemoveService(f) => format!("frontend {} gone", last(f.address)),
        })
        .collect()
}

#[test]
fn a_services_life() {
    let mut table = Table::default();
    let mut step = |group: Option<Group>, expected: &[&str]| {
        assert_eq!(show(&table.apply([(id("web"), group)])), expected);
    };
    step(Some(group(&[9], &[2, 3], 0)), &["slot 1.0 = 2", "slot 1.1 = 3", "frontend 9 = service 1 with 2"]);
    // One comes: only what is new is written.
    step(Some(group(&[9], &[2, 3, 4], 0)), &["slot 1.2 = 4", "frontend 9 = service 1 with 3"]);
    // One is replaced: the count stands.
    step(Some(group(&[9], &[5, 3, 4], 0)), &["slot 1.0 = 5"]);
    // One goes: the last one moves into its place before the count falls.
    step(Some(group(&[9], &[3, 4], 0)), &["slot 1.0 = 4", "frontend 9 = service 1 with 2", "slot 1.2 gone"]);
    step(Some(group(&[9], &[3, 4], 0)), &[]);
    step(Some(group(&[9], &[], 0)), &["frontend 9 = service 1 with 0", "slot 1.1 gone", "slot 1.0 gone"]);
    step(None, &["frontend 9 gone"]);
}

#[test]
fn a_frontend_passes_to_the_next_in_line() {
    let mut table = Table::default();
    table.apply([(id("a"), Some(group(&[9], &[2], 0)))]);
    assert_eq!(show(&table.apply([(id("b"), Some(group(&[9], &[3], 0)))])), ["slot 2.0 = 3"]);
    assert_eq!(show(&table.apply([(id("a"), None)])), ["frontend 9 = service 2 with 1", "slot 1.0 gone"]);
}

#[test]
fn affinity_members_follow_the_backends() {
    let mut table = Table::default();
    table.apply([(id("a"), Some(group(&[9], &[2, 3], 60)))]);
    let ops = table.apply([(id("a"), Some(group(&[9], &[3], 60)))]);
    assert_eq!(show(&ops), ["member 1.2 gone", "slot 1.0 = 3", "frontend 9 = service 1 with 1", "slot 1.1 gone"]);
}

/// Frontends, backends and whether clients stick.
type Sets = (BTreeSet<u8>, BTreeSet<u8>, bool);

fn change() -> impl Strategy<Value = (u8, Option<Sets>)> {
    let sets = (prop::collection::btree_set(0u8..6, 0..4), prop::collection::btree_set(0u8..12, 0..9), any::<bool>());
    (0u8..4, prop::option::weighted(0.85, sets))
}

proptest! {
    #[test]
    fn any_history_ends_where_a_rebuild_would(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..12),
        crash in any::<prop::sample::Index>(),
    ) {
        let (mut table, mut maps) = (Table::default(), Maps::default());
        let mut wanted: BTreeMap<PortId, Group> = BTreeMap::new();
        let mut history = vec![maps.clone()];
        for batch in batches {
            let changes: Vec<_> = batch
                .into_iter()
                .map(|(n, sets)| {
                    let group = sets.map(|(frontends, backends, sticky)| {
                        let list = |set: BTreeSet<u8>| set.into_iter().collect::<Vec<_>>();
                        group(&list(frontends), &list(backends), u32::from(sticky) * 60)
                    });
                    (id(&format!("s{n}")), group)
                })
                .collect();
            for (id, group) in &changes {
                match group {
                    Some(group) => drop(wanted.insert(id.clone(), group.clone())),
                    None => drop(wanted.remove(id)),
                }
            }
            for op in table.apply(changes) {
                maps.run(op);
                history.push(maps.clone());
            }
        }
        // Who comes first owns a shared frontend, which a rebuild cannot know: compare the rest.
        let shared = |f: &Frontend| wanted.values().filter(|g| g.frontends.contains(f)).count() > 1;
        let expected: BTreeMap<_, _> = wanted
            .values()
            .flat_map(|g| g.frontends.iter().map(|f| (*f, (g.backends.clone(), g.affinity_seconds))))
            .filter(|(f, _)| !shared(f))
            .collect();
        let check = |maps: &Maps| {
            let unnamed: BTreeSet<u32> = wanted
                .values()
                .filter(|g| g.frontends.iter().all(shared))
                .map(|_| 0)
                .collect();
            // A group that lost all its frontends to others keeps its backends ready for the day it gets one back.
            if unnamed.is_empty() {
                maps.view();
            }
            let view: BTreeMap<_, _> = maps
                .services
                .iter()
                .filter(|(f, _)| !shared(f))
                .map(|(f, s)| {
                    let slots = (0..s.count).map(|index| maps.backends[&Slot { service: s.id, index }]);
                    (*f, (slots.collect::<BTreeSet<_>>(), s.affinity_seconds))
                })
                .collect();
            assert_eq!(view, expected);
        };
        check(&maps);

        // A process that died at any point of that history is followed by one that ends in the same state.
        let mut maps = crash.get(&history).clone();
        let (mut table, ops) = maps.adopt();
        ops.into_iter().for_each(|op| maps.run(op));
        for op in table.apply(wanted.iter().map(|(id, group)| (id.clone(), Some(group.clone())))) {
            maps.run(op);
        }
        for op in table.drop_inherited() {
            maps.run(op);
        }
        check(&maps);
        prop_assert_eq!(table.apply(wanted.iter().map(|(id, group)| (id.clone(), Some(group.clone())))), vec![]);
    }
}
