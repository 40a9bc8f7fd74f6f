//! The engine: changes and ticks go in, decisions come out. The driver carries them out and tells how it went.

mod attempt;
mod consult;
mod devices;
mod gangs;
mod gates;
mod rescue;
mod reserved;
mod storage;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    Diagnosis, Explanation, Node, Pending, Pod,
    diagnosis::Preemption,
    explanation::NAMED,
    extender::Extender,
    framework::{Event, Gang},
    labels::{Labels, Selector},
    plans::Plans,
    plugins,
    pod::OwnerKind,
    pre_bind::{PreBind, Write},
    preempt::{Budget, Budgets, Victims},
    profile::Profile,
    queue::{History, Incoming, Pauses, Queue, Turn},
    random::Random,
    world::{COARSE_DOMAINS, Devices, World},
};
use attempt::{How, Unfit};
use consult::Consulting;
use gangs::Gangs;

/// For so many pods at a time extenders are asked, unless it is said otherwise; kube-scheduler's `parallelism`.
const PARALLELISM: usize = 16;

/// Why nobody is evicted for a pod while extenders are asked about others.
const BUSY: &str = "extenders are being asked about as many pods as they may be";

/// How to build an engine.
pub struct Options {
    pub profiles: Vec<Profile>,
    pub pauses: Pauses,
    pub extenders: Vec<Extender>,
    /// For so many pods at a time they are asked.
    pub parallelism: usize,
    /// See [`COARSE_DOMAINS`]; tests choose others, to have both ways with few nodes.
    pub coarse_domains: usize,
    /// So many of the best nodes are named when one is chosen.
    pub named: usize,
    /// Which parts of the API of devices are looked at.
    pub devices: ::devices::Features,
    /// Devices may stand for extended resources.
    pub extended_resources: bool,
    /// What was the time since 1970 at the time zero of this engine's.
    pub unix_start: Duration,
    /// Breaks ties between equal nodes; the same seed and inputs give the same decisions.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            profiles: vec![plugins::default_profile("default-scheduler")],
            pauses: Pauses::default(),
            extenders: Vec::new(),
            parallelism: PARALLELISM,
            coarse_domains: COARSE_DOMAINS,
            named: NAMED,
            devices: ::devices::Features::default(),
            extended_resources: true,
            unix_start: Duration::ZERO,
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
    pub history: History,
    /// What was thought of the nodes.
    pub why: Explanation,
    /// A plugin has the pod wait so long at most: the driver asks [`Engine::permitted`] until the answer is
    /// [`crate::pre_bind::Progress::Done`], and only then goes on.
    pub permit: Option<Duration>,
    /// What goes before the binding.
    pub pre_bind: PreBind,
}

/// What the driver does next.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Do what goes before the binding, in the order that [`PreBind`] tells, and bind the pod to the node; on failure,
    /// [`Engine::undo`].
    Bind(Reservation),
    /// Tell why the pod waits. It is tried again by itself when something changes that can help. If there are victims, evict
    /// them and nominate the node; if that fails, [`Engine::preemption_failed`]. Before the pod is told, make the writes.
    Unschedulable {
        pod: Arc<Pod>,
        diagnosis: Diagnosis,
        history: History,
        victims: Option<Victims>,
        /// The node that is kept for it though nobody is evicted.
        nominated: Option<Arc<str>>,
        writes: Vec<Write>,
    },
    /// Ask the extenders that are interested in the pod about these nodes, which fit by all that is known here, and give
    /// their answer to [`Engine::advised`].
    Consult { pod: Arc<Pod>, nodes: Vec<Arc<str>> },
    /// Ask the extenders that are interested in the pod which of these evictions may be, and give their answer to
    /// [`Engine::advised_victims`].
    ConsultVictims { pod: Arc<Pod>, candidates: Vec<Victims> },
    /// Tell that no attempt is made: a plugin keeps the pod out of the queue, for this reason.
    KeptOut { pod: Arc<Pod>, plugin: String, reason: String },
    /// Tell that the attempt has failed for this reason; the pod is tried again after its pause.
    Failed { pod: Arc<Pod>, error: String, history: History },
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
    budgets: Budgets,
    /// Victims that are still there, by the pod that they make room for.
    preempting: HashMap<Arc<str>, Vec<Arc<str>>>,
    gangs: Gangs,
    /// Decisions that were made together with one that was asked for.
    ready: VecDeque<Decision>,
    reserved: HashMap<Arc<str>, Reserved>,
    extenders: Vec<Extender>,
    parallelism: usize,
    named: usize,
    unix_start: Duration,
    /// Pods that extenders are being asked about.
    consulting: HashMap<Arc<str>, Consulting>,
}

impl Engine {
    pub fn new(options: Options) -> Self {
        Engine {
            profiles: options.profiles,
            queue: Queue::new(options.pauses),
            world: World::new(options.coarse_domains, Devices::new(options.devices, options.extended_resources)),
            plans: Plans::default(),
            random: Random::new(options.seed),
            start: 0,
            budgets: Budgets::default(),
            preempting: HashMap::new(),
            gangs: Gangs::default(),
            ready: VecDeque::new(),
            reserved: HashMap::new(),
            extenders: options.extenders,
            parallelism: options.parallelism.max(1),
            named: options.named,
            unix_start: options.unix_start,
            consulting: HashMap::new(),
        }
    }

