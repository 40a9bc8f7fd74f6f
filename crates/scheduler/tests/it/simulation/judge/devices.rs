//! Devices: each has one claim, each claim has devices that there are, and a pod on a node has what it was promised.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{Judge, past::Past};
use crate::simulation::{
    devices::{CLASS, allocated, claims_of, holders, wanted},
    model::Machine,
    store::{Store, has_ended, is_leaving, name, node_of, uid},
};

/// A device of a pool, which has the name of its node.
pub struct Device {
    pub pool: String,
    pub device: String,
}

impl Judge {
    /// The devices of a node are these from now on. `version`: that which says so.
    pub fn devices_are(&mut self, node: &str, all: &[String], version: usize) {
        let before = self.devices.iter_mut().filter(|past| past.what.pool == node);
        before.for_each(|past| past.ends(version));
        let new = all.iter().map(|device| Past::new(Device { pool: node.into(), device: device.clone() }));
        self.devices.extend(new);
    }

    /// A scheduler writes a claim's status.
    pub fn claim_is_written(&mut self, scheduler: u32, before: &Value, after: &Value, store: &Store, now: Duration) {
        let (had, has) = (allocated(before), allocated(after));
        let what = name(after).to_owned();
        let mut found = Vec::new();
        if had.is_empty() && !has.is_empty() {
            found.extend(self.wrong_devices(scheduler, after, store, now));
        } else if !had.is_empty() && has.is_empty() {
            found.extend(self.users(scheduler, before, store, now).map(|pod| {
                format!("devices stay with their pods: claim {what} is deallocated though {pod} on a node uses it")
            }));
        } else if had != has {
            found.push(format!("devices stay with their claims: {what} had {had:?} and has {has:?}"));
        }
        self.claimed_by.insert(uid(after).to_owned(), scheduler);
        self.violations.extend(found);
    }

    /// Whether a scheduler need not know how the claim is now, since another has written it.
    fn may_not_know_claim(&self, scheduler: u32, claim: &Value, now: Duration) -> bool {
        let by = self.claimed_by.get(uid(claim));
        by.is_some_and(|by| *by != scheduler && self.may_not_know(scheduler, *by, claim, "resourceclaims", now))
    }

    /// No device is allocated twice, and none that there is not.
    fn wrong_devices(&self, scheduler: u32, claim: &Value, store: &Store, now: Duration) -> Vec<String> {
        let mut found = Vec::new();
        for (pool, device) in allocated(claim) {
            let is = |past: &&Past<Device>| past.what.pool == pool && past.what.device == device;
            if !self.devices.iter().filter(is).any(|past| past.is_believed(scheduler, now)) {
                found.push(format!("devices exist: {} is allocated {pool}/{device}, which there is not", name(claim)));
            }
            let others = store.all("resourceclaims").filter(|other| uid(other) != uid(claim));
            let others = others.filter(|other| !self.may_not_know_claim(scheduler, other, now));
            let has = |other: &&Value| allocated(other).contains(&(pool.clone(), device.clone()));
            if let Some(other) = others.filter(has).map(name).next() {
                found.push(format!("devices have one claim: {pool}/{device} goes to {}, {other} has it", name(claim)));
            }
        }
        found
    }

    /// The pods on nodes that use a claim, as far as the scheduler must know of them.
    fn users(&self, scheduler: u32, claim: &Value, store: &Store, now: Duration) -> impl Iterator<Item = String> {
        let uses =
            |pod: &&Value| node_of(pod).is_some() && !has_ended(pod) && claims_of(pod).contains(&Some(name(claim)));
        let known = |pod: &&Value| !self.may_not_know_node(scheduler, pod, now);
        let all: Vec<String> = store.all("pods").filter(uses).filter(known).map(|pod| name(pod).to_owned()).collect();
        all.into_iter()
    }

