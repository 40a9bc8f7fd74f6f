//! The engine: changes and ticks go in, decisions come out. The driver carries them out and tells how it went.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    Diagnosis, Node, Pending, Pod,
    diagnosis::{Preemption, Reason},
    framework::{Event, Kind},
    labels::{Labels, Selector},
    plan::{Choice, Plan},
    plans::Plans,
    plugins,
    pod::OwnerKind,
    preempt::{self, Budget, Victims},
    profile::Profile,
    queue::{History, Pauses, Queue},
    random::Random,
    world::World,
};

/// Up to so many nodes, a search looks at all; above, a share that shrinks with their number is good enough.
const MIN_FEASIBLE: usize = 100;
const MIN_PERCENTAGE: usize = 5;

/// How to build an engine.
pub struct Options {
    pub profiles: Vec<Profile>,
    pub pauses: Pauses,
    pub preemption: plugins::default_preemption::Args,
    /// Breaks ties between equal nodes; the same seed and inputs give the same decisions.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            profiles: vec![plugins::default_profile("default-scheduler")],
            pauses: Pauses::default(),
            preemption: plugins::default_preemption::Args::default(),
            seed: 1,
        }
    }
}

/// A node held for a pod. It ends in exactly one way: the API shows the pod on the node ([`Engine::upsert_pod`]), the
/// pod is gone ([`Engine::remove_pod`]), or the binding failed ([`Engine::undo`]).
#[derive(Clone, Debug)]
pub struct Reservation {
    pub pod: Arc<Pod>,
    pub node: Arc<str>,
    /// The attempts that it took, this one included.
    pub attempts: u32,
    /// When the pod was first seen waiting.
    pub first_seen: Duration,
    /// How many nodes fitted, and the score of this one.
    pub feasible: usize,
    pub score: i64,
}

/// What the driver does next.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Bind the pod to the node; on failure, [`Engine::undo`].
    Bind(Reservation),
    /// Tell why the pod waits. It is tried again by itself when something changes that can help. If there are victims, evict
    /// them and nominate the node; if that fails, [`Engine::preemption_failed`].
    Unschedulable { pod: Arc<Pod>, diagnosis: Diagnosis, attempts: u32, victims: Option<Victims> },
}

struct Reserved {
    /// The pod as the API shows it now, which may be newer than what was decided on.
    latest: Arc<Pod>,
    node: Arc<str>,
    history: History,
}

pub struct Engine {
    profiles: Vec<Profile>,
    queue: Queue,
    world: World,
    plans: Plans,
    random: Random,
    /// Where the next search begins.
    start: usize,
    preemption: plugins::default_preemption::Args,
    budgets: BTreeMap<(Arc<str>, Arc<str>), Budget>,
    /// Victims that are still there, by the pod that they make room for.
    preempting: HashMap<Arc<str>, Vec<Arc<str>>>,
    reserved: HashMap<Arc<str>, Reserved>,
}

impl Engine {
    pub fn new(options: Options) -> Self {
        Engine {
            profiles: options.profiles,
            queue: Queue::new(options.pauses),
            world: World::default(),
            plans: Plans::default(),
            random: Random::new(options.seed),
            start: 0,
            preemption: options.preemption,
            budgets: BTreeMap::new(),
            preempting: HashMap::new(),
            reserved: HashMap::new(),
        }
    }

    /// Whether pods of this scheduler name are ours.
    pub fn serves(&self, scheduler_name: &str) -> bool {
        self.profiles.iter().any(|profile| profile.scheduler_name == scheduler_name)
    }

    fn profile(&self, pod: &Pod) -> Option<usize> {
        self.profiles.iter().position(|profile| *profile.scheduler_name == *pod.spec.scheduler_name)
    }
}

// Changes of the cluster.
impl Engine {
    /// A node appeared or changed.
    pub fn upsert_node(&mut self, node: Node, now: Duration) {
        if self.world.node(&node.name).is_some_and(|known| **known == node) {
            return;
        }
        let node = Arc::new(node);
        let event = match self.world.upsert_node(node.clone()) {
            None => Event::NodeAdded(node),
            Some(old) => Event::NodeUpdated { old, new: node },
        };
        self.wake(&event, now);
    }

    pub fn remove_node(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.world.remove_node(name) {
            self.wake(&Event::NodeRemoved(node), now);
        }
    }

