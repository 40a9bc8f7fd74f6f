//! Claims to devices, the devices that there are, and which of them are taken.
//!
//! Devices count as taken from the moment that a pod is given a node with them, as those of volumes do. Until the API shows the
//! allocation they are a *promise*, held by the pods that rely on it and by whoever is writing it: a pod that goes away while its
//! claim is being written leaves the devices taken until it is known what the API has. What the API shows is always right.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use devices::{Error, Features, Inventory, Used, Wanted};
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, ResourceSlice};

use crate::{
    device::{DeviceEvent, ResourceClaim},
    storage::{Change, Name},
};

/// An allocation that a pod relies on and the API does not show yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Promised {
    pub claim: Name,
    pub uid: Arc<str>,
    pub allocation: Arc<AllocationResult>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Pod(Arc<str>),
    /// The claim of this pod is being written.
    Writer(Arc<str>),
}

struct Promise {
    promised: Promised,
    /// The gang, by its namespace and name, whose pods may share it.
    gang: Option<Name>,
    holders: HashSet<Holder>,
}

#[derive(Default)]
pub struct Devices {
    inventory: Inventory,
    classes: HashSet<Arc<str>>,
    claims: HashMap<Name, Arc<ResourceClaim>>,
    /// What is counted in `used` for a claim, by the claim's uid.
    counted: HashMap<Arc<str>, Arc<AllocationResult>>,
    used: Used,
    /// By the claim's uid.
    promises: HashMap<Arc<str>, Promise>,
    /// The uids of the claims that are promised to a pod.
    pods: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Pods whose claims were begun to be written.
    begun: HashSet<Arc<str>>,
    /// What claims want, by the claim's uid; forgotten with every change of a class.
    wanted: HashMap<Arc<str>, Arc<Wanted>>,
}

// What plugins read.
impl Devices {
    pub fn claim(&self, name: &Name) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(name)
    }

    pub fn has_class(&self, name: &str) -> bool {
        self.classes.contains(name)
    }

    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What is taken, promises included.
    pub fn used(&self) -> &Used {
        &self.used
    }

    /// What is promised to whoever uses a claim that the API does not show allocated.
    pub fn promise_for(&self, claim: &ResourceClaim) -> Option<&Promised> {
        self.promises.get(&claim.uid).map(|promise| &promise.promised)
    }

    /// Likewise, if a pod of this gang may rely on it, too: its like is placed in the same step.
    pub fn promise_to_gang(&self, claim: &ResourceClaim, gang: &Name) -> Option<&Promised> {
        let promise = self.promises.get(&claim.uid)?;
        (promise.gang.as_ref() == Some(gang)).then_some(&promise.promised)
    }

    /// Whether claims of the pod may have been written since it was given its node.
    pub fn was_begun(&self, pod: &str) -> bool {
        self.begun.contains(pod)
    }

    /// What a claim wants, understood once.
    pub fn wanted(&mut self, claim: &ResourceClaim) -> Result<Arc<Wanted>, Error> {
        if let Some(wanted) = self.wanted.get(&claim.uid) {
            return Ok(wanted.clone());
        }
        let name = format!("{}/{}", claim.name.0, claim.name.1);
        let wanted = Arc::new(Wanted::of(&name, &claim.spec, &self.inventory)?);
        self.wanted.insert(claim.uid.clone(), wanted.clone());
        Ok(wanted)
    }
}

// What plugins and the engine change.
impl Devices {
    pub fn new(features: Features) -> Self {
        Devices { inventory: Inventory::new(features), ..Default::default() }
    }

    /// Promises allocations to a pod until [`Devices::release`]. One that is promised already is shared.
    pub fn promise(&mut self, pod: &Arc<str>, gang: Option<&Name>, all: Vec<Promised>) {
        self.release(pod);
        for promised in all {
            let (name, uid) = (promised.claim.clone(), promised.uid.clone());
            let fresh = || Promise { promised, gang: gang.cloned(), holders: HashSet::new() };
            let promise = self.promises.entry(uid.clone()).or_insert_with(fresh);
            promise.holders.insert(Holder::Pod(pod.clone()));
            self.pods.entry(pod.clone()).or_default().push(uid.clone());
            self.recount(&name, &uid);
        }
    }

