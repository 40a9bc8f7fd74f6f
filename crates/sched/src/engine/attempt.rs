//! One attempt to place one pod: its plan, the choice of a node, the reservation; or why there is none, and whom to evict.

use std::{sync::Arc, time::Duration};

use super::{Engine, Reservation, Reserved};
use crate::{
    Diagnosis, Explanation, Pod,
    diagnosis::{Preemption, Reason, Rejected},
    extender::Advice,
    framework::Event,
    plan::{Choice, Plan, Refusal},
    pre_bind::Write,
    preempt::{self, Budget, Victims},
    profile::{EXTENDERS, Rescue},
    queue::History,
};

/// Up to so many nodes, a search looks at all; above, a share that shrinks with their number is good enough.
const MIN_FEASIBLE: usize = 100;
const MIN_PERCENTAGE: usize = 5;

const NEVER: &str = "not eligible due to preemptionPolicy=Never.";

/// What an attempt may do, and what it has to go by.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    /// If no node takes the pod, others may be evicted for it.
    pub preempt: bool,
    /// What the extenders said, which then is the last word.
    pub advice: Option<&'a Advice>,
}

impl How<'_> {
    /// Of a pod that nobody outside has a say in.
    pub const ALONE: How<'static> = How { preempt: true, advice: None };
}

/// No node was found.
#[derive(Default)]
pub(super) struct Unfit {
    pub diagnosis: Diagnosis,
    /// The plugins that rejected the pod, one bit each.
    pub rejected_by: u64,
    pub victims: Option<Victims>,
    /// Evictions that extenders have a say in: which, if any, is open.
    pub candidates: Vec<Victims>,
    /// What else is done for it.
    pub writes: Vec<Write>,
    /// The extenders let a node pass that was full when they had answered.
    pub too_late: bool,
}

impl Engine {
    /// Places a pod and counts it there.
    pub(super) fn attempt(
        &mut self,
        profile: usize,
        pod: &Arc<Pod>,
        history: History,
        how: How<'_>,
        now: Duration,
    ) -> Result<Reservation, Box<Unfit>> {
        self.world.trim();
        let mut plan = match self.plans.take(profile, &self.profiles[profile], pod, &mut self.world) {
            Ok(plan) => plan,
            Err(refusal) => return Err(Box::new(self.refused(profile, pod, refusal, how, now))),
        };
        plan.asking = Some(pod.uid.clone());
        plan.named = self.named;
        let outcome = match self.choose(profile, &mut plan, pod, how.advice) {
            Ok(Some(choice)) => self.reserve(profile, pod, history, choice, now),
            Ok(None) => Err(Box::new(self.explain(profile, &mut plan, pod, how, now))),
            // There are nodes for it: evicting others would be no help.
            Err(refusal) => Err(Box::new(self.refused(profile, pod, refusal, How { preempt: false, ..how }, now))),
        };
        self.plans.put(profile, plan);
        outcome
    }

    /// A plugin has rejected the pod before any node was looked at.
    pub(super) fn refused(
        &mut self,
        profile: usize,
        pod: &Pod,
        refusal: Refusal,
        how: How<'_>,
        now: Duration,
    ) -> Unfit {
        let (plugin, rejection) = refusal;
        let name = self.profiles[profile].plugin(plugin).name().to_owned();
        let before_nodes = Some((name, rejection.text()));
        let mut diagnosis = Diagnosis { nodes: self.world.known_nodes(), before_nodes, ..Default::default() };
        let mut writes = Vec::new();
        if how.preempt && rejection.unresolvable && diagnosis.nodes > 0 {
            let rescue = self.profiles[profile].post_filter(pod, &diagnosis, &self.world);
            (diagnosis.said, writes) = (rescue.said, rescue.writes);
            if rescue.preempts {
                diagnosis.preemption = self.preempt_nobody(pod, diagnosis.nodes);
            }
        }
        self.give_back(pod, &diagnosis.preemption, how, now);
        Unfit { diagnosis, rejected_by: 1 << plugin, writes, ..Default::default() }
    }

    fn choose(
        &mut self,
        profile: usize,
        plan: &mut Plan,
        pod: &Pod,
        advice: Option<&Advice>,
    ) -> Result<Option<Choice>, Refusal> {
        let may = |name: &str| advice.is_none_or(|advice| advice.nodes.contains_key(name));
        // The node that was freed for it is taken without looking at others, as long as it fits.
        if let Some(node) = self.world.nominated_node(&pod.uid)
            && self.world.info(node).known
            && may(&self.world.info(node).node.name)
            && plan.fits_now(&mut self.world, node).is_ok()
        {
            return Ok(Some(Choice {
                node,
                why: Explanation { nodes: self.world.known_nodes(), feasible: 1, ..Default::default() },
            }));
        }
        if let Some(advice) = advice {
            return plan.choose_of(&self.profiles[profile], &mut self.world, advice, &mut self.random);
        }
        self.look(profile, plan);
        plan.choose(&self.profiles[profile], &self.world, &mut self.random)
    }

