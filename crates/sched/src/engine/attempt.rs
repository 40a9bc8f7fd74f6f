//! One attempt to place one pod: its plan, the choice of a node, the reservation; or why there is none, and whom to evict.

use std::{sync::Arc, time::Duration};

use super::{Engine, Reservation, Reserved};
use crate::{
    Diagnosis, Explanation, Pod,
    diagnosis::{Preemption, Rejected},
    extender::Advice,
    framework::Event,
    plan::{Choice, Plan, Refusal},
    pre_bind::Write,
    preempt::Victims,
    profile::EXTENDERS,
    queue::History,
};

/// Up to so many nodes, a search looks at all; above, a share that shrinks with their number is good enough.
const MIN_FEASIBLE: usize = 100;
const MIN_PERCENTAGE: usize = 5;

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
    /// The node that a plugin has kept for it, without evictions.
    pub nominated: Option<Arc<str>>,
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
        pod: &Arc<Pod>,
        refusal: Refusal,
        how: How<'_>,
        now: Duration,
    ) -> Unfit {
        let (plugin, rejection) = refusal;
        let name = self.profiles[profile].plugin(plugin).name().to_owned();
        let before_nodes = Some((name, rejection.text()));
        let diagnosis = Diagnosis { nodes: self.world.known_nodes(), before_nodes, ..Default::default() };
        let mut unfit = Unfit { diagnosis, rejected_by: 1 << plugin, ..Default::default() };
        if how.preempt {
            if rejection.unresolvable && unfit.diagnosis.nodes > 0 {
                self.rescue(profile, None, pod, &mut unfit, now);
            }
            self.give_back(pod, &unfit, now);
        }
        unfit
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
        if how.preempt {
            if unfit.diagnosis.nodes > 0 {
                self.rescue(profile, Some(plan), pod, &mut unfit, now);
            }
            if unfit.candidates.is_empty() {
                self.give_back(pod, &unfit, now);
            }
        }
        unfit
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
    fn give_back(&mut self, pod: &Pod, unfit: &Unfit, now: Duration) {
        let tried_in_vain = matches!(unfit.diagnosis.preemption, Preemption::NotTried | Preemption::Failed(_));
        if tried_in_vain && unfit.nominated.is_none() {
            self.preempting.remove(&pod.uid);
            self.denominate(&pod.uid, now);
        }
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
