//! What is done for a pod that no node takes: plugins have their turns, others are evicted, a node is kept for it.

use std::{sync::Arc, time::Duration};

use super::{Engine, attempt::Unfit};
use crate::{
    Pod,
    diagnosis::{Preemption, Reason},
    framework::{PostFilter, Unplaced},
    plan::Plan,
    preempt::{self, Victims},
};

const NEVER: &str = "not eligible due to preemptionPolicy=Never.";

impl Engine {
    /// Asks the plugins in their order until one has made room. Without a plan the pod was rejected for what no node can change.
    pub(super) fn rescue(
        &mut self,
        profile: usize,
        mut plan: Option<&mut Plan>,
        pod: &Arc<Pod>,
        unfit: &mut Unfit,
        now: Duration,
    ) {
        for index in self.profiles[profile].post_filters().to_vec() {
            let found = Unplaced { diagnosis: &unfit.diagnosis, plan: plan.as_deref() };
            match self.profiles[profile].plugin(index).post_filter(pod, &found, &self.world) {
                PostFilter::Nothing => {}
                PostFilter::Says(reason) => unfit.diagnosis.said.push(reason),
                PostFilter::Writes(write, reason) => {
                    unfit.writes.push(write);
                    unfit.diagnosis.said.push(reason);
                }
                PostFilter::Preempts => match plan.as_deref_mut() {
                    Some(plan) => self.preempt(profile, plan, pod, unfit, now),
                    None => unfit.diagnosis.preemption = preempt_nobody(pod, unfit.diagnosis.nodes),
                },
                PostFilter::Nominates(node, reason) => {
                    unfit.diagnosis.said.push(reason);
                    self.keep_for(pod, node, unfit, now);
                }
            }
            if unfit.victims.is_some() || unfit.nominated.is_some() || !unfit.candidates.is_empty() {
                return;
            }
        }
    }

    /// Keeps a node that a plugin has named, if there is such a node.
    fn keep_for(&mut self, pod: &Arc<Pod>, node: Arc<str>, unfit: &mut Unfit, now: Duration) {
        if self.world.find(&node).is_some_and(|found| self.world.info(found).known) {
            self.promise(pod, &node, now);
            unfit.nominated = Some(node);
        }
    }

    fn preempt(&mut self, profile: usize, plan: &mut Plan, pod: &Arc<Pod>, unfit: &mut Unfit, now: Duration) {
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
                self.nominate(pod, victims, unfit, now);
            }
        }
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
        let args = &self.profiles[profile].preemption;
        preempt::candidates(plan, &mut self.world, pod, args, &self.budgets, start, several)
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

fn preempt_nobody(pod: &Pod, nodes: usize) -> Preemption {
    if pod.spec.never_preempts {
        return Preemption::NotEligible(NEVER.into());
    }
    Preemption::Failed([(Reason::Borrowed(preempt::NOT_HELPFUL), nodes)].into())
}