    /// Evaluates nodes: all that have changed, or if the plan is for this time only, until enough fit.
    pub(super) fn look(&mut self, profile: usize, plan: &mut Plan) {
        if plan.is_kept() {
            return plan.catch_up(&mut self.world);
        }
        let nodes = self.world.known_nodes();
        let wanted = self.feasible_to_find(profile);
        let looked = plan.search(&mut self.world, self.start, wanted);
        self.start = (self.start + looked).checked_rem(nodes).unwrap_or(0);
    }

    pub(super) fn feasible_to_find(&self, profile: usize) -> usize {
        feasible_to_find(self.world.known_nodes(), self.profiles[profile].percentage_of_nodes_to_score)
    }

    fn reserve(
        &mut self,
        profile: usize,
        pod: &Arc<Pod>,
        history: History,
        choice: Choice,
        now: Duration,
    ) -> Result<Reservation, Box<Unfit>> {
        if let Err(refusal) = self.profiles[profile].reserve(pod, choice.node, &mut self.world) {
            return Err(Box::new(self.refused_at(profile, refusal)));
        }
        let node = self.world.info(choice.node).node.name.clone();
        self.settle(&pod.uid, &node, now);
        self.world.place(pod.clone(), &node, true);
        self.wake(&Event::PodAdded(pod.clone()), now);
        let reserved = Reserved { latest: pod.clone(), node: node.clone(), history };
        self.reserved.insert(pod.uid.clone(), reserved);
        let permit = match self.profiles[profile].permit(pod, &node, &self.world) {
            Ok(permit) => permit,
            Err(refusal) => {
                self.release(&pod.uid);
                return Err(Box::new(self.refused_at(profile, refusal)));
            }
        };
        let pre_bind = self.profiles[profile].pre_bind(pod, &self.world);
        Ok(Reservation { pod: pod.clone(), node, history, why: choice.why, permit, pre_bind })
    }

    /// A plugin has rejected the pod on the node that was chosen.
    pub(super) fn refused_at(&self, profile: usize, (plugin, rejection): Refusal) -> Unfit {
        let plugin_name = self.profiles[profile].plugin(plugin).name().to_owned();
        let rejected = Rejected { plugin: plugin_name, rejection, nodes: 1 };
        let diagnosis = Diagnosis::of(self.world.known_nodes(), vec![rejected]);
        Unfit { diagnosis, rejected_by: 1 << plugin, ..Default::default() }
    }

    /// No node takes the pod: why, and whether evicting others would help.
    pub(super) fn explain(
        &mut self,
        profile: usize,
        plan: &mut Plan,
        pod: &Arc<Pod>,
        how: How<'_>,
        now: Duration,
    ) -> Unfit {
        if how.advice.is_some() {
            // What the advice left out is not known to this plan.
            self.look(profile, plan);
        }
        let (mut diagnosis, mut rejected_by) = plan.diagnose(&self.profiles[profile], &self.world);
        if let Some(advice) = how.advice {
            diagnosis.rejected.extend(advice.rejected.iter().cloned());
            rejected_by |= EXTENDERS;
            if !advice.nodes.is_empty() {
                return Unfit { diagnosis, rejected_by, too_late: true, ..Default::default() };
            }
        }
        let mut unfit = Unfit { diagnosis, rejected_by, ..Default::default() };
        let rescue = if how.preempt && self.world.known_nodes() > 0 {
            self.profiles[profile].post_filter(pod, &unfit.diagnosis, &self.world)
        } else {
            Rescue::default()
        };
        (unfit.diagnosis.said, unfit.writes) = (rescue.said, rescue.writes);
        if rescue.preempts {
            let consults = self.consults_about_victims(pod);
            match self.candidates(profile, plan, pod, consults) {
                Err((preemption, also_by)) => {
                    unfit.diagnosis.preemption = preemption;
                    unfit.rejected_by |= also_by;
                }
                Ok(candidates) if consults => {
                    unfit.candidates = candidates.into_iter().map(Arc::unwrap_or_clone).collect();
                }
                Ok(candidates) => {
                    let victims = preempt::least_harm(candidates).map(Arc::unwrap_or_clone);
                    self.nominate(pod, victims, &mut unfit, now);
                }
            }
        }
        if unfit.candidates.is_empty() {
            self.give_back(pod, &unfit.diagnosis.preemption, how, now);
        }
        unfit
    }