    /// Labels of a namespace; `None`: it is gone.
    pub fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>, now: Duration) {
        self.world.set_namespace(name, labels);
        self.wake(&Event::Changed(Kind::Namespace), now);
    }

    /// What a Service selects; `None`: nothing, or it is gone.
    pub fn set_service(&mut self, namespace: &Arc<str>, name: &Arc<str>, selector: Option<Selector>, now: Duration) {
        if self.world.workloads.set_service(namespace, name, selector) {
            self.wake(&Event::Changed(Kind::Workload), now);
        }
    }

    /// What a workload selects; `None`: nothing, or it is gone.
    pub fn set_owner(
        &mut self,
        kind: OwnerKind,
        namespace: &Arc<str>,
        name: &Arc<str>,
        selector: Option<Selector>,
        now: Duration,
    ) {
        if self.world.workloads.set_owner(kind, namespace, name, selector) {
            self.wake(&Event::Changed(Kind::Workload), now);
        }
    }

    /// A PodDisruptionBudget; `None`: it is gone.
    pub fn set_budget(&mut self, namespace: &Arc<str>, name: &Arc<str>, budget: Option<Budget>) {
        let key = (namespace.clone(), name.clone());
        match budget {
            Some(budget) => self.budgets.insert(key, budget),
            None => self.budgets.remove(&key),
        };
    }

    /// A pod appeared or changed: one that waits is queued, one on a node is counted there.
    pub fn upsert_pod(&mut self, mut pod: Pod, now: Duration) {
        if pod.terminal {
            return self.remove_pod(&pod.uid, now);
        }
        self.world.intern(&mut pod);
        let pod = Arc::new(pod);
        match pod.node_name.clone() {
            Some(node) => self.assigned(pod, &node, now),
            None => self.waiting(pod, now),
        }
    }

    fn assigned(&mut self, pod: Arc<Pod>, node: &Arc<str>, now: Duration) {
        self.queue.remove(&pod.uid);
        self.world.denominate(&pod.uid);
        self.preempting.remove(&pod.uid);
        if let Some(reserved) = self.reserved.remove(&pod.uid) {
            // Somebody else has bound it elsewhere: what was reserved here is free again.
            if reserved.node != *node {
                self.unreserve(&pod, &reserved.node);
            }
        }
        let before = self.world.placed(&pod.uid).map(|(before, at)| (before.clone(), at));
        match before {
            Some((before, at)) if self.world.info(at).node.name == *node => {
                if counts_alike(&before, &pod) {
                    self.world.confirm(pod);
                } else {
                    self.world.place(pod.clone(), node, false);
                    self.wake(&Event::PodUpdated { old: before, new: pod }, now);
                }
            }
            Some((before, _)) => {
                self.world.place(pod.clone(), node, false);
                self.wake(&Event::PodRemoved(before), now);
                self.wake(&Event::PodAdded(pod), now);
            }
            None => {
                self.world.place(pod.clone(), node, false);
                self.wake(&Event::PodAdded(pod), now);
            }
        }
    }

    fn waiting(&mut self, pod: Arc<Pod>, now: Duration) {
        let Some(profile) = self.profile(&pod).filter(|_| !pod.deleting) else {
            self.queue.remove(&pod.uid);
            self.world.denominate(&pod.uid);
            return;
        };
        if let Some(reserved) = self.reserved.get_mut(&pod.uid) {
            reserved.latest = pod;
            return;
        }
        if let Some(node) = &pod.nominated {
            self.world.nominate(&pod, node);
        } else if !self.preempting.contains_key(&pod.uid) {
            self.world.denominate(&pod.uid);
        }
        let profile = &self.profiles[profile];
        let (rank, gated) = (profile.rank(&pod), profile.pre_enqueue(&pod).is_err());
        match self.queue.pod(&pod.uid) {
            Some(known) if counts_alike(known, &pod) => self.queue.refresh(pod),
            Some(known) if known.spec.scheduling_gates == pod.spec.scheduling_gates => {
                self.queue.update(pod, rank, now);
            }
            _ => self.queue.add(pod, rank, gated, now),
        }
    }

    /// A pod is gone, or has ended.
    pub fn remove_pod(&mut self, uid: &str, now: Duration) {
        self.queue.remove(uid);
        self.world.denominate(uid);
        self.preempting.remove(uid);
        if let Some(reserved) = self.reserved.remove(uid) {
            self.unreserve(&reserved.latest, &reserved.node);
        }
        if let Some(pod) = self.world.remove(uid) {
            self.wake(&Event::PodRemoved(pod), now);
        }
    }

    fn wake(&mut self, event: &Event, now: Duration) {
        let (profiles, world) = (&self.profiles, &self.world);
        let profile_of =
            |pod: &Pod| profiles.iter().find(|profile| *profile.scheduler_name == *pod.spec.scheduler_name);
        self.queue.wake(now, |pod, rejected_by| {
            profile_of(pod).is_some_and(|profile| profile.helps(pod, rejected_by, event, world))
        });
    }
}

// Decisions.
impl Engine {
    /// The next decision, if a pod is due. A placement is counted at once.
    pub fn next(&mut self, now: Duration) -> Option<Decision> {
        loop {
            let (pod, history) = self.queue.pop(now)?;
            // Its scheduler is not ours any more: nothing is to be decided.
            if let Some(profile) = self.profile(&pod) {
                return Some(self.decide(profile, pod, history, now));
            }
        }
    }