    /// Whether pods of this scheduler name are ours.
    pub fn serves(&self, scheduler_name: &str) -> bool {
        self.profiles.iter().any(|profile| profile.scheduler_name == scheduler_name)
    }

    fn profile(&self, pod: &Pod) -> Option<usize> {
        self.profiles.iter().position(|profile| *profile.scheduler_name == *pod.spec.scheduler_name)
    }

    fn turn(&self, profile: usize, pod: &Pod) -> Turn {
        Turn { rank: self.profiles[profile].rank(pod), consults: self.consults(pod) }
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
        self.wake(&Event::NamespaceChanged, now);
    }

    /// What a Service selects; `None`: nothing, or it is gone.
    pub fn set_service(&mut self, namespace: &Arc<str>, name: &Arc<str>, selector: Option<Selector>, now: Duration) {
        if self.world.workloads.set_service(namespace, name, selector) {
            self.wake(&Event::WorkloadChanged, now);
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
            self.wake(&Event::WorkloadChanged, now);
        }
    }

    /// A PodDisruptionBudget; `None`: it is gone.
    pub fn set_budget(&mut self, namespace: &Arc<str>, name: &Arc<str>, budget: Option<Budget>) {
        self.budgets.set(namespace, name, budget);
    }

    /// A PodGroup: a gang, or pods that are placed one by one (`None` within); `None`: it is gone.
    pub fn set_group(&mut self, namespace: &Arc<str>, name: &Arc<str>, group: Option<Option<Gang>>, now: Duration) {
        self.gangs.set(namespace, name, group);
        self.regate_group(namespace, name, now);
        self.gangs.members(namespace, name).iter().for_each(|uid| self.queue.tell_again(uid));
    }

    /// A pod appeared or changed: one that waits is queued, one on a node is counted there.
    pub fn upsert_pod(&mut self, mut pod: Pod, now: Duration) {
        if pod.terminal {
            return self.remove_pod(&pod.uid, now);
        }
        self.world.intern(&mut pod);
        let pod = Arc::new(pod);
        if self.gangs.join(&pod)
            && let Some(group) = &pod.group
        {
            self.regate_group(&pod.namespace, group, now);
        }
        match pod.node_name.clone() {
            Some(node) => self.assigned(pod, &node, now),
            None => self.waiting(pod, now),
        }
    }

    fn assigned(&mut self, pod: Arc<Pod>, node: &Arc<str>, now: Duration) {
        self.queue.remove(&pod.uid);
        self.consulting.remove(&pod.uid);
        self.settle(&pod.uid, node, now);
        if let Some(reserved) = self.reserved.remove(&pod.uid) {
            // Somebody else has bound it elsewhere: what was reserved here is free again.
            if reserved.node != *node {
                self.unreserve(&pod, &reserved.node);
            }
            // What was promised to it has come true, or never will.
            self.world.volumes.release(&pod.uid);
            self.world.devices.release(&pod.uid);
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
        let profile = self.profile(&pod).filter(|_| !pod.deleting);
        if let Some(reserved) = self.reserved.get_mut(&pod.uid) {
            // If its binding fails, it is known what becomes of it.
            reserved.latest = pod;
            return;
        }
        let Some(profile) = profile else {
            self.queue.remove(&pod.uid);
            self.consulting.remove(&pod.uid);
            self.denominate(&pod.uid, now);
            return;
        };
        if let Some(node) = &pod.nominated {
            self.promise(&pod, node, now);
        } else if !self.preempting.contains_key(&pod.uid) {
            self.denominate(&pod.uid, now);
        }
        if let Some(consulting) = self.consulting.get_mut(&pod.uid) {
            return consulting.refresh(pod);
        }
        let turn = self.turn(profile, &pod);
        let gate = self.gate(profile, &pod);
        match self.queue.pod(&pod.uid) {
            Some(known) if counts_alike(known, &pod) => self.queue.refresh(pod),
            Some(_) if gate == self.queue.gate(&pod.uid) => {
                let profile = &self.profiles[profile];
                let helps = |old: &Pod, by: u64| profile.helps_itself(by, old, &pod);
                self.queue.update(pod.clone(), turn, now, helps);
            }
            _ => self.queue.add(pod, turn, gate, now),
        }
    }

    /// A pod is gone, or has ended.
    pub fn remove_pod(&mut self, uid: &str, now: Duration) {
        self.queue.remove(uid);
        self.consulting.remove(uid);
        self.gangs.leave(uid);
        self.preempting.remove(uid);
        self.denominate(uid, now);
        if let Some(reserved) = self.reserved.remove(uid) {
            self.unreserve(&reserved.latest, &reserved.node);
        }
        if let Some(pod) = self.world.remove(uid) {
            self.wake(&Event::PodRemoved(pod), now);
        }
    }

    /// A plugin has changed: what it has said is forgotten, and the pods that it has rejected are tried again.
    pub fn renew(&mut self, plugin: &str, now: Duration) {
        for at in 0..self.profiles.len() {
            let Some(index) = self.profiles[at].find(plugin) else { continue };
            self.profiles[at].renew(index);
            self.plans.forget(at);
            let name = &self.profiles[at].scheduler_name;
            let helps = |pod: &Pod, by: u64| *pod.spec.scheduler_name == **name && by & (1 << index) != 0;
            self.queue.wake(now, "PluginRenewed", helps);
        }
        self.consulting.values_mut().for_each(Consulting::something_happened);
    }

    fn wake(&mut self, event: &Event, now: Duration) {
        self.wake_some(event, now, |_| true);
    }

    fn wake_some(&mut self, event: &Event, now: Duration, may: impl Fn(&Pod) -> bool) {
        self.consulting.values_mut().for_each(Consulting::something_happened);
        let (profiles, world) = (&self.profiles, &self.world);
        let profile_of =
            |pod: &Pod| profiles.iter().find(|profile| *profile.scheduler_name == *pod.spec.scheduler_name);
        let helps = |pod: &Pod, rejected_by: u64| {
            may(pod) && profile_of(pod).is_some_and(|profile| profile.helps(pod, rejected_by, event, world))
        };
        self.queue.wake(now, event.label(), helps);
        for uid in self.queue.gated(helps) {
            self.regate(&uid, now);
        }
    }
}

// Decisions.
impl Engine {
    /// The next decision, if a pod is due. A placement is counted at once.
    pub fn next(&mut self, now: Duration) -> Option<Decision> {
        if let Some(decision) = self.ready.pop_front() {
            return Some(decision);
        }
        self.world.set_unix_time(self.unix_start + now);
        if let Some(decision) = self.kept_out(now) {
            return Some(decision);
        }
        loop {
            let (pod, history) = self.queue.pop(now, self.may_consult())?;
            // Its scheduler may not be ours any more: then nothing is to be decided.
            let Some(profile) = self.profile(&pod) else { continue };
            return match self.gangs.of(&pod) {
                Some(gang) => self.decide_together(gang, pod, history, now),
                None if self.consults(&pod) => Some(self.consult(profile, pod, history, now)),
                None => Some(self.decide(profile, pod, history, How::ALONE, now)),
            };
        }
    }

