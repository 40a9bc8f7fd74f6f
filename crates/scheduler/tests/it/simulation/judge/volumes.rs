//! Volumes: each has one claim, and a pod on a node has its volumes there.

use std::time::Duration;

use serde_json::Value;

use super::Judge;
use crate::simulation::{
    model::Machine,
    store::{Store, is_leaving, name, uid},
    volumes::{LOCAL, claim_of, claims_of, class, reaches, request, selected_node, size, volume_of},
};

impl Judge {
    /// A scheduler sets a volume aside for a claim.
    pub fn volume_is_bound(&mut self, volume: &Value, claim: &Value) {
        if let Some(other) = claim_of(volume).filter(|other| claim["uid"] != **other) {
            let what = format!("volumes have one claim: {} goes to {}, {other} has it", name(volume), claim["name"]);
            self.blame(what);
        }
    }

    /// A pod that is bound has its volumes, and they can be reached from the node.
    pub(super) fn volumes_at_binding(
        &self,
        scheduler: u32,
        pod: &Value,
        node: &str,
        store: &Store,
        now: Duration,
    ) -> Vec<String> {
        let lacks = |claim: &str| {
            let volume = store.get("persistentvolumeclaims", claim).and_then(volume_of);
            let Some(volume) = volume.and_then(|volume| store.get("persistentvolumes", volume)) else {
                return Some(format!("volumes before binding: {} is bound before its claim {claim} is", name(pod)));
            };
            let wrong = !self.believed(scheduler, node, now).any(|machine| reaches(volume, machine));
            wrong.then(|| format!("volumes before binding: {} on {node} cannot reach {volume}", name(pod)))
        };
        claims_of(pod).filter_map(lacks).collect()
    }

    /// Whether all claims of a pod that waits have a volume that is reached from the machine, or can get one.
    pub(super) fn has_volumes(&self, store: &Store, pod: &Value, machine: &Machine) -> bool {
        let mut open = Vec::new();
        for claim in claims_of(pod) {
            let claim = store.get("persistentvolumeclaims", claim);
            let Some(claim) = claim.filter(|claim| !is_leaving(claim)) else { return false };
            if let Some(volume) = volume_of(claim) {
                let volume = store.get("persistentvolumes", volume);
                if !volume.is_some_and(|volume| reaches(volume, machine)) {
                    return false;
                }
            } else if class(claim) == LOCAL {
                open.push(claim);
            } else if selected_node(claim).is_some_and(|node| node != machine.name) {
                return false;
            }
        }
        // The smallest claims get the smallest volumes: if that leaves one without, any other way does.
        open.sort_by_key(|claim| request(claim));
        open.dedup_by_key(|claim| uid(claim).to_owned());
        let usable = |volume: &&Value| claim_of(volume).is_none() && reaches(volume, machine);
        let mut free: Vec<u64> = store.all("persistentvolumes").filter(usable).map(size).collect();
        free.sort_unstable();
        open.into_iter().all(|claim| {
            let fitting = free.iter().position(|size| *size >= request(claim));
            fitting.map(|at| free.remove(at)).is_some()
        })
    }
}
