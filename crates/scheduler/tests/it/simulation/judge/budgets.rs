//! Evictions, judged where they can be exactly: when all is quiet, one pod comes that is more important than all others.

use std::collections::BTreeMap;

use super::Judge;
use crate::simulation::{
    model::{Demand, Machine},
    store::{Store, has_ended, is_leaving, node_of, uid},
};

/// The pods on nodes by their UIDs, and where they are.
pub type Placed = BTreeMap<String, String>;

pub fn placed(store: &Store) -> Placed {
    let there = store.all("pods").filter(|pod| !is_leaving(pod) && !has_ended(pod));
    there.filter_map(|pod| Some((uid(pod).to_owned(), node_of(pod)?.to_owned()))).collect()
}

impl Judge {
    /// Nobody is evicted without need, and nobody whose budget is spent as long as others will do. To be asked before the victims
    /// have left: whoever finds room then may evict in turn.
    pub fn important_pod_evicts(&mut self, important: &Demand, before: &Placed, store: &Store) {
        let now = placed(store);
        let on = |machine: &Machine| -> Vec<&Demand> {
            let there = before.iter().filter(|(_, node)| **node == machine.name);
            there.filter_map(|(pod, _)| self.demands.get(pod)).collect()
        };
        let is_evicted = |pod: &&Demand| !now.contains_key(&pod.uid);
        let is_spent = |pod: &&Demand| pod.app.is_some_and(|app| self.spent.contains(app));
        let fits_beside_spent = |machine: &Machine| {
            let spent: Vec<&Demand> = on(machine).into_iter().filter(is_spent).collect();
            machine.takes(important, &spent)
        };
        let others_will_do = self.machines().any(fits_beside_spent);
        let pod = store.get("pods", &important.name);
        let node = pod.and_then(|pod| node_of(pod).or(pod["status"]["nominatedNodeName"].as_str()));
        let mut found = Vec::new();
        for machine in self.machines() {
            let (evicted, kept): (Vec<&Demand>, Vec<&Demand>) = on(machine).into_iter().partition(is_evicted);
            for pod in evicted {
                let still: Vec<&Demand> = kept.iter().copied().chain([pod]).collect();
                if node != Some(machine.name.as_str()) || machine.takes(important, &still) {
                    found.push(format!("no eviction without need: {pod:?} on {machine:?}"));
                }
                if is_spent(&pod) && others_will_do {
                    found.push(format!("budgets are kept: {pod:?} is evicted, though others would do"));
                }
            }
        }
        self.violations.extend(found);
    }

    /// It has a node, if there is any for it.
    pub fn important_pod_is_there(&mut self, important: &Demand, store: &Store) {
        let has_place = self.machines().any(|machine| machine.takes(important, &[]));
        if has_place && !placed(store).contains_key(&important.uid) {
            self.blame(format!("no pod forgotten: {important:?} waits, and everybody else is less important"));
        }
    }
}
