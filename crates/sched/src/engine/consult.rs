//! Pods that extenders have a say in: the question, and what becomes of the pod with the answer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Decision, Engine,
    attempt::{How, Unfit},
    counts_alike,
    gangs::{Asking, Key, Member},
};
use crate::{
    Pod,
    diagnosis::{Preemption, Rejected, Rejection},
    extender::{Advice, Eviction},
    framework::Gang,
    preempt::{self, Victims},
    profile::EXTENDERS,
    queue::History,
};

/// In whose name a member of a gang is rejected when an extender gives no answer.
const EXTENDER: &str = "Extender";

/// A pod that extenders are being asked about. It is in no queue meanwhile.
pub(super) struct Consulting {
    pod: Arc<Pod>,
    history: History,
    /// It is not the pod any more that was asked about.
    changed: bool,
    /// Something has happened that may help it, if the answer does not.
    missed: bool,
    /// What was found out before victims were asked about.
    unfit: Option<Unfit>,
}

impl Consulting {
    fn new(pod: Arc<Pod>, history: History, unfit: Option<Unfit>) -> Self {
        Consulting { pod, history, changed: false, missed: false, unfit }
    }

    /// The pod as the API shows it now.
    pub fn refresh(&mut self, pod: Arc<Pod>) {
        self.changed |= !counts_alike(&self.pod, &pod);
        self.pod = pod;
    }

    pub fn something_happened(&mut self) {
        self.missed = true;
    }
}

impl Engine {
    /// Whether extenders are asked about nodes for this pod.
    pub(super) fn consults(&self, pod: &Pod) -> bool {
        self.extenders.iter().any(|extender| extender.nodes && extender.is_interested(pod))
    }

    pub(super) fn consults_about_victims(&self, pod: &Pod) -> bool {
        self.extenders.iter().any(|extender| extender.victims && extender.is_interested(pod))
    }

    pub(super) fn may_consult(&self) -> bool {
        self.consulting.len() < self.parallelism
    }

    /// Finds the nodes to ask about; if there are none, that is the decision.
    pub(super) fn consult(&mut self, profile: usize, pod: Arc<Pod>, history: History, now: Duration) -> Decision {
        let nodes = match self.candidates_for(profile, &pod, true, now) {
            Ok(nodes) => nodes,
            Err(unfit) => return self.unschedulable(profile, pod, history, *unfit, now),
        };
        self.consulting.insert(pod.uid.clone(), Consulting::new(pod.clone(), history, None));
        Decision::Consult { pod, nodes }
    }

    fn candidates_for(
        &mut self,
        profile: usize,
        pod: &Arc<Pod>,
        preempt: bool,
        now: Duration,
    ) -> Result<Vec<Arc<str>>, Box<Unfit>> {
        let how = How { preempt, advice: None };
        self.world.trim();
        let mut plan = match self.plans.take(profile, &self.profiles[profile], pod, &mut self.world) {
            Ok(plan) => plan,
            Err(refusal) => return Err(Box::new(self.refused(profile, pod, refusal, how, now))),
        };
        plan.asking = Some(pod.uid.clone());
        let start = self.start;
        self.look(profile, &mut plan);
        let limit = self.feasible_to_find(profile);
        let mut found = plan.fitting_nodes(&mut self.world, start, limit);
        if plan.is_kept() {
            // The search of the next begins elsewhere, so that each node has its turn.
            self.start = (start + limit).checked_rem(self.world.known_nodes()).unwrap_or(0);
        }
        if let Some(nominated) = self.world.nominated_node(&pod.uid)
            && self.world.info(nominated).known
            && !found.contains(&nominated)
            && plan.fits_now(&mut self.world, nominated).is_ok()
        {
            found.push(nominated);
        }
        let outcome = if found.is_empty() {
            Err(Box::new(self.explain(profile, &mut plan, pod, how, now)))
        } else {
            Ok(found.into_iter().map(|node| self.world.info(node).node.name.clone()).collect())
        };
        self.plans.put(profile, plan);
        outcome
    }

    /// The extenders' answer to [`Decision::Consult`], or why there is none.
    pub fn advised(&mut self, uid: &str, answer: Result<Advice, String>, now: Duration) -> Option<Decision> {
        if let Some(group) = self.gangs.asked_about(uid) {
            return self.advised_gang(&group, uid, answer, now);
        }
        // Whoever is gone, or was bound by somebody else, needs no decision.
        let Consulting { pod, history, changed, missed, .. } = self.consulting.remove(uid)?;
        let profile = self.profile(&pod)?;
        let advice = match answer {
            Ok(advice) => advice,
            Err(error) => return Some(self.failed(profile, pod, history, error, now)),
        };
        let how = How { preempt: true, advice: Some(&advice) };
        if !changed {
            match self.attempt(profile, &pod, history, how, now) {
                Ok(reservation) => return Some(Decision::Bind(reservation)),
                Err(unfit) if unfit.too_late => {}
                Err(unfit) => return Some(self.rejected(profile, pod, history, *unfit, missed, now)),
            }
        }
        self.again(profile, pod, history, now);
        None
    }

    /// The attempt has come to nothing by no fault of the pod's: it is made again, and not counted.
    fn again(&mut self, profile: usize, pod: Arc<Pod>, history: History, now: Duration) {
        let turn = self.turn(profile, &pod);
        let history = History { attempts: history.attempts.saturating_sub(1), ..history };
        self.queue.add_again(pod, turn, history, now);
    }

