//! What the API says of storage, who uses which claim, and what was promised to pods whose claims are not bound yet.
//!
//! A version counts the changes: a plan for a pod with volumes holds for one version only.

mod promises;

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use crate::{
    Pod,
    storage::{
        Attachment, Capacity, Change, Claim, ClaimRef, CsiDriver, CsiNode, Name, PersistentVolume, StorageClass,
        StorageEvent,
    },
};
use promises::Promises;
pub use promises::{Held, HeldClaim, HeldVolume};

#[derive(Default)]
pub struct Volumes {
    version: u64,
    claims: HashMap<Name, Arc<Claim>>,
    volumes: HashMap<Arc<str>, Arc<PersistentVolume>>,
    /// Names of volumes by class, the smallest first.
    by_class: HashMap<Arc<str>, BTreeSet<(i64, Arc<str>)>>,
    classes: HashMap<Arc<str>, Arc<StorageClass>>,
    csi_nodes: HashMap<Arc<str>, Arc<CsiNode>>,
    csi_drivers: HashMap<Arc<str>, Arc<CsiDriver>>,
    capacities: HashMap<Name, Arc<Capacity>>,
    capacities_by_class: HashMap<Arc<str>, BTreeSet<Name>>,
    attachments: HashMap<Arc<str>, Arc<Attachment>>,
    attached: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// How often pods on nodes use which claim.
    users: HashMap<Name, i64>,
    promises: Promises,
}

// What plugins read.
impl Volumes {
    /// Changes with everything that a plugin can read here, but for [`Volumes::users`] of claims that pods may share.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn claim(&self, name: &Name) -> Option<&Arc<Claim>> {
        self.claims.get(name)
    }

    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    /// The volumes of a class, the smallest first.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        let names = self.by_class.get(class).into_iter().flatten();
        names.filter_map(|(_, name)| self.volumes.get(name))
    }

    pub fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    pub fn csi_node(&self, node: &str) -> Option<&Arc<CsiNode>> {
        self.csi_nodes.get(node)
    }

    pub fn csi_driver(&self, name: &str) -> Option<&Arc<CsiDriver>> {
        self.csi_drivers.get(name)
    }

    pub fn capacities(&self, class: &str) -> impl Iterator<Item = &Arc<Capacity>> {
        let names = self.capacities_by_class.get(class).into_iter().flatten();
        names.filter_map(|name| self.capacities.get(name))
    }

    pub fn attachments(&self, node: &str) -> impl Iterator<Item = &Arc<Attachment>> {
        let names = self.attached.get(node).into_iter().flatten();
        names.filter_map(|name| self.attachments.get(name))
    }

    /// How often pods on nodes use a claim; claims that are made for one pod are not counted.
    pub fn users(&self, claim: &Name) -> i64 {
        self.users.get(claim).copied().unwrap_or(0)
    }

    /// The claim that a volume is bound to, or promised to.
    pub fn claim_of<'a>(&'a self, volume: &'a PersistentVolume) -> Option<&'a ClaimRef> {
        self.promises.claim_of(volume)
    }

    /// The node where a claim's volume is to be made, or is promised to be.
    pub fn selected_node<'a>(&'a self, claim: &'a Claim) -> Option<&'a Arc<str>> {
        self.promises.selected_node(claim)
    }

    /// What was promised to a pod.
    pub fn held(&self, uid: &str) -> Option<&Held> {
        self.promises.held(uid)
    }

    /// Whether the API has ever shown a volume as promised; `None`: the promise is void.
    pub fn volume_was_seen(&self, held: &HeldVolume) -> Option<bool> {
        self.promises.volume_was_seen(held)
    }

    /// Whether the API has ever shown a claim as promised; `None`: the promise is void.
    pub fn claim_was_seen(&self, held: &HeldClaim) -> Option<bool> {
        self.promises.claim_was_seen(held)
    }
}

// What plugins and the engine change.
impl Volumes {
    /// Promises volumes and nodes to a pod until [`Volumes::release`].
    pub fn promise(&mut self, uid: &Arc<str>, held: Held) {
        self.release(uid);
        self.promises.promise(uid, held, &self.claims, &self.volumes);
        self.version += 1;
    }

    /// Takes back what was promised to a pod.
    pub fn release(&mut self, uid: &str) {
        if self.promises.release(uid) {
            self.version += 1;
        }
    }

