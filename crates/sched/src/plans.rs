//! The plans that are kept, one for each kind of pod that has come more than once.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Pod,
    plan::{Plan, Refusal},
    profile::Profile,
    world::World,
};

/// Nodes that all kept plans together may have evaluated; the one that was used longest ago is dropped first. A plan takes about
/// 32 bytes for each node.
const MAX_PLACES: usize = 2_000_000;
/// And so many plans at most.
const MAX_PLANS: usize = 512;
/// Kinds of pods that are remembered to have come once.
const MAX_SEEN: usize = 4096;

/// Specs and labels are interned; a plan holds them, and so does the memory of what was seen.
type Key = (usize, Arc<str>, usize, usize);

struct Kept {
    plan: Plan,
    used: u64,
}

#[derive(Default)]
pub(crate) struct Plans {
    kept: HashMap<Key, Kept>,
    /// Pods that came once, and hold the addresses in their keys.
    seen: HashMap<Key, Arc<Pod>>,
    uses: u64,
    places: usize,
}

fn key(profile: usize, pod: &Pod) -> Key {
    (profile, pod.namespace.clone(), Arc::as_ptr(&pod.labels).addr(), Arc::as_ptr(&pod.spec).addr())
}

impl Plans {
    /// The plan for a pod: one that is kept, if its kind has come before, or else one for this time only.
    pub fn take(
        &mut self,
        index: usize,
        profile: &Profile,
        pod: &Arc<Pod>,
        world: &mut World,
    ) -> Result<Plan, Refusal> {
        let key = key(index, pod);
        if let Some(mut kept) = self.kept.remove(&key) {
            self.places -= kept.plan.places();
            if kept.plan.is_current(world) {
                return Ok(kept.plan);
            }
        }
        let mut plan = Plan::new(profile, pod.clone(), world)?;
        if plan.is_own() {
            return Ok(plan);
        }
        if self.seen.contains_key(&key) {
            plan.keep();
            return Ok(plan);
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(key, pod.clone());
        Ok(plan)
    }

    /// Forgets the plans of a profile: its plugins would answer otherwise now.
    pub fn forget(&mut self, profile: usize) {
        self.kept.retain(|(index, ..), _| *index != profile);
        self.places = self.kept.values().map(|kept| kept.plan.places()).sum();
    }

    /// Gives a plan back.
    pub fn put(&mut self, index: usize, plan: Plan) {
        if !plan.is_kept() {
            return;
        }
        self.uses += 1;
        while self.kept.len() >= MAX_PLANS || (self.places + plan.places() > MAX_PLACES && !self.kept.is_empty()) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(dropped) = oldest.and_then(|oldest| self.kept.remove(&oldest)) else { break };
            self.places -= dropped.plan.places();
        }
        self.places += plan.places();
        let kept = Kept { used: self.uses, plan };
        self.kept.insert(key(index, &kept.plan.pod), kept);
    }
}