    fn rejected(
        &mut self,
        profile: usize,
        pod: Arc<Pod>,
        history: History,
        unfit: Unfit,
        missed: bool,
        now: Duration,
    ) -> Decision {
        let uid = pod.uid.clone();
        let decision = self.unschedulable(profile, pod, history, unfit, now);
        if missed {
            match self.consulting.get_mut(&uid) {
                Some(consulting) => consulting.missed = true,
                None => self.queue.nudge(&uid, now),
            }
        }
        decision
    }

    pub(super) fn consult_victims(&mut self, pod: Arc<Pod>, history: History, mut unfit: Unfit) -> Decision {
        let candidates = std::mem::take(&mut unfit.candidates);
        self.consulting.insert(pod.uid.clone(), Consulting::new(pod.clone(), history, Some(unfit)));
        Decision::ConsultVictims { pod, candidates }
    }

    /// The extenders' answer to [`Decision::ConsultVictims`]: what may be evicted, or why there is no answer.
    pub fn advised_victims(
        &mut self,
        uid: &str,
        answer: Result<Vec<Eviction>, String>,
        now: Duration,
    ) -> Option<Decision> {
        let Consulting { pod, history, changed, missed, unfit } = self.consulting.remove(uid)?;
        let profile = self.profile(&pod)?;
        let mut unfit = unfit?;
        let candidates = answer.and_then(|evictions| self.victims_of(evictions));
        match candidates {
            // What was decided on is not there any more: the next attempt finds others.
            _ if changed => {}
            Ok(candidates) => self.nominate(&pod, preempt::least_harm(candidates), &mut unfit, now),
            Err(error) => unfit.diagnosis.preemption = Preemption::NotEligible(error.into()),
        }
        if unfit.victims.is_none() {
            // What would change their mind, only they know.
            unfit.rejected_by |= EXTENDERS;
        }
        Some(self.rejected(profile, pod, history, unfit, missed || changed, now))
    }

    fn victims_of(&self, evictions: Vec<Eviction>) -> Result<Vec<Victims>, String> {
        let victims = |eviction: Eviction| {
            // A node that has gone needs not be freed.
            let node = self.world.find(&eviction.node).filter(|node| self.world.info(*node).known)?;
            let residents = &self.world.info(node).residents;
            let victim = |uid: &Arc<str>| {
                let found = residents.iter().find(|resident| resident.pod.uid == *uid);
                found.map(|resident| resident.pod.clone()).ok_or_else(|| {
                    format!(
                        "an extender claims to preempt pod (UID: {uid}) on node: {}, but the pod is not found on that node",
                        eviction.node
                    )
                })
            };
            let pods = eviction.pods.iter().map(victim).collect::<Result<Vec<_>, _>>();
            Some(pods.map(|pods| Victims {
                node: eviction.node.clone(),
                pods,
                violations: eviction.violations,
                displaced: Vec::new(),
            }))
        };
        evictions.into_iter().filter_map(victims).collect()
    }

    /// Asks about all members of a gang before the first is placed, so that no member holds a node while another is asked about.
    pub(super) fn consult_gang(
        &mut self,
        group: Key,
        gang: Gang,
        waiting: Vec<Member>,
        now: Duration,
    ) -> Option<Decision> {
        let mut asking = Asking { gang, members: Vec::new(), advice: HashMap::new(), open: HashSet::new() };
        for (pod, history) in waiting {
            let uid = pod.uid.clone();
            asking.members.push(uid.clone());
            self.consulting.insert(uid.clone(), Consulting::new(pod.clone(), history, None));
            if !self.consults(&pod) {
                continue;
            }
            match self.profile(&pod).map(|profile| self.candidates_for(profile, &pod, false, now)) {
                Some(Ok(nodes)) => {
                    asking.open.insert(uid);
                    self.ready.push_back(Decision::Consult { pod, nodes });
                }
                _ => {
                    asking.advice.insert(uid, Advice::default());
                }
            }
        }
        if asking.open.is_empty() {
            return self.place_gang(&group, asking, now);
        }
        self.gangs.ask(group, asking);
        self.ready.pop_front()
    }

    fn advised_gang(
        &mut self,
        group: &Key,
        uid: &str,
        answer: Result<Advice, String>,
        now: Duration,
    ) -> Option<Decision> {
        let advice = answer.unwrap_or_else(|error| {
            let rejection = Rejection::resolvable(error);
            let nodes = self.world.known_nodes();
            Advice { rejected: vec![Rejected { plugin: EXTENDER.to_owned(), rejection, nodes }], ..Default::default() }
        });
        let asking = self.gangs.answered(group, uid, advice)?;
        self.place_gang(group, asking, now)
    }

    fn place_gang(&mut self, group: &Key, asking: Asking, now: Duration) -> Option<Decision> {
        let (mut waiting, mut missed) = (Vec::new(), false);
        let (mut changed, mut uids) = (false, Vec::new());
        for uid in &asking.members {
            // Whoever is gone by now is no member.
            let Some(consulting) = self.consulting.remove(uid) else { continue };
            (missed, changed) = (missed | consulting.missed, changed | consulting.changed);
            uids.push(uid.clone());
            waiting.push((consulting.pod, consulting.history));
        }
        if changed {
            for (pod, history) in waiting {
                if let Some(profile) = self.profile(&pod) {
                    self.again(profile, pod, history, now);
                }
            }
            return None;
        }
        let decision = self.place_together(asking.gang, group, waiting, &asking.advice, now);
        if missed {
            uids.iter().for_each(|uid| self.queue.nudge(uid, now));
        }
        decision
    }

    fn failed(&mut self, profile: usize, pod: Arc<Pod>, history: History, error: String, now: Duration) -> Decision {
        let turn = self.turn(profile, &pod);
        self.denominate(&pod.uid, now);
        self.queue.add_failed(pod.clone(), turn, history, now);
        Decision::Failed { pod, error, history }
    }
}