    fn decide(&mut self, profile: usize, pod: Arc<Pod>, history: History, how: How<'_>, now: Duration) -> Decision {
        match self.attempt(profile, &pod, history, how, now) {
            Ok(reservation) => Decision::Bind(reservation),
            Err(unfit) => self.unschedulable(profile, pod, history, *unfit, now),
        }
    }

    fn unschedulable(
        &mut self,
        profile: usize,
        pod: Arc<Pod>,
        history: History,
        mut unfit: Unfit,
        now: Duration,
    ) -> Decision {
        let busy = !unfit.candidates.is_empty() && !self.may_consult();
        if busy {
            unfit.diagnosis.preemption = Preemption::NotEligible(BUSY.into());
        } else if !unfit.candidates.is_empty() {
            return self.consult_victims(pod, history, unfit);
        }
        let turn = self.turn(profile, &pod);
        self.queue.add_unschedulable(pod.clone(), turn, history, unfit.rejected_by, now);
        if busy {
            // After its pause, whatever happens meanwhile.
            self.queue.nudge(&pod.uid, now);
        }
        let Unfit { diagnosis, victims, nominated, writes, .. } = unfit;
        Decision::Unschedulable { pod, diagnosis, history, victims, nominated, writes }
    }

    /// The victims could not be evicted: the pod is tried again.
    pub fn preemption_failed(&mut self, uid: &Arc<str>, now: Duration) {
        self.preempting.remove(uid);
        self.denominate(uid, now);
        self.queue.nudge(uid, now);
    }

    /// When [`Engine::next`] has something again without any change; zero: now; `None`: never.
    pub fn wake_at(&self) -> Option<Duration> {
        if self.ready.is_empty() { self.queue.wake_at(self.may_consult()) } else { Some(Duration::ZERO) }
    }

    /// How many pods wait, and where.
    pub fn pending(&self) -> Pending {
        self.queue.pending()
    }

    /// How many pods have come into which part of the queue, and why.
    pub fn incoming(&self) -> &Incoming {
        self.queue.incoming()
    }

    /// How many pods are unschedulable, by the scheduler that they name and each plugin that rejected them.
    pub fn unschedulable_by(&self) -> BTreeMap<(&str, &str), usize> {
        let mut counts = BTreeMap::new();
        for (pod, rejected_by, pods) in self.queue.unschedulable() {
            let Some(profile) = self.profile(pod).map(|profile| &self.profiles[profile]) else { continue };
            for plugin in profile.named(rejected_by) {
                *counts.entry((profile.scheduler_name.as_str(), plugin)).or_default() += pods;
            }
        }
        counts
    }

    /// How many pods have been given a node that the API does not show yet.
    pub fn assumed(&self) -> usize {
        self.reserved.len()
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
