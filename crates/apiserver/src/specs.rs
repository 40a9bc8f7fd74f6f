//! What became of pods' specs, found again by their bytes: the pods of one template are decoded, completed and checked once.
//! The neighbours that admission looked at are read for each pod all the same; when they have changed, the long way is taken.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use registry::{FieldValidation, PodBody, RememberedSpec, Resource, Status, admission, allocate::Reservations};
use serde_json::Value;

use crate::{
    commit::{Change, Committed, commit},
    core::Core,
    write::{Found, Stored},
};

/// Specs kept; of at most 8 KiB each, and about as much that became of it. When there are more, all go: those in use are
/// soon back.
const MAX_SPECS: usize = 256;
/// Hashes kept of specs that came once: only one that comes again is worth to be kept.
const MAX_ONCE: usize = 1024;

#[derive(Default)]
pub(crate) struct Specs {
    inner: Mutex<Inner>,
    hasher: RandomState,
}

#[derive(Default)]
struct Inner {
    /// By the hash of namespace and spec. Of two with one hash the later is kept.
    known: HashMap<u64, Arc<Known>>,
    /// By a part of the hash. Two that meet there push each other out.
    once: Vec<u64>,
}

/// What became of a spec in a namespace, with the neighbours that it came about by.
struct Known {
    namespace: Box<str>,
    spec: Box<[u8]>,
    outcome: RememberedSpec,
    service_account: Option<Arc<Value>>,
    priority_classes: Vec<Arc<Value>>,
}

impl Specs {
    fn find(&self, namespace: &str, spec: &[u8]) -> Option<Arc<Known>> {
        let known = self.inner.lock().known.get(&self.hasher.hash_one((namespace, spec))).cloned();
        known.filter(|known| *known.namespace == *namespace && *known.spec == *spec)
    }

    /// Learns from a pod that was stored; `found` are the neighbours that it was admitted beside. Where there are limit ranges
    /// nothing is learned, because what they give is noted in each pod's metadata.
    pub fn learn(&self, namespace: &str, spec: &[u8], stored: &Bytes, found: &Found) {
        if !found.limit_ranges.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one((namespace, spec));
        let mut inner = self.inner.lock();
        inner.once.resize(MAX_ONCE, 0);
        let slot = &mut inner.once[hash as usize % MAX_ONCE];
        if std::mem::replace(slot, hash) != hash {
            return;
        }
        drop(inner);
        let Some(outcome) = RememberedSpec::learn(spec, stored) else { return };
        let known = Arc::new(Known {
            namespace: namespace.into(),
            spec: spec.into(),
            outcome,
            service_account: found.service_account.clone(),
            priority_classes: found.priority_classes.clone(),
        });
        let mut inner = self.inner.lock();
        if inner.known.len() >= MAX_SPECS {
            inner.known.clear();
        }
        inner.known.insert(hash, known);
    }
}

impl Known {
    /// Whether these are the neighbours that the outcome came about by: each revision is parsed once.
    fn holds(&self, account: Option<&Arc<Value>>, classes: &[Arc<Value>]) -> bool {
        let same_account = match (&self.service_account, account) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let pairs = || self.priority_classes.iter().zip(classes);
        same_account
            && self.priority_classes.len() == classes.len()
            && pairs().all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// Creates a pod with a spec that is known. None: it is to go the long way.
pub(crate) async fn create(
    core: &Core,
    pods: &Resource,
    namespace: &str,
    body: &PodBody<'_>,
    validation: FieldValidation,
) -> Result<Option<Stored>, Status> {
    let Some(known) = core.specs.find(namespace, body.spec()) else { return Ok(None) };
    let home = core.neighbour("", "namespaces", "", namespace).await?;
    let account = core.neighbour("", "serviceaccounts", namespace, known.outcome.service_account()).await?;
    let classes = core.all("scheduling.k8s.io", "priorityclasses").await?;
    let unlimited = core.limit_ranges(namespace).await?.is_empty();
    let open = home.is_some_and(|home| !admission::is_terminating(&home));
    if !open || !unlimited || !known.holds(account.as_ref(), &classes) {
        return Ok(None);
    }
    let created = known.outcome.create(pods, &core.context(), namespace, (body, validation));
    let Some((name, encoded)) = created else { return Ok(None) };
    let key = Bytes::from(pods.key(namespace, &name));
    let reservations = Reservations::default();
    let change = Change { resource: pods, key, expected: 0, value: Some(encoded.clone()), reservations };
    Ok(match commit(core, change).await? {
        Committed::At(revision) => Some(Stored { encoded, revision: Some(revision) }),
        // The long way knows what a name that is taken means.
        Committed::Changed | Committed::Taken => None,
    })
}
