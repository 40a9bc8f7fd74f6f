//! From groups to map operations: the difference between what the maps hold and what they should hold.
//!
//! Pure. The operations of one [`Table::apply`] are in an order in which a connection can be made at any moment between
//! two of them: backends are written before the count that names them, and removed after it. Whatever an earlier
//! process left, even in the middle of such a list, is taken over by [`Table::adopt`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datapath_abi::{Backend, Frontend, Member, SERVICE_AFFINITY, Service, Slot};

use crate::plan::{Group, PortId};

/// One write to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    SetBackend(Slot, Backend),
    RemoveBackend(Slot),
    AddMember(Member),
    RemoveMember(Member),
    SetService(Frontend, Service),
    RemoveService(Frontend),
}

/// What the maps hold.
#[derive(Default)]
pub struct Table {
    groups: BTreeMap<PortId, Entry>,
    /// Who asked for a frontend, in the order of asking: the first has it. Two services may name one external IP.
    claims: HashMap<Frontend, Vec<PortId>>,
    services: HashMap<Frontend, Service>,
    /// Left by an earlier process and not yet matched with a group.
    inherited: BTreeMap<u32, Entry>,
    last_id: u32,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    id: u32,
    frontends: BTreeSet<Frontend>,
    slots: Vec<Backend>,
    members: BTreeSet<Backend>,
    affinity_seconds: u32,
}

/// The operations in their order of execution.
#[derive(Default)]
struct Ops {
    /// Backends that come or move.
    first: Vec<Op>,
    /// Frontends.
    then: Vec<Op>,
    /// Backends that nothing names any more.
    last: Vec<Op>,
}

impl Table {
    /// Takes over what the maps hold already. Returns the operations that remove what no crash leaves in a usable form.
    pub fn adopt(
        services: impl IntoIterator<Item = (Frontend, Service)>,
        backends: impl IntoIterator<Item = (Slot, Backend)>,
        members: impl IntoIterator<Item = Member>,
    ) -> (Table, Vec<Op>) {
        let mut table = Table::default();
        let mut ops = Vec::new();
        let backends: BTreeMap<Slot, Backend> = backends.into_iter().collect();
        for (slot, backend) in backends {
            let entry = table.inherit(slot.service);
            if entry.slots.len() == slot.index as usize {
                entry.slots.push(backend);
            } else {
                ops.push(Op::RemoveBackend(slot));
            }
        }
        for member in members {
            let backend = Backend { address: member.address, port: member.port, unused: 0 };
            table.inherit(member.service).members.insert(backend);
        }
        for (frontend, service) in services {
            table.inherit(service.id).frontends.insert(frontend);
            table.services.insert(frontend, service);
        }
        (table, ops)
    }

    /// Changes the given groups (`None`: gone) and returns what to write.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (PortId, Option<Group>)>) -> Vec<Op> {
        let mut ops = Ops::default();
        let mut touched = BTreeSet::new();
        // Of two changes to one group the later counts: a slot freed by the one and used by the other would be lost.
        let changes: BTreeMap<PortId, Option<Group>> = changes.into_iter().collect();
        for (id, group) in changes {
            match group {
                Some(group) => self.change(id, &group, &mut touched, &mut ops),
                None => self.remove(&id, &mut touched, &mut ops),
            }
        }
        self.settle(touched, &mut ops);
        ops.into_list()
    }

    /// Removes what an earlier process left and nobody has asked for since: called once, when everything is known.
    pub fn drop_inherited(&mut self) -> Vec<Op> {
        let mut ops = Ops::default();
        let mut touched = BTreeSet::new();
        for entry in std::mem::take(&mut self.inherited).into_values() {
            touched.extend(entry.frontends.iter().copied());
            entry.retire(&mut ops);
        }
        self.settle(touched, &mut ops);
        ops.into_list()
    }

    /// Frontends and backends that are programmed.
    pub fn len(&self) -> (usize, usize) {
        (self.services.len(), self.groups.values().map(|entry| entry.slots.len()).sum())
    }

    /// The ids of the groups that belong to `service`.
    pub fn groups_of(&self, service: &client::Key) -> Vec<PortId> {
        let first =
            PortId { service: service.clone(), port: String::new(), protocol: 0, scope: crate::plan::Scope::Internal };
        self.groups.range(first..).map(|(id, _)| id.clone()).take_while(|id| id.service == *service).collect()
    }

    fn inherit(&mut self, id: u32) -> &mut Entry {
        self.last_id = self.last_id.max(id);
        self.inherited.entry(id).or_insert_with(|| Entry { id, ..Entry::default() })
    }

    fn change(&mut self, id: PortId, group: &Group, touched: &mut BTreeSet<Frontend>, ops: &mut Ops) {
        let mut entry = match self.groups.remove(&id) {
            Some(entry) => entry,
            None => self.new_entry(group),
        };
        let gone: Vec<Frontend> = entry.frontends.difference(&group.frontends).copied().collect();
        for frontend in gone {
            self.unclaim(&frontend, &id);
            touched.insert(frontend);
        }
        for frontend in &group.frontends {
            let claims = self.claims.entry(*frontend).or_default();
            if !claims.contains(&id) {
                claims.push(id.clone());
            }
            touched.insert(*frontend);
        }
        entry.frontends = group.frontends.clone();
        entry.affinity_seconds = group.affinity_seconds;
        entry.update_members(if group.affinity_seconds > 0 { group.backends.clone() } else { BTreeSet::new() }, ops);
        entry.update_slots(&group.backends, ops);
        self.groups.insert(id, entry);
    }

    fn remove(&mut self, id: &PortId, touched: &mut BTreeSet<Frontend>, ops: &mut Ops) {
        let Some(entry) = self.groups.remove(id) else { return };
        for frontend in &entry.frontends {
            self.unclaim(frontend, id);
            touched.insert(*frontend);
        }
        entry.retire(ops);
    }

    /// An entry that an earlier process left under one of the group's frontends, or a fresh one.
    fn new_entry(&mut self, group: &Group) -> Entry {
        for frontend in &group.frontends {
            let inherited = self.services.get(frontend).and_then(|service| self.inherited.remove(&service.id));
            if let Some(entry) = inherited {
                return entry;
            }
        }
        self.last_id = self.last_id.wrapping_add(1);
        Entry { id: self.last_id, ..Entry::default() }
    }

    fn unclaim(&mut self, frontend: &Frontend, id: &PortId) {
        if let Some(claims) = self.claims.get_mut(frontend) {
            claims.retain(|claim| claim != id);
            if claims.is_empty() {
                self.claims.remove(frontend);
            }
        }
    }

    /// Brings the entries of the touched frontends to what their owners say.
    fn settle(&mut self, touched: BTreeSet<Frontend>, ops: &mut Ops) {
        for frontend in touched {
            let owner = self.claims.get(&frontend).and_then(|claims| claims.first());
            let wanted = owner.and_then(|id| self.groups.get(id)).map(Entry::service);
            if self.services.get(&frontend) == wanted.as_ref() {
                continue;
            }
            match wanted {
                Some(service) => {
                    self.services.insert(frontend, service);
                    ops.then.push(Op::SetService(frontend, service));
                }
                None => {
                    self.services.remove(&frontend);
                    ops.then.push(Op::RemoveService(frontend));
                }
            }
        }
    }
}

