//! What was promised to pods that are not bound yet: volumes to their claims, and nodes where volumes are to be made.
//!
//! A promise holds until the pod is bound or its placement undone, whatever else the API shows of the object in the
//! meantime. Only when the API shows something that contradicts it, the API is right. Pods that share a claim share the
//! promise, which ends with the last of them.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use crate::storage::{Claim, ClaimRef, Name, PersistentVolume};

/// What one pod relies on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub volumes: Vec<HeldVolume>,
    pub claims: Vec<HeldClaim>,
}

/// A volume for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldVolume {
    pub volume: Arc<str>,
    pub claim: ClaimRef,
}

/// A volume for a claim that is to be made for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldClaim {
    pub claim: Name,
    pub uid: Arc<str>,
    pub node: Arc<str>,
}

struct Promise<T> {
    to: T,
    holders: usize,
    /// The API has shown it.
    seen: bool,
}

#[derive(Default)]
pub(super) struct Promises {
    pods: HashMap<Arc<str>, Held>,
    volumes: HashMap<Arc<str>, Promise<ClaimRef>>,
    claims: HashMap<Name, Promise<HeldClaim>>,
}

impl Promises {
    pub fn held(&self, uid: &str) -> Option<&Held> {
        self.pods.get(uid)
    }

    pub fn volume_was_seen(&self, held: &HeldVolume) -> Option<bool> {
        let promise = self.volumes.get(&held.volume).filter(|promise| promise.to == held.claim);
        promise.map(|promise| promise.seen)
    }

    pub fn claim_was_seen(&self, held: &HeldClaim) -> Option<bool> {
        let promise = self.claims.get(&held.claim).filter(|promise| promise.to == *held);
        promise.map(|promise| promise.seen)
    }

    pub fn claim_of<'a>(&'a self, volume: &'a PersistentVolume) -> Option<&'a ClaimRef> {
        let promised = self.volumes.get(&volume.name).map(|promise| &promise.to);
        match (&volume.claim, promised) {
            // Set aside by name only: the promise says for which of the claims that ever have that name.
            (Some(shown), Some(promised)) if shown.uid.is_none() && shown.name == promised.name => Some(promised),
            (Some(shown), _) => Some(shown),
            (None, promised) => promised,
        }
    }

    pub fn selected_node<'a>(&'a self, claim: &'a Claim) -> Option<&'a Arc<str>> {
        let promised = || self.claims.get(&claim.name).filter(|promise| promise.to.uid == claim.uid);
        claim.selected_node.as_ref().or_else(|| promised().map(|promise| &promise.to.node))
    }

    pub fn promise(
        &mut self,
        uid: &Arc<str>,
        held: Held,
        claims: &HashMap<Name, Arc<Claim>>,
        volumes: &HashMap<Arc<str>, Arc<PersistentVolume>>,
    ) {
        for promised in &held.volumes {
            add(&mut self.volumes, &promised.volume, &promised.claim);
            if let Some(shown) = volumes.get(&promised.volume) {
                self.see_volume(shown);
            }
        }
        for promised in &held.claims {
            add(&mut self.claims, &promised.claim, promised);
            if let Some(shown) = claims.get(&promised.claim) {
                self.see_claim(shown);
            }
        }
        self.pods.insert(uid.clone(), held);
    }

    /// Whether anything was promised to the pod.
    pub fn release(&mut self, uid: &str) -> bool {
        let Some(held) = self.pods.remove(uid) else { return false };
        held.volumes.iter().for_each(|promised| drop_one(&mut self.volumes, &promised.volume));
        held.claims.iter().for_each(|promised| drop_one(&mut self.claims, &promised.claim));
        true
    }

    pub fn see_volume(&mut self, shown: &PersistentVolume) {
        if let Some(promise) = self.volumes.get_mut(&shown.name)
            && shown.claim.as_ref() == Some(&promise.to)
        {
            promise.seen = true;
        }
    }

    pub fn see_claim(&mut self, shown: &Claim) {
        if let Some(promise) = self.claims.get_mut(&shown.name)
            && shown.uid == promise.to.uid
            && shown.selected_node.as_ref() == Some(&promise.to.node)
        {
            promise.seen = true;
        }
    }
}

fn add<K: Hash + Eq + Clone, T: PartialEq + Clone>(promises: &mut HashMap<K, Promise<T>>, key: &K, to: &T) {
    let fresh = || Promise { to: to.clone(), holders: 0, seen: false };
    let promise = promises.entry(key.clone()).or_insert_with(fresh);
    if promise.to != *to {
        // The API contradicts what was promised before, and whoever relies on that will be told.
        (promise.to, promise.seen) = (to.clone(), false);
    }
    promise.holders += 1;
}

fn drop_one<K: Hash + Eq, T>(promises: &mut HashMap<K, Promise<T>>, key: &K) {
    if let Some(promise) = promises.get_mut(key) {
        promise.holders -= 1;
        if promise.holders == 0 {
            promises.remove(key);
        }
    }
}
