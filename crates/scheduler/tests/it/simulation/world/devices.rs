//! Devices come, change and go with their nodes; claims that several pods use come and go as well.

use std::time::Duration;

use serde_json::Value;

use super::World;
use crate::simulation::{
    devices::{self, SHARED},
    model::{Demand, Machine},
};

/// The most devices of a node.
const MAX_DEVICES: u64 = 4;
/// Slices of one pool are not written at the same time.
const BETWEEN_SLICES: u64 = 2500;

impl World {
    pub(super) fn begin_devices(&mut self) {
        self.api.change(|state, _| state.store.put("deviceclasses", devices::class()));
        for _ in 0..self.random.between(0, 2) {
            self.change_shared_claim();
        }
    }

    /// One thing happens to devices or claims.
    pub(super) fn act_on_devices(&mut self) {
        match self.random.between(0, 9) {
            0..=4 => {
                if let Some(machine) = self.any_node() {
                    self.publish(&machine.name);
                }
            }
            5..=8 => self.change_shared_claim(),
            _ => self.api.change(|state, now| {
                let there = state.store.get("deviceclasses", devices::CLASS).is_some();
                state.story.say(now, format_args!("the class of devices {}", if there { "goes" } else { "comes" }));
                if there {
                    state.store.remove("deviceclasses", devices::CLASS);
                } else {
                    state.store.put("deviceclasses", devices::class());
                }
            }),
        }
    }

    /// A node's driver says anew which devices there are; in one slice or in two, the second a little later.
    pub(super) fn publish(&mut self, node: &str) {
        self.generations += 1;
        let generation = self.generations;
        let chosen: Vec<String> =
            (0..=MAX_DEVICES).filter(|_| self.random.chance(600)).map(|n| format!("gpu-{n}")).collect();
        let slices = if self.random.chance(300) { 2 } else { 1 };
        let (first, second) = chosen.split_at(if slices == 2 { chosen.len() / 2 } else { chosen.len() });
        let slice = |number: usize, part: &[String]| devices::slice(node, number, slices, generation, part);
        let (first, second) = (slice(0, first), (slices == 2).then(|| slice(1, second)));
        self.api.change(|state, now| {
            state.story.say(now, format_args!("devices of {node}, generation {generation}: {chosen:?}"));
            state.judge.devices_are(node, &chosen, state.store.version() + 1);
            state.store.put("resourceslices", first);
            if second.is_none() {
                state.store.remove("resourceslices", &devices::slice_name(node, 1));
            }
        });
        if let Some(second) = second {
            self.publish_later(node, generation, second);
        }
    }

    fn publish_later(&mut self, node: &str, generation: u64, slice: Value) {
        let pause = Duration::from_millis(self.random.between(0, BETWEEN_SLICES));
        let (api, first) = (self.api.clone(), devices::slice_name(node, 0));
        self.tasks.spawn("slice", async move {
            tokio::time::sleep(pause).await;
            api.change(|state, _| {
                let newest = state.store.get("resourceslices", &first);
                if newest.is_some_and(|newest| newest["spec"]["pool"]["generation"] == generation) {
                    state.store.put("resourceslices", slice);
                }
            });
        });
    }

    /// A node has come: its driver may have devices.
    pub(super) fn node_has_come(&mut self, machine: &Machine) {
        if self.has_devices && self.random.chance(800) {
            self.publish(&machine.name);
        }
    }

    /// A node is gone: what its driver has said may stay for a while.
    pub(super) fn node_has_gone(&mut self, machine: &Machine) {
        if self.has_devices && self.random.chance(500) {
            self.api.change(|state, _| {
                state.judge.devices_are(&machine.name, &[], state.store.version() + 1);
                for number in 0..2 {
                    state.store.remove("resourceslices", &devices::slice_name(&machine.name, number));
                }
            });
        }
    }

    /// A claim for several pods comes, or is deleted.
    fn change_shared_claim(&mut self) {
        self.claims += 1;
        let (name, count) = (self.random.pick(&SHARED).unwrap(), self.random.pick(&[1, 1, 2]).unwrap());
        let uid = format!("uid-{name}-{}", self.claims);
        self.api.change(|state, now| {
            if state.store.get("resourceclaims", name).is_some() {
                state.story.say(now, format_args!("claim {name} is deleted"));
                devices::delete_claim(&mut state.store, name);
            } else {
                state.story.say(now, format_args!("claim {name} for {count} devices"));
                state.store.put("resourceclaims", devices::claim(name, &uid, count));
            }
        });
    }

    /// A pod may want devices.
    pub(super) fn ask_for_devices(&mut self, demand: &mut Demand) {
        let random = &mut self.random;
        let (shared, own) = (random.pick(&SHARED), random.pick(&[1, 1, 2]).unwrap());
        match random.between(0, 9) {
            0 | 1 => demand.shared_claim = shared,
            2 | 3 => demand.own_devices = own,
            4 => (demand.shared_claim, demand.own_devices) = (shared, own),
            _ => {}
        }
    }
}