impl Entry {
    fn service(&self) -> Service {
        Service {
            id: self.id,
            count: self.slots.len() as u32,
            flags: if self.affinity_seconds > 0 { SERVICE_AFFINITY } else { 0 },
            affinity_seconds: self.affinity_seconds,
        }
    }

    fn slot(&self, index: usize) -> Slot {
        Slot { service: self.id, index: index as u32 }
    }

    fn member(&self, backend: &Backend) -> Member {
        Member { service: self.id, address: backend.address, port: backend.port, unused: 0 }
    }

    fn update_members(&mut self, wanted: BTreeSet<Backend>, ops: &mut Ops) {
        ops.first.extend(wanted.difference(&self.members).map(|backend| Op::AddMember(self.member(backend))));
        // A client that sticks to a backend that goes must look for another at once.
        ops.first.extend(self.members.difference(&wanted).map(|backend| Op::RemoveMember(self.member(backend))));
        self.members = wanted;
    }

    /// Backends that stay keep their slots; new ones take the places of those that go, and the last fill the holes.
    fn update_slots(&mut self, wanted: &BTreeSet<Backend>, ops: &mut Ops) {
        let mut missing = wanted.clone();
        // A backend that stands twice is what a crash in the middle of a removal leaves.
        let mut holes: Vec<usize> =
            self.slots.iter().enumerate().filter(|(_, backend)| !missing.remove(backend)).map(|(i, _)| i).collect();
        let mut missing = missing.into_iter();
        holes.reverse();
        while let Some(hole) = holes.last().copied() {
            let Some(backend) = missing.next() else { break };
            self.slots[hole] = backend;
            ops.first.push(Op::SetBackend(self.slot(hole), backend));
            holes.pop();
        }
        for backend in missing {
            ops.first.push(Op::SetBackend(self.slot(self.slots.len()), backend));
            self.slots.push(backend);
        }
        // From the back, so that the last slot is never itself a hole that is still to be filled.
        for hole in holes {
            let last = self.slots.len() - 1;
            if hole != last {
                self.slots[hole] = self.slots[last];
                ops.first.push(Op::SetBackend(self.slot(hole), self.slots[hole]));
            }
            ops.last.push(Op::RemoveBackend(self.slot(last)));
            self.slots.pop();
        }
    }

    fn retire(self, ops: &mut Ops) {
        ops.last.extend(self.members.iter().map(|backend| Op::RemoveMember(self.member(backend))));
        ops.last.extend((0..self.slots.len()).rev().map(|index| Op::RemoveBackend(self.slot(index))));
    }
}

impl Ops {
    fn into_list(self) -> Vec<Op> {
        let mut list = self.first;
        list.extend(self.then);
        list.extend(self.last);
        list
    }
}

#[cfg(test)]
mod tests;
