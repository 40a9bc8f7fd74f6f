//! The invariants: what must be true at each binding, and once all is quiet. Here is what they share: what there was and until
//! when, and who may know of it.
//!
//! Two schedulers that run at the same time cannot know what the other is about: the API refuses the second binding of a pod, but
//! nobody refuses the one that fills a node up twice. So a scheduler is judged by what it may know: for a while, what another has
//! done that runs or ran beside it does not count ([`Judge::may_not_know`]). What both have brought to a node is sorted out where
//! it is in a cluster, by the node, which turns away what comes last ([`super::kubelet`]). A device that both have given away
//! stays so until one of the claims is given back.

#[path = "judge/bindings.rs"]
mod bindings;
#[path = "judge/budgets.rs"]
pub mod budgets;
#[path = "judge/devices.rs"]
mod devices;
#[path = "judge/past.rs"]
mod past;
#[path = "judge/volumes.rs"]
mod volumes;
#[path = "judge/waits.rs"]
mod waits;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use self::{devices::Device, past::Past};
use super::{
    devices::{allocated, holders},
    faults::LATEST,
    model::{Demand, Machine},
    store::{Store, has_ended, is_leaving, name, node_of, uid},
};

/// So long after it was told otherwise, a scheduler may still go by what was before: bindings take their time.
const MAY_BE_BELIEVED: Duration = Duration::from_secs(60);

/// What a scheduler is told of the API.
pub enum Told<'a> {
    /// All objects of a kind, as of this version.
    All { resource: &'a str, version: usize },
    /// One object, or that it is gone.
    One { resource: &'a str, object: &'a Value },
}

/// A binding that has arrived and is not carried out yet.
struct Arrived {
    scheduler: u32,
    pod: String,
    node: String,
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
    /// Applications of which no pod may be evicted now.
    pub spent: BTreeSet<&'static str>,
    nodes: Vec<Past<Machine>>,
    devices: Vec<Past<Device>>,
    running: BTreeSet<u32>,
    /// Schedulers that run, or ran, at the same time, by their numbers.
    overlaps: BTreeSet<(u32, u32)>,
    /// When which scheduler learned that a pod has a node, or a claim devices ([`facts`]).
    told: BTreeMap<(u32, String), Duration>,
    arrived: Vec<Arrived>,
    /// Which scheduler has bound a pod.
    bound_by: BTreeMap<String, u32>,
    /// Which scheduler has written a claim's status last.
    claimed_by: BTreeMap<String, u32>,
}

impl Judge {
    fn blame(&mut self, what: String) {
        self.violations.push(what);
    }

    /// `version`: that which says so.
    pub fn node_is(&mut self, machine: &Machine, version: usize) {
        self.node_is_gone(&machine.name, version);
        self.nodes.push(Past::new(machine.clone()));
    }