    /// The pod was rejected for what no node can change.
    fn preempt_nobody(&self, pod: &Pod, nodes: usize) -> Preemption {
        if pod.spec.never_preempts {
            return Preemption::NotEligible(NEVER.into());
        }
        Preemption::Failed([(Reason::Borrowed(preempt::NOT_HELPFUL), nodes)].into())
    }

    /// The evictions that would make room, each on its node; the best of them, unless `several` are wanted. Otherwise why there
    /// are none, and the plugins that are against it, one bit each.
    fn candidates(
        &mut self,
        profile: usize,
        plan: &mut Plan,
        pod: &Arc<Pod>,
        several: bool,
    ) -> Result<Vec<Arc<Victims>>, (Preemption, u64)> {
        if pod.spec.never_preempts {
            return Err((Preemption::NotEligible(NEVER.into()), 0));
        }
        if self.waits_for_victims(plan, pod) {
            let why: Reason = "not eligible due to a terminating pod on the nominated node.".into();
            return Err((Preemption::NotEligible(why), 0));
        }
        let start = self.random.below(self.world.known_nodes());
        let budgets: Vec<&Budget> = self.budgets.values().collect();
        let args = &self.profiles[profile].preemption;
        preempt::candidates(plan, &mut self.world, pod, args, &budgets, start, several)
            .map_err(|vain| (Preemption::Failed(vain.reasons), vain.rejected_by))
    }

    /// Promises the pod the node that its victims will leave.
    pub(super) fn nominate(&mut self, pod: &Arc<Pod>, victims: Option<Victims>, unfit: &mut Unfit, now: Duration) {
        let Some(mut victims) = victims else {
            self.denominate(&pod.uid, now);
            unfit.diagnosis.preemption =
                Preemption::Failed([(Reason::Borrowed(preempt::NOT_HELPFUL), unfit.diagnosis.nodes)].into());
            return;
        };
        self.promise(pod, &victims.node, now);
        let uids = victims.pods.iter().map(|victim| victim.uid.clone()).collect();
        self.preempting.insert(pod.uid.clone(), uids);
        // Those of lower priority that were to have the node find another.
        victims.displaced = self.world.nominated_below(&victims.node, pod.priority());
        for displaced in &victims.displaced {
            self.world.denominate(&displaced.uid);
            self.preempting.remove(&displaced.uid);
            self.queue.nudge(&displaced.uid, now);
        }
        unfit.diagnosis.preemption = Preemption::Nominated(victims.node.to_string());
        unfit.victims = Some(victims);
    }

    /// Keeps a node for the pod, instead of the one that was kept for it before.
    pub(super) fn promise(&mut self, pod: &Arc<Pod>, node: &str, now: Duration) {
        if self.world.nominated_node(&pod.uid).is_some_and(|at| *self.world.info(at).node.name != *node) {
            self.denominate(&pod.uid, now);
        }
        self.world.nominate(pod, node);
    }

    /// No node is kept for the pod any more: those that left it its room are tried again.
    pub(super) fn denominate(&mut self, uid: &str, now: Duration) {
        if let Some(pod) = self.world.denominate(uid) {
            let event = Event::PodRemoved(pod.clone());
            self.wake_some(&event, now, |other| other.priority() <= pod.priority());
        }
    }

    /// The pod has a node: what was kept for it is taken, or given back.
    pub(super) fn settle(&mut self, uid: &str, node: &str, now: Duration) {
        self.preempting.remove(uid);
        match self.world.nominated_node(uid) {
            Some(at) if *self.world.info(at).node.name == *node => drop(self.world.denominate(uid)),
            _ => self.denominate(uid, now),
        }
    }

    /// No node is kept for a pod that has not been found one, unless it still waits for pods to leave it.
    fn give_back(&mut self, pod: &Pod, preemption: &Preemption, how: How<'_>, now: Duration) {
        if how.preempt && matches!(preemption, Preemption::NotTried | Preemption::Failed(_)) {
            self.preempting.remove(&pod.uid);
            self.denominate(&pod.uid, now);
        }
    }

    /// Whether pods that were evicted for this one are still there, and it could go where they are.
    fn waits_for_victims(&mut self, plan: &Plan, pod: &Pod) -> bool {
        let Some(node) = self.world.nominated_node(&pod.uid) else {
            self.preempting.remove(&pod.uid);
            return false;
        };
        if plan.is_hopeless(&self.world, node) {
            return false;
        }
        if let Some(victims) = self.preempting.get_mut(&pod.uid) {
            victims.retain(|uid| self.world.placed(uid).is_some());
            if !victims.is_empty() {
                return true;
            }
            self.preempting.remove(&pod.uid);
        }
        // After a restart only the API remembers.
        let leaving = |victim: &Pod| victim.deleting && victim.priority() < pod.priority();
        self.world.info(node).residents.iter().any(|resident| leaving(&resident.pod))
    }
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