    /// A pod that is bound holds its claims, and they have devices of that node. When two schedulers are at work, one may take
    /// back what the other relies on; the controller makes up for it later.
    pub(super) fn devices_at_binding(
        &self,
        scheduler: u32,
        pod: &Value,
        node: &str,
        store: &Store,
        now: Duration,
    ) -> Vec<String> {
        let claims = claims_of(pod).into_iter().map(|claim| store.get("resourceclaims", claim?));
        let claims = claims.filter(|claim| !claim.is_some_and(|claim| self.may_not_know_claim(scheduler, claim, now)));
        let lacks = claims.filter_map(|claim| lacks(pod, node, claim));
        lacks.map(|what| format!("devices before binding: {} {what}", name(pod))).collect()
    }

    /// Pods on nodes hold their claims, and nobody else does who will never come again.
    pub(super) fn claims_are_held(&self, store: &Store) -> Vec<String> {
        let placed = store.all("pods").filter(|pod| !has_ended(pod) && !is_leaving(pod));
        let lacking = placed.filter_map(|pod| {
            let claims = claims_of(pod).into_iter().map(|claim| store.get("resourceclaims", claim?));
            let node = node_of(pod)?;
            let what = claims.filter_map(|claim| lacks(pod, node, claim)).next()?;
            Some(format!("claims are held: {} {what}", name(pod)))
        });
        let mut found: Vec<String> = lacking.collect();
        let there: BTreeSet<&str> = store.all("pods").filter(|pod| !has_ended(pod)).map(uid).collect();
        for claim in store.all("resourceclaims") {
            let gone = holders(claim).into_iter().filter(|holder| !there.contains(holder));
            found.extend(gone.map(|pod| format!("claims are given back: {} is held for {pod}", name(claim))));
        }
        found
    }

    /// Whether all claims of a pod are there.
    pub(super) fn has_claims(&self, store: &Store, pod: &Value) -> bool {
        claims_of(pod).into_iter().all(|claim| {
            let claim = claim.and_then(|claim| store.get("resourceclaims", claim));
            claim.is_some_and(|claim| !is_leaving(claim))
        })
    }

    /// Whether there are devices on the machine for all claims of a pod that waits. `freed`: claims that nobody else holds can be
    /// allocated anew.
    pub(super) fn has_devices(&self, store: &Store, pod: &Value, machine: &Machine, freed: bool) -> bool {
        let (mut needed, mut own) = (0, BTreeSet::new());
        for claim in claims_of(pod) {
            let claim = claim.and_then(|claim| store.get("resourceclaims", claim));
            let Some(claim) = claim.filter(|claim| !is_leaving(claim)) else { return false };
            let devices = allocated(claim);
            let is_here = !devices.is_empty() && devices.iter().all(|(pool, _)| *pool == machine.name);
            let is_free = freed && holders(claim).iter().all(|holder| *holder == uid(pod));
            if is_here {
                continue;
            }
            if !devices.is_empty() && !is_free {
                return false;
            }
            needed += wanted(claim);
            own.insert(uid(claim));
        }
        if needed == 0 {
            return true;
        }
        let others = store.all("resourceclaims").filter(|claim| !own.contains(uid(claim)));
        let taken: BTreeSet<(String, String)> = others.flat_map(allocated).collect();
        let here = self.devices.iter().filter(|past| past.is_present() && past.what.pool == machine.name);
        let free = here.filter(|past| !taken.contains(&(past.what.pool.clone(), past.what.device.clone()))).count();
        store.get("deviceclasses", CLASS).is_some() && free >= needed
    }
}

/// What a pod on this node lacks of one of its claims; `None` for one that is not there.
fn lacks(pod: &Value, node: &str, claim: Option<&Value>) -> Option<String> {
    let Some(claim) = claim else { return Some("has a claim that is not there".to_owned()) };
    let devices = allocated(claim);
    if devices.len() != wanted(claim) || devices.iter().any(|(pool, _)| pool != node) {
        return Some(format!("is on {node}, its claim {} has {devices:?}", name(claim)));
    }
    let holds = holders(claim).contains(&uid(pod));
    (!holds).then(|| format!("does not hold its claim {}", name(claim)))
}
