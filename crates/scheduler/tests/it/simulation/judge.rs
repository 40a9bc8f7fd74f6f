//! The invariants: what must be true at each binding, and once all is quiet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    faults::LATEST,
    model::{Demand, Machine},
    store::{Store, is_leaving, name, node_of, uid},
};

/// A node that was so lately may be what the scheduler still goes by: watches stall, and bindings take their time.
const MAY_BE_BELIEVED: Duration = Duration::from_secs(60);
/// How long what was told may need until nothing is written any more that contradicts it.
const TAKEN_IN: Duration = Duration::from_secs(3);

/// A node as it was for a time.
struct Past {
    machine: Machine,
    until: Option<Duration>,
}

#[derive(Default)]
pub struct Judge {
    pub violations: Vec<String>,
    /// All pods that ever were, by UID.
    pub demands: BTreeMap<String, Demand>,
    /// How many pods each gang needs.
    pub gangs: BTreeMap<String, usize>,
    /// Gangs that lost a pod, or whose scheduler was stopped while they were being bound: they need not be whole.
    pub hurt: BTreeSet<String>,
    nodes: Vec<Past>,
    /// When which scheduler learned that a pod has a node.
    told: BTreeMap<(u32, String), Duration>,
    /// Bindings that have arrived and are not carried out yet.
    arrived: Vec<(String, String)>,
}

impl Judge {
    fn blame(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn node_is(&mut self, machine: &Machine, now: Duration) {
        self.node_is_gone(&machine.name, now);
        self.nodes.push(Past { machine: machine.clone(), until: None });
    }

    pub fn node_is_gone(&mut self, name: &str, now: Duration) {
        let current = self.nodes.iter_mut().find(|past| past.machine.name == name && past.until.is_none());
        if let Some(past) = current {
            past.until = Some(now);
        }
    }

    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.nodes.iter().filter(|past| past.until.is_none()).map(|past| &past.machine)
    }

    pub fn pod_is_gone(&mut self, pod: &str) {
        if let Some(gang) = self.demands.get(pod).and_then(|demand| demand.gang.clone()) {
            self.hurt.insert(gang);
        }
    }

    /// A scheduler was told that these pods have nodes.
    pub fn told(&mut self, scheduler: u32, pods: impl IntoIterator<Item = String>, now: Duration) {
        for pod in pods {
            self.told.entry((scheduler, pod)).or_insert(now);
        }
    }

    /// No double binding: nobody binds a pod that it knows to be bound, or a second time elsewhere, so that the API would
    /// have to refuse it.
    pub fn binding_arrives(&mut self, scheduler: u32, pod: &str, node: &str, store: &Store, now: Duration) {
        if self.told.get(&(scheduler, pod.to_owned())).is_some_and(|at| *at + TAKEN_IN < now) {
            self.blame(format!("no double binding: {pod} is bound though the scheduler knows that it has a node"));
        }
        let bound = store.all("pods").find(|object| uid(object) == pod).and_then(node_of);
        let under_way = self.arrived.iter().filter(|(of, _)| of == pod).map(|(_, node)| node.as_str());
        let elsewhere = bound.into_iter().chain(under_way).find(|other| *other != node).map(str::to_owned);
        if let Some(other) = elsewhere {
            self.blame(format!("no double binding: {pod} is bound to {node}, and to {other} before"));
        }
        self.arrived.push((pod.to_owned(), node.to_owned()));
    }

    pub fn binding_is_over(&mut self, pod: &str, node: &str) {
        if let Some(at) = self.arrived.iter().position(|(of, to)| of == pod && to == node) {
            self.arrived.swap_remove(at);
        }
    }

