//! No pod is forgotten, and what pods are told is true.

use serde_json::Value;

use super::{Judge, members, residents};
use crate::simulation::{
    model::{Demand, Machine},
    store::{Store, is_leaving, name, node_of, uid},
};

impl Judge {
    /// What is wrong with pods that wait, or are said to.
    pub(super) fn pods_wait(&self, store: &Store) -> Vec<String> {
        let mut found = Vec::new();
        for pod in store.all("pods") {
            let Some(demand) = self.demands.get(uid(pod)) else { continue };
            let condition = scheduled(pod).and_then(|condition| condition["status"].as_str());
            if node_of(pod).is_some() {
                if condition != Some("True") {
                    found.push(format!("truth: {} is bound and its condition says {condition:?}", name(pod)));
                }
                continue;
            }
            if is_leaving(pod) {
                found.push(format!("{} has not left", name(pod)));
                continue;
            }
            match &demand.gang {
                Some(gang) => found.extend(self.gang_waits(store, gang, demand, condition)),
                None => found.extend(self.pod_waits(store, pod, demand, condition)),
            }
        }
        for (gang, needed) in &self.gangs {
            let bound = members(store, &self.demands, gang).filter(|(_, bound)| *bound).count();
            if bound > 0 && bound < *needed && !self.hurt.contains(gang) {
                found.push(format!("gangs are whole: of {gang} {bound} are bound, it needs {needed}"));
            }
        }
        found
    }

    /// No pod is forgotten: one that waits has no place, not even in place of less important ones, and was told so.
    fn pod_waits(&self, store: &Store, pod: &Value, demand: &Demand, condition: Option<&str>) -> Option<String> {
        if !self.has_claims(store, pod) {
            // It is kept out of the queue, and nobody says anything of it.
            return None;
        }
        if condition != Some("False") {
            return Some(format!("no pod forgotten: {} waits and was told {condition:?}", demand.name));
        }
        for machine in self.machines() {
            let mut residents = residents(store, &self.demands, &machine.name);
            residents.extend(self.kept_for_others(store, demand, machine));
            if !self.has_volumes(store, pod, machine) {
                continue;
            }
            let forgotten = |though: &str| {
                let told = scheduled(pod).map_or("", |condition| condition["message"].as_str().unwrap_or_default());
                Some(format!("no pod forgotten: {demand:?} waits though {though} on {machine:?}; it was told: {told}"))
            };
            if machine.takes(demand, &residents) && self.has_devices(store, pod, machine, true) {
                return forgotten("there is room");
            }
            let important: Vec<&Demand> =
                residents.iter().copied().filter(|pod| pod.priority >= demand.priority).collect();
            let may_evict = !demand.never_preempts && self.has_devices(store, pod, machine, false);
            if may_evict && machine.takes(demand, &important) {
                return forgotten("it may evict others");
            }
        }
        None
    }

    /// The pods of a gang are alike, so that the places for them can be counted. Gangs evict nobody.
    fn gang_waits(&self, store: &Store, gang: &str, demand: &Demand, condition: Option<&str>) -> Option<String> {
        let needed = *self.gangs.get(gang)?;
        let members: Vec<_> = members(store, &self.demands, gang).collect();
        if members.len() < needed {
            return None;
        }
        if condition != Some("False") {
            return Some(format!("no pod forgotten: {} waits and was told {condition:?}", demand.name));
        }
        let bound = members.iter().filter(|(_, bound)| *bound).count();
        let places: usize = self.machines().map(|machine| self.places(store, machine, demand)).sum();
        let lacking = needed.saturating_sub(bound).max(1);
        (places >= lacking).then(|| format!("no pod forgotten: {} waits though there are {places} places", demand.name))
    }

    /// Pods that are not less important, for which the node was freed, and which nobody tries to place now because a claim of theirs
    /// is not there. The room is theirs until the API says otherwise, as with kube-scheduler.
    fn kept_for_others<'a>(
        &'a self,
        store: &'a Store,
        demand: &'a Demand,
        machine: &'a Machine,
    ) -> impl Iterator<Item = &'a Demand> {
        let kept = store.all("pods").filter(move |pod| {
            let nominated = pod["status"]["nominatedNodeName"] == *machine.name;
            nominated && node_of(pod).is_none() && !self.has_claims(store, pod)
        });
        let kept = kept.filter_map(move |pod| self.demands.get(uid(pod)));
        kept.filter(move |kept| kept.priority >= demand.priority && kept.uid != demand.uid)
    }

    fn places(&self, store: &Store, machine: &Machine, demand: &Demand) -> usize {
        let mut residents = residents(store, &self.demands, &machine.name);
        residents.extend(self.kept_for_others(store, demand, machine));
        let before = residents.len();
        while machine.takes(demand, &residents) {
            residents.push(demand);
        }
        residents.len() - before
    }
}

/// What a pod was told of its node.
fn scheduled(pod: &Value) -> Option<&Value> {
    let all = pod["status"]["conditions"].as_array()?;
    all.iter().find(|condition| condition["type"] == "PodScheduled")
}