    pub fn node_is_gone(&mut self, name: &str, version: usize) {
        let before = self.nodes.iter_mut().filter(|past| past.what.name == name);
        before.for_each(|past| past.ends(version));
    }

    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.nodes.iter().filter(|past| past.is_present()).map(|past| &past.what)
    }

    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines().find(|machine| machine.name == name)
    }

    /// A node as a scheduler may believe it to be.
    fn believed(&self, scheduler: u32, name: &str, now: Duration) -> impl Iterator<Item = &Machine> {
        let may_be = move |past: &&Past<Machine>| past.what.name == name && past.is_believed(scheduler, now);
        self.nodes.iter().filter(may_be).map(|past| &past.what)
    }

    /// It has left, or has ended.
    pub fn pod_is_gone(&mut self, pod: &str) {
        if let Some(gang) = self.demands.get(pod).and_then(|demand| demand.gang.clone()) {
            self.hurt.insert(gang);
        }
    }

    /// A scheduler is told something.
    pub fn told(&mut self, scheduler: u32, told: &Told<'_>, now: Duration) {
        let (resource, version) = match told {
            Told::All { resource, version } => (*resource, *version),
            Told::One { resource, object } => {
                if let Some(facts) = facts(resource, object) {
                    self.told.entry((scheduler, facts)).or_insert(now);
                }
                let version = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
                (*resource, version.unwrap_or(0))
            }
        };
        let one = |of: &str| match told {
            Told::All { .. } => true,
            Told::One { object, .. } => name(object) == of || object["spec"]["nodeName"] == *of,
        };
        match resource {
            "nodes" => {
                let about = self.nodes.iter_mut().filter(|past| one(&past.what.name));
                about.for_each(|past| past.told(scheduler, version, now));
            }
            "resourceslices" => {
                let about = self.devices.iter_mut().filter(|past| one(&past.what.pool));
                about.for_each(|past| past.told(scheduler, version, now));
            }
            _ => {}
        }
    }

    pub fn scheduler_starts(&mut self, number: u32) {
        self.overlaps.extend(self.running.iter().map(|other| (*other, number)));
        self.running.insert(number);
    }

    /// A scheduler stops here: gangs that it was binding stay as they are if there is no room later.
    pub fn scheduler_stops(&mut self, number: u32, store: &Store) {
        self.running.remove(&number);
        for (gang, needed) in &self.gangs {
            let bound = members(store, &self.demands, gang).filter(|(_, bound)| *bound).count();
            let is_member = |binding: &&Arrived| self.demands[&binding.pod].gang.as_ref() == Some(gang);
            let arrived = self.arrived.iter().filter(is_member).count();
            if (bound > 0 || arrived > 0) && bound < *needed {
                self.hurt.insert(gang.clone());
            }
        }
    }

    /// Whether one scheduler need not know yet what another has done to this pod or claim: it ran beside it, and was not told, or
    /// only just.
    fn may_not_know(&self, one: u32, other: u32, object: &Value, resource: &str, now: Duration) -> bool {
        let told = facts(resource, object).and_then(|facts| self.told.get(&(one, facts)).copied());
        self.are_rivals(one, other) && is_believed(told, now)
    }

    fn are_rivals(&self, one: u32, other: u32) -> bool {
        self.overlaps.contains(&(one.min(other), one.max(other)))
    }

    /// Likewise of a pod that another may have bound.
    pub fn may_not_know_node(&self, scheduler: u32, pod: &Value, now: Duration) -> bool {
        let by = self.bound_by.get(uid(pod));
        by.is_some_and(|by| *by != scheduler && self.may_not_know(scheduler, *by, pod, "pods", now))
    }

    /// What must hold when nothing has gone wrong for long.
    pub fn quiet(&mut self, store: &Store) {
        let found: Vec<String> = self.pods_wait(store).into_iter().chain(self.claims_are_held(store)).collect();
        self.violations.extend(found);
    }
}

/// Whether what is known otherwise since then may still be what a scheduler goes by.
fn is_believed(told: Option<Duration>, now: Duration) -> bool {
    told.is_none_or(|told| told + MAY_BE_BELIEVED + LATEST > now)
}

/// What an object says that schedulers must not contradict: where a pod is, and what a claim has and for whom.
fn facts(resource: &str, object: &Value) -> Option<String> {
    match resource {
        "pods" => Some(format!("{} {}", uid(object), node_of(object)?)),
        "resourceclaims" => Some(format!("{} {:?} {:?}", uid(object), allocated(object), holders(object))),
        _ => None,
    }
}

/// The pods on a node, but for those that have ended.
pub fn residents<'a>(store: &Store, demands: &'a BTreeMap<String, Demand>, node: &str) -> Vec<&'a Demand> {
    let there = store.all("pods").filter(|pod| node_of(pod) == Some(node) && !has_ended(pod));
    there.filter_map(|pod| demands.get(uid(pod))).collect()
}

/// The pods of a gang that are there, and whether they have nodes.
fn members<'a>(
    store: &'a Store,
    demands: &'a BTreeMap<String, Demand>,
    gang: &'a str,
) -> impl Iterator<Item = (&'a Demand, bool)> {
    let there = store.all("pods").filter(|pod| !has_ended(pod) && (!is_leaving(pod) || node_of(pod).is_some()));
    there.filter_map(move |pod| {
        let demand = demands.get(uid(pod)).filter(|demand| demand.gang.as_deref() == Some(gang))?;
        Some((demand, node_of(pod).is_some()))
    })
}