    /// Takes back what was promised to a pod; what is being written stays promised until [`Devices::written`].
    pub fn release(&mut self, pod: &str) {
        self.begun.remove(pod);
        for claim in self.pods.remove(pod).unwrap_or_default() {
            self.drop_holder(&claim, &Holder::Pod(pod.into()));
        }
    }

    /// The claims of a pod are about to be written.
    pub(crate) fn writing(&mut self, pod: &Arc<str>) {
        self.begun.insert(pod.clone());
        for claim in self.pods.get(pod).into_iter().flatten() {
            if let Some(promise) = self.promises.get_mut(claim) {
                promise.holders.insert(Holder::Writer(pod.clone()));
            }
        }
    }

    /// They are not being written any more, and the API's answers have been told.
    pub(crate) fn written(&mut self, pod: &str) {
        let holder = Holder::Writer(pod.into());
        let held = self.promises.iter().filter(|(_, promise)| promise.holders.contains(&holder));
        let held: Vec<Arc<str>> = held.map(|(claim, _)| claim.clone()).collect();
        for claim in held {
            self.drop_holder(&claim, &holder);
        }
    }

    fn drop_holder(&mut self, claim: &Arc<str>, holder: &Holder) {
        let Some(promise) = self.promises.get_mut(claim) else { return };
        promise.holders.remove(holder);
        if promise.holders.is_empty() {
            let name = promise.promised.claim.clone();
            self.promises.remove(claim);
            self.recount(&name, claim);
        }
    }

    /// A claim; `None`: it is gone. What is older than what is known already is no news.
    pub(crate) fn set_claim(&mut self, name: &Name, claim: Option<ResourceClaim>) -> Option<DeviceEvent> {
        let new = claim.map(Arc::new);
        if let (Some(new), Some(known)) = (&new, self.claims.get(name))
            && new.is_older_than(known)
        {
            return None;
        }
        let old = match &new {
            Some(new) => self.claims.insert(name.clone(), new.clone()),
            None => self.claims.remove(name),
        };
        for claim in [&old, &new].into_iter().flatten() {
            self.recount(name, &claim.uid);
        }
        if let Some(old) = old.as_ref().filter(|old| new.as_ref().is_none_or(|new| new.spec != old.spec)) {
            self.wanted.remove(&old.uid);
        }
        (old != new).then_some(DeviceEvent::Claim(Change { old, new }))
    }

    pub(crate) fn set_class(&mut self, name: &Arc<str>, class: Option<DeviceClass>) -> Option<DeviceEvent> {
        let there = class.is_some();
        let known = if there { !self.classes.insert(name.clone()) } else { self.classes.remove(name) };
        let changed = self.inventory.set_class(name, class);
        if changed {
            self.wanted.clear();
        }
        (changed || known != there).then_some(DeviceEvent::Class { there })
    }

    pub(crate) fn set_slice(&mut self, name: &str, slice: Option<ResourceSlice>) -> Option<DeviceEvent> {
        let there = slice.is_some();
        self.inventory.set_slice(name, slice).then_some(DeviceEvent::Slice { there })
    }

    /// Counts what holds for a claim now: what the API shows, or else what is promised.
    fn recount(&mut self, name: &Name, uid: &Arc<str>) {
        let shown = self.claims.get(name).filter(|claim| claim.uid == *uid).and_then(|claim| claim.allocation.as_ref());
        let promised = self.promises.get(uid).map(|promise| &promise.promised.allocation);
        let holds = shown.or(promised).cloned();
        if self.counted.get(uid) == holds.as_ref() {
            return;
        }
        if let Some(before) = self.counted.remove(uid) {
            self.used.remove(&before);
        }
        if let Some(holds) = holds {
            self.used.add(&holds);
            self.counted.insert(uid.clone(), holds);
        }
    }
}
