//! What a node has on offer for an allocation, and what of it is free.

use std::collections::HashMap;

use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};
use kube_schema::quantity::Quantity;

use super::capacity;
use crate::{
    Error, Inventory, NodeFacts, Used,
    inventory::{Features, Offer, State, View},
    used::Taken,
    wanted::{Alternative, Wanted},
};

/// All devices that the node reaches, in the order in which they are tried.
pub(super) struct Ground<'a> {
    pub features: &'a Features,
    views: Vec<View<'a>>,
    pub candidates: Vec<Candidate<'a>>,
    used: &'a Used,
}

/// A device that may be given out.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub offer: &'a Offer,
    /// Its pool's number on this ground.
    pub pool: usize,
    pub taken: Option<&'a Taken>,
}

impl Candidate<'_> {
    /// Whether somebody has it for themselves. One that could be shared and no longer can is not free either.
    pub fn is_taken(&self) -> bool {
        self.taken.is_some_and(|taken| taken.wholly > 0 || (taken.shares > 0 && !self.offer.device().shareable))
    }
}

impl<'a> Ground<'a> {
    pub fn of(node: &NodeFacts<'_>, used: &'a Used, inventory: &'a Inventory) -> Result<Self, Error> {
        let views = inventory.views(node)?;
        let mut candidates = Vec::new();
        for (pool, view) in views.iter().enumerate() {
            let id = &view.pool.id;
            let devices = used.pool(&id.driver, &id.pool);
            candidates.extend(view.offers.iter().map(|offer| {
                let taken = devices.and_then(|devices| devices.get(&offer.raw().name));
                Candidate { offer, pool, taken }
            }));
        }
        Ok(Ground { features: inventory.features(), views, candidates, used })
    }

    /// The driver and the name of a candidate's pool.
    pub fn pool(&self, candidate: &Candidate<'_>) -> (&'a str, &'a str) {
        let pool: &'a crate::inventory::Pool = self.views[candidate.pool].pool;
        (&pool.id.driver, &pool.id.pool)
    }

    /// What is left of each counter of a pool.
    pub fn free_counters(&self, pool: usize) -> Vec<Quantity> {
        let pool = self.views[pool].pool;
        let mut free = pool.counters.clone();
        for device in self.used.pool(&pool.id.driver, &pool.id.pool).into_iter().flat_map(HashMap::keys) {
            let Some(offer) = pool.by_name.get(device) else { continue };
            for (counter, amount) in &pool.offers[*offer].consumes {
                free[*counter] = free[*counter].minus(amount);
            }
        }
        free
    }

    /// The devices that "all" means, whoever has them.
    pub fn all(&self, wanted: &Wanted, alternative: &Alternative) -> Result<Vec<usize>, Error> {
        for view in &self.views {
            let why = match &view.state {
                State::Ready => continue,
                State::Incomplete => "being updated",
                State::Invalid(_) => "invalid",
            };
            let pool = &view.pool.id;
            let reason = format!("asks for all devices, but resource pool {pool} is currently {why}");
            let place = format!(", request {}", alternative.name);
            return Err(Error::Claim { claim: wanted.claim.clone(), place, reason, here: true });
        }
        let mut found = Vec::new();
        for (at, candidate) in self.candidates.iter().enumerate() {
            if self.selected(wanted, alternative, candidate)? && self.has_capacity(alternative, candidate) {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// Whether a device does for the alternative, whatever else this allocation gives out.
    pub fn suits(&self, wanted: &Wanted, alternative: &Alternative, candidate: &Candidate<'_>) -> Result<bool, Error> {
        Ok((alternative.admin_access || !candidate.is_taken())
            && self.selected(wanted, alternative, candidate)?
            && self.has_capacity(alternative, candidate)
            && self.may_be_used(alternative, candidate))
    }

    fn selected(&self, wanted: &Wanted, alternative: &Alternative, candidate: &Candidate<'_>) -> Result<bool, Error> {
        let conditions = candidate.offer.raw().binding_conditions.as_ref();
        if !self.features.device_binding_conditions && conditions.is_some_and(|conditions| !conditions.is_empty()) {
            return Ok(false);
        }
        let device = candidate.offer.device();
        wanted.selects(alternative, device.serial, &device.subject)
    }

    fn has_capacity(&self, alternative: &Alternative, candidate: &Candidate<'_>) -> bool {
        let device = candidate.offer.device();
        if !self.features.consumable_capacity || capacity::is_plain(alternative, device) {
            return true;
        }
        let others: Vec<_> = candidate.taken.iter().map(|taken| &taken.capacity).collect();
        let taken = capacity::taken(alternative, &device.capacity);
        taken.is_some_and(|amounts| capacity::fits(&amounts, &device.capacity, &others))
    }

    /// Whether neither a taint nor counters that are not understood forbid it.
    pub fn may_be_used(&self, alternative: &Alternative, candidate: &Candidate<'_>) -> bool {
        let consumes = candidate.offer.raw().consumes_counters.as_ref();
        if !self.features.partitionable_devices && consumes.is_some_and(|consumes| !consumes.is_empty()) {
            return false;
        }
        let tolerated =
            |taint: &DeviceTaint| alternative.tolerations.iter().any(|toleration| tolerates(toleration, taint));
        !self.features.device_taints || candidate.offer.device().taints.iter().all(tolerated)
    }

    /// What is wrong with the pools that could not be looked into.
    pub fn invalid_pools(&self) -> Option<Error> {
        let invalid = self.views.iter().filter_map(|view| match &view.state {
            State::Invalid(reason) => Some(format!("{}: {reason}", view.pool.id)),
            _ => None,
        });
        let pools: Vec<String> = invalid.collect();
        (!pools.is_empty()).then(|| Error::InvalidPools { pools: pools.join("; ") })
    }
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let any_or = |wanted: &Option<String>, actual: &str| match wanted.as_deref() {
        None | Some("") => true,
        Some(wanted) => wanted == actual,
    };
    let same_value = || toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("");
    any_or(&toleration.effect, &taint.effect)
        && any_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => same_value(),
            Some("Exists") => true,
            Some(_) => false,
        }
}