    /// No over-commit, and no pod where it must not be: by the API's own state, and the nodes as the scheduler may have
    /// known them.
    pub fn binding_is_carried_out(&mut self, pod: &str, node: &str, store: &Store, now: Duration) {
        let Some(demand) = self.demands.get(pod) else { return };
        let residents = residents(store, &self.demands, node);
        if !self.nodes.iter().any(|past| past.machine.name == node && past.until.is_none()) {
            return;
        }
        let believed = |past: &&Past| {
            past.machine.name == node && past.until.is_none_or(|until| until + MAY_BE_BELIEVED + LATEST > now)
        };
        if !self.nodes.iter().filter(believed).any(|past| past.machine.takes(demand, &residents)) {
            let crowd: Vec<_> = residents.iter().map(|pod| (&pod.name, pod.milli_cpu, pod.mebibytes)).collect();
            let machine = self.machines().find(|machine| machine.name == node);
            let what = format!("no over-commit: {demand:?} is bound to {machine:?} beside {crowd:?}");
            self.blame(what);
        }
    }

    /// A scheduler stops here: gangs that it was binding stay as they are if there is no room later.
    pub fn scheduler_stops(&mut self, store: &Store) {
        for (gang, needed) in &self.gangs {
            let bound = members(store, &self.demands, gang).filter(|(_, bound)| *bound).count();
            let arrived = self.arrived.iter().filter(|(pod, _)| self.demands[pod].gang.as_ref() == Some(gang)).count();
            if (bound > 0 || arrived > 0) && bound < *needed {
                self.hurt.insert(gang.clone());
            }
        }
    }

    /// What must hold when nothing has gone wrong for long.
    pub fn quiet(&mut self, store: &Store) {
        let mut found = Vec::new();
        for pod in store.all("pods") {
            let Some(demand) = self.demands.get(uid(pod)) else { continue };
            let condition = pod["status"]["conditions"].as_array().and_then(|all| {
                let of = |condition: &&serde_json::Value| condition["type"] == "PodScheduled";
                all.iter().find(of)?["status"].as_str()
            });
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
                None => found.extend(self.pod_waits(store, demand, condition)),
            }
        }
        for (gang, needed) in &self.gangs {
            let bound = members(store, &self.demands, gang).filter(|(_, bound)| *bound).count();
            if bound > 0 && bound < *needed && !self.hurt.contains(gang) {
                found.push(format!("gangs are whole: of {gang} {bound} are bound, it needs {needed}"));
            }
        }
        self.violations.append(&mut found);
    }

    /// No pod is forgotten: one that waits has no place, not even in place of less important ones, and was told so.
    fn pod_waits(&self, store: &Store, demand: &Demand, condition: Option<&str>) -> Option<String> {
        if condition != Some("False") {
            return Some(format!("no pod forgotten: {} waits and was told {condition:?}", demand.name));
        }
        for machine in self.machines() {
            let residents = residents(store, &self.demands, &machine.name);
            if machine.takes(demand, &residents) {
                return Some(format!("no pod forgotten: {demand:?} waits though there is room on {machine:?}"));
            }
            let important: Vec<&Demand> =
                residents.iter().copied().filter(|pod| pod.priority >= demand.priority).collect();
            if !demand.never_preempts && machine.takes(demand, &important) {
                return Some(format!("no pod forgotten: {demand:?} waits though it may evict others on {machine:?}"));
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

    fn places(&self, store: &Store, machine: &Machine, demand: &Demand) -> usize {
        let mut residents = residents(store, &self.demands, &machine.name);
        let before = residents.len();
        while machine.takes(demand, &residents) {
            residents.push(demand);
        }
        residents.len() - before
    }
}

fn residents<'a>(store: &Store, demands: &'a BTreeMap<String, Demand>, node: &str) -> Vec<&'a Demand> {
    let there = store.all("pods").filter(|pod| node_of(pod) == Some(node));
    there.filter_map(|pod| demands.get(uid(pod))).collect()
}

/// The pods of a gang that are there, and whether they have nodes.
fn members<'a>(
    store: &'a Store,
    demands: &'a BTreeMap<String, Demand>,
    gang: &'a str,
) -> impl Iterator<Item = (&'a Demand, bool)> {
    store.all("pods").filter(|pod| !is_leaving(pod) || node_of(pod).is_some()).filter_map(move |pod| {
        let demand = demands.get(uid(pod)).filter(|demand| demand.gang.as_deref() == Some(gang))?;
        Some((demand, node_of(pod).is_some()))
    })
}
