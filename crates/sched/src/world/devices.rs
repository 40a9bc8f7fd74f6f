//! Claims to devices, the devices that there are, and which of them are taken.
//!
//! Devices count as taken from the moment that a pod is given a node with them, as those of volumes do. Until the API shows the
//! allocation they are a *promise*, held by the pods that rely on it and by whoever is writing it: a pod that goes away while its
//! claim is being written leaves the devices taken until it is known what the API has. What the API shows is always right.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use devices::{Error, Features, Inventory, Used, Wanted};
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, ResourceSlice};

use crate::{
    convert::device::CLASS_PREFIX,
    device::{DeviceEvent, ExtendedClaim, ResourceClaim},
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

/// Classes by when they were created, in seconds since 1970.
type ByAge = BTreeSet<(Reverse<i64>, Arc<str>)>;

#[derive(Default)]
pub struct Devices {
    inventory: Inventory,
    /// Classes, each with the extended resource that it says it stands for.
    classes: HashMap<Arc<str>, Option<Arc<str>>>,
    /// The classes that stand for an extended resource, the youngest first. None, if that is not to be.
    extended: Option<HashMap<Arc<str>, ByAge>>,
    claims: HashMap<Name, Arc<ResourceClaim>>,
    /// What is counted in `used` for a claim, by the claim's uid.
    counted: HashMap<Arc<str>, Arc<AllocationResult>>,
    used: Used,
    /// By the claim's uid.
    promises: HashMap<Arc<str>, Promise>,
    /// Claims that were made for a pod's extended resources, by the pod's uid.
    made: HashMap<Arc<str>, Name>,
    /// Claims that are to be made so.
    to_make: HashMap<Arc<str>, Arc<ExtendedClaim>>,
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
        self.classes.contains_key(name)
    }

    /// The class whose devices stand for an extended resource.
    pub fn class_for(&self, resource: &str) -> Option<&Arc<str>> {
        let extended = self.extended.as_ref()?;
        if let Some(class) = resource.strip_prefix(CLASS_PREFIX) {
            return self.classes.get_key_value(class).map(|(class, _)| class);
        }
        extended.get(resource)?.first().map(|(_, class)| class)
    }

    /// The claim that was made for a pod's extended resources.
    pub fn made_for(&self, pod: &str) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(self.made.get(pod)?)
    }

    /// The claim that is to be made for a pod's extended resources.
    pub fn to_make(&self, pod: &str) -> Option<&Arc<ExtendedClaim>> {
        self.to_make.get(pod)
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
    /// `extended`: devices may stand for extended resources.
    pub fn new(features: Features, extended: bool) -> Self {
        let extended = extended.then(HashMap::new);
        Devices { inventory: Inventory::new(features), extended, ..Default::default() }
    }

    /// Promises a pod the claim that is to be made for its extended resources, until [`Devices::release`].
    pub fn promise_extended(&mut self, pod: &Arc<str>, namespace: &Arc<str>, claim: ExtendedClaim) {
        // It has no name and no uid yet: these are no ones that the API could give.
        let promised = Promised {
            claim: (namespace.clone(), "<extended-resources>".into()),
            uid: format!("<extended-resources of {pod}>").into(),
            allocation: claim.allocation.clone(),
        };
        self.to_make.insert(pod.clone(), Arc::new(claim));
        self.hold(pod, None, promised);
    }

    /// Promises allocations to a pod until [`Devices::release`]. One that is promised already is shared.
    pub fn promise(&mut self, pod: &Arc<str>, gang: Option<&Name>, all: Vec<Promised>) {
        self.release(pod);
        for promised in all {
            self.hold(pod, gang, promised);
        }
    }

    fn hold(&mut self, pod: &Arc<str>, gang: Option<&Name>, promised: Promised) {
        let (name, uid) = (promised.claim.clone(), promised.uid.clone());
        let fresh = || Promise { promised, gang: gang.cloned(), holders: HashSet::new() };
        let promise = self.promises.entry(uid.clone()).or_insert_with(fresh);
        promise.holders.insert(Holder::Pod(pod.clone()));
        self.pods.entry(pod.clone()).or_default().push(uid.clone());
        self.recount(&name, &uid);
    }

    /// Takes back what was promised to a pod; what is being written stays promised until [`Devices::written`].
    pub fn release(&mut self, pod: &str) {
        self.begun.remove(pod);
        self.to_make.remove(pod);
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
        let made_for =
            |claim: &Option<Arc<ResourceClaim>>| claim.as_ref().filter(|claim| claim.extended)?.owner.clone();
        if let Some(pod) = made_for(&old) {
            self.made.remove(&pod);
        }
        if let Some(pod) = made_for(&new) {
            self.made.insert(pod, name.clone());
        }
        if let Some(old) = old.as_ref().filter(|old| new.as_ref().is_none_or(|new| new.spec != old.spec)) {
            self.wanted.remove(&old.uid);
        }
        (old != new).then_some(DeviceEvent::Claim(Change { old, new }))
    }

    /// Also says whether another class stands for an extended resource now, which concerns pods without claims, too.
    pub(crate) fn set_class(&mut self, name: &Arc<str>, class: Option<DeviceClass>) -> (Option<DeviceEvent>, bool) {
        let there = class.is_some();
        let (known, stands) = (self.classes.contains_key(name), self.stand_for(name, class.as_ref()));
        let changed = self.inventory.set_class(name, class);
        if changed {
            self.wanted.clear();
        }
        let event = (changed || stands || known != there).then_some(DeviceEvent::Class { there });
        (event, stands || known != there)
    }

    /// Whether a class stands for another resource than before, or is of another age.
    fn stand_for(&mut self, name: &Arc<str>, class: Option<&DeviceClass>) -> bool {
        let resource = class.map(|class| class.spec.extended_resource_name.as_deref().map(Arc::<str>::from));
        let before = match &resource {
            Some(resource) => self.classes.insert(name.clone(), resource.clone()),
            None => self.classes.remove(name),
        };
        let (before, now) = (before.flatten(), resource.flatten());
        let Some(extended) = &mut self.extended else { return false };
        let age =
            class.and_then(|class| class.metadata.creation_timestamp.as_ref()).map_or(0, |time| time.0.as_second());
        let known = before.as_ref().is_some_and(|before| {
            now.as_ref() == Some(before)
                && extended.get(before).is_some_and(|all| all.contains(&(Reverse(age), name.clone())))
        });
        if known || (before.is_none() && now.is_none()) {
            return false;
        }
        if let Some(before) = &before
            && let Some(all) = extended.get_mut(before)
        {
            all.retain(|(_, class)| class != name);
            if all.is_empty() {
                extended.remove(before);
            }
        }
        if let Some(now) = now {
            extended.entry(now).or_default().insert((Reverse(age), name.clone()));
        }
        true
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