    /// Counts a pod on a node in or out.
    pub(super) fn count(&mut self, pod: &Pod, pods: i64) {
        for name in pod.spec.volumes.iter().filter_map(|volume| volume.standing_claim()) {
            let name = (pod.namespace.clone(), name.clone());
            let users = self.users.entry(name.clone()).or_default();
            *users += pods;
            if *users == 0 {
                self.users.remove(&name);
            }
        }
    }

    /// A pod came to a node or left one: who else may use its claims has changed.
    pub(super) fn moved(&mut self, pod: &Pod) {
        let names = pod.spec.volumes.iter().filter_map(|volume| volume.standing_claim());
        let mut claims = names.filter_map(|name| self.claims.get(&(pod.namespace.clone(), name.clone())));
        if claims.any(|claim| claim.is_exclusive()) {
            self.version += 1;
        }
    }

    pub fn set_claim(&mut self, name: &Name, claim: Option<Claim>) -> Option<StorageEvent> {
        let change = replace(&mut self.claims, name, claim)?;
        if let Some(new) = &change.new {
            self.promises.see_claim(new);
        }
        self.version += 1;
        Some(StorageEvent::Claim(change))
    }

    pub fn set_volume(&mut self, name: &Arc<str>, volume: Option<PersistentVolume>) -> Option<StorageEvent> {
        let change = replace(&mut self.volumes, name, volume)?;
        if let Some(new) = &change.new {
            self.promises.see_volume(new);
        }
        let key = |volume: &Arc<PersistentVolume>| (volume.class.clone(), (volume.capacity, name.clone()));
        move_in(&mut self.by_class, change.old.as_ref().map(key), change.new.as_ref().map(key));
        self.version += 1;
        Some(StorageEvent::Volume(change))
    }

    pub fn set_class(&mut self, name: &Arc<str>, class: Option<StorageClass>) -> Option<StorageEvent> {
        let change = replace(&mut self.classes, name, class)?;
        self.version += 1;
        Some(StorageEvent::Class(change))
    }

    pub fn set_csi_node(&mut self, node: &Arc<str>, csi_node: Option<CsiNode>) -> Option<StorageEvent> {
        let change = replace(&mut self.csi_nodes, node, csi_node)?;
        self.version += 1;
        Some(StorageEvent::CsiNode(change))
    }

    pub fn set_csi_driver(&mut self, name: &Arc<str>, driver: Option<CsiDriver>) -> Option<StorageEvent> {
        let change = replace(&mut self.csi_drivers, name, driver)?;
        self.version += 1;
        Some(StorageEvent::CsiDriver(change))
    }

    pub fn set_capacity(&mut self, name: &Name, capacity: Option<Capacity>) -> Option<StorageEvent> {
        let change = replace(&mut self.capacities, name, capacity)?;
        let key = |capacity: &Arc<Capacity>| (capacity.class.clone(), name.clone());
        move_in(&mut self.capacities_by_class, change.old.as_ref().map(key), change.new.as_ref().map(key));
        self.version += 1;
        Some(StorageEvent::Capacity(change))
    }

    pub fn set_attachment(&mut self, name: &Arc<str>, attachment: Option<Attachment>) -> Option<StorageEvent> {
        let change = replace(&mut self.attachments, name, attachment)?;
        let key = |attachment: &Arc<Attachment>| (attachment.node.clone(), name.clone());
        move_in(&mut self.attached, change.old.as_ref().map(key), change.new.as_ref().map(key));
        self.version += 1;
        Some(StorageEvent::Attachment(change))
    }
}

/// The newest state is always kept, since its resourceVersion counts; `None`: nothing else is new.
fn replace<K: Hash + Eq + Clone, T: PartialEq>(
    known: &mut HashMap<K, Arc<T>>,
    key: &K,
    new: Option<T>,
) -> Option<Change<T>> {
    let new = new.map(Arc::new);
    let old = match &new {
        Some(new) => known.insert(key.clone(), new.clone()),
        None => known.remove(key),
    };
    (old != new).then_some(Change { old, new })
}

/// Moves an entry of an index.
fn move_in<V: Ord>(index: &mut HashMap<Arc<str>, BTreeSet<V>>, from: Option<(Arc<str>, V)>, to: Option<(Arc<str>, V)>) {
    if let Some((key, value)) = from
        && let Some(entries) = index.get_mut(&key)
    {
        entries.remove(&value);
        if entries.is_empty() {
            index.remove(&key);
        }
    }
    if let Some((key, value)) = to {
        index.entry(key).or_default().insert(value);
    }
}