    fn decide(&mut self, profile: usize, pod: Arc<Pod>, history: History, now: Duration) -> Decision {
        self.world.trim();
        let mut plan = match self.plans.take(profile, &self.profiles[profile], &pod, &mut self.world) {
            Ok(plan) => plan,
            Err((plugin, rejection)) => {
                let name = self.profiles[profile].plugin(plugin).name().to_owned();
                let before_nodes = Some((name, rejection.text()));
                let diagnosis = Diagnosis { nodes: self.world.known_nodes(), before_nodes, ..Default::default() };
                return self.unschedulable(profile, pod, history, diagnosis, 1 << plugin, None, now);
            }
        };
        plan.asking = Some(pod.uid.clone());
        let choice = self.choose(profile, &mut plan, &pod);
        let decision = match choice {
            Some(choice) => self.reserve(profile, pod, history, choice, now),
            None => self.explain(profile, &mut plan, pod, history, now),
        };
        self.plans.put(profile, plan);
        decision
    }

    fn choose(&mut self, profile: usize, plan: &mut Plan, pod: &Pod) -> Option<Choice> {
        // The node that was freed for it is taken without looking at others, as long as it fits.
        if let Some(node) = self.world.nominated_node(&pod.uid)
            && self.world.info(node).known
            && plan.fits_now(&mut self.world, node).is_ok()
        {
            return Some(Choice { node, score: 0, feasible: 1 });
        }
        if plan.is_kept() {
            plan.catch_up(&mut self.world);
        } else {
            let nodes = self.world.known_nodes();
            let wanted = feasible_to_find(nodes, self.profiles[profile].percentage_of_nodes_to_score);
            let looked = plan.search(&mut self.world, self.start, wanted);
            self.start = (self.start + looked).checked_rem(nodes).unwrap_or(0);
        }
        plan.choose(&self.world, &mut self.random)
    }

    fn reserve(&mut self, profile: usize, pod: Arc<Pod>, history: History, choice: Choice, now: Duration) -> Decision {
        let nodes = self.world.known_nodes();
        if let Err((plugin, rejection)) = self.profiles[profile].reserve(&pod, choice.node, &mut self.world) {
            let plugin_name = self.profiles[profile].plugin(plugin).name().to_owned();
            let rejected = crate::diagnosis::Rejected { plugin: plugin_name, rejection, nodes: 1 };
            let diagnosis = Diagnosis::of(nodes, vec![rejected]);
            return self.unschedulable(profile, pod, history, diagnosis, 1 << plugin, None, now);
        }
        let node = self.world.info(choice.node).node.name.clone();
        self.world.denominate(&pod.uid);
        self.preempting.remove(&pod.uid);
        self.world.place(pod.clone(), &node, true);
        self.wake(&Event::PodAdded(pod.clone()), now);
        let reserved = Reserved { latest: pod.clone(), node: node.clone(), history };
        self.reserved.insert(pod.uid.clone(), reserved);
        Decision::Bind(Reservation {
            pod,
            node,
            attempts: history.attempts,
            first_seen: history.first_seen,
            feasible: choice.feasible,
            score: choice.score,
        })
    }

    /// No node takes the pod: why, and whether evicting others would help.
    fn explain(
        &mut self,
        profile: usize,
        plan: &mut Plan,
        pod: Arc<Pod>,
        history: History,
        now: Duration,
    ) -> Decision {
        let (mut diagnosis, rejected_by) = plan.diagnose(&self.profiles[profile], &self.world);
        let mut victims = None;
        if self.profiles[profile].preempts() && self.world.known_nodes() > 0 {
            diagnosis.preemption = match self.preempt(plan, &pod) {
                Err(preemption) => preemption,
                Ok(found) => {
                    let node = found.node.to_string();
                    victims = Some(found);
                    Preemption::Nominated(node)
                }
            };
        }
        self.unschedulable(profile, pod, history, diagnosis, rejected_by, victims, now)
    }

    fn preempt(&mut self, plan: &mut Plan, pod: &Arc<Pod>) -> Result<Victims, Preemption> {
        if pod.spec.never_preempts {
            return Err(Preemption::NotEligible("not eligible due to preemptionPolicy=Never.".into()));
        }
        if self.waits_for_victims(pod) {
            let why: Reason = "not eligible due to a terminating pod on the nominated node.".into();
            return Err(Preemption::NotEligible(why));
        }
        let start = self.random.below(self.world.known_nodes());
        let budgets: Vec<&Budget> = self.budgets.values().collect();
        let victims = preempt::select(plan, &mut self.world, pod, &self.preemption, &budgets, start)
            .map_err(Preemption::Failed)?;
        self.world.nominate(pod, &victims.node);
        let uids = victims.pods.iter().map(|victim| victim.uid.clone()).collect();
        self.preempting.insert(pod.uid.clone(), uids);
        // Those of lower priority that were to have the node find another.
        let node = self.world.find(&victims.node);
        let lower = |other: &Pod| other.priority() < pod.priority();
        for uid in node.map(|node| self.world.nominated_below(node, lower)).unwrap_or_default() {
            self.world.denominate(&uid);
        }
        Ok(victims)
    }

    /// Whether pods that were evicted for this one are still there.
    fn waits_for_victims(&mut self, pod: &Pod) -> bool {
        if let Some(victims) = self.preempting.get_mut(&pod.uid) {
            victims.retain(|uid| self.world.placed(uid).is_some());
            if !victims.is_empty() {
                return true;
            }
            self.preempting.remove(&pod.uid);
        }
        // After a restart only the API remembers.
        let Some(node) = self.world.nominated_node(&pod.uid) else { return false };
        let leaving = |victim: &Pod| victim.deleting && victim.priority() < pod.priority();
        self.world.info(node).residents.iter().any(|resident| leaving(&resident.pod))
    }

    #[allow(clippy::too_many_arguments, reason = "one place where a decision in the negative is built")]
    fn unschedulable(
        &mut self,
        profile: usize,
        pod: Arc<Pod>,
        history: History,
        diagnosis: Diagnosis,
        rejected_by: u64,
        victims: Option<Victims>,
        now: Duration,
    ) -> Decision {
        let rank = self.profiles[profile].rank(&pod);
        self.queue.add_unschedulable(pod.clone(), rank, history, rejected_by, now);
        Decision::Unschedulable { pod, diagnosis, attempts: history.attempts, victims }
    }

    fn unreserve(&mut self, pod: &Pod, node: &str) {
        if let Some(profile) = self.profile(pod) {
            self.profiles[profile].unreserve(pod, node, &mut self.world);
        }
    }

    /// The binding failed: the node is free again, and the pod is tried again after its pause.
    pub fn undo(&mut self, uid: &str, now: Duration) {
        // It has been confirmed or removed in the meantime: then there is nothing to undo.
        let Some(reserved) = self.reserved.remove(uid) else { return };
        self.unreserve(&reserved.latest, &reserved.node);
        if let Some(pod) = self.world.remove(uid) {
            self.wake(&Event::PodRemoved(pod), now);
        }
        if !reserved.latest.deleting
            && let Some(profile) = self.profile(&reserved.latest)
        {
            let rank = self.profiles[profile].rank(&reserved.latest);
            self.queue.add_failed(reserved.latest, rank, reserved.history, now);
        }
    }

    /// The victims could not be evicted: the pod is tried again.
    pub fn preemption_failed(&mut self, uid: &Arc<str>, now: Duration) {
        self.preempting.remove(uid);
        self.world.denominate(uid);
        self.queue.nudge(uid, now);
    }

    /// When [`Engine::next`] has something again without any change; zero: now; `None`: never.
    pub fn wake_at(&self) -> Option<Duration> {
        self.queue.wake_at()
    }

    /// How many pods wait, and where.
    pub fn pending(&self) -> Pending {
        self.queue.pending()
    }

    /// Whether the pod waits for a node.
    pub fn is_waiting(&self, uid: &str) -> bool {
        self.queue.contains(uid)
    }

    /// What the engine knows of the cluster.
    pub fn world(&self) -> &World {
        &self.world
    }
}

/// Whether two states of a pod are the same to everything that is decided or counted.
fn counts_alike(old: &Pod, new: &Pod) -> bool {
    Arc::ptr_eq(&old.spec, &new.spec) && Arc::ptr_eq(&old.labels, &new.labels) && old.deleting == new.deleting
}

/// How many nodes that fit are enough to choose from: kube-scheduler's adaptive share.
fn feasible_to_find(nodes: usize, percentage: Option<u32>) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes.max(1);
    }
    let adaptive = || 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE);
    let percentage = percentage.filter(|percentage| *percentage > 0).map_or_else(adaptive, |given| given as usize);
    (nodes * percentage.min(100) / 100).max(MIN_FEASIBLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_many_nodes_is_enough() {
        for (nodes, percentage, expected) in [
            (0, None, 1),
            (3, None, 3),
            (99, None, 99),
            (100, None, 100),
            (250, None, 120),
            (1000, None, 420),
            (5000, None, 500),
            (6000, None, 300),
            (6000, Some(100), 6000),
            (6000, Some(1), 100),
        ] {
            assert_eq!(feasible_to_find(nodes, percentage), expected, "{nodes} nodes, {percentage:?}");
        }
    }
}
