//! Gangs: pods of a PodGroup that are placed together or not at all (KEP-4671).
//!
//! No member is looked at before there are enough of them. Then all are placed in one step, in which nobody else is; if too
//! few find a node, all is undone in the same step. So no gang ever holds nodes that another waits for.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Decision, Engine,
    attempt::{How, Unfit},
};
use crate::{Diagnosis, Pod, extender::Advice, framework::Gang, profile::EXTENDERS, queue::History};

/// A group by its namespace and name.
pub(super) type Key = (Arc<str>, Arc<str>);
/// A pod that waits, and what it has been through.
pub(super) type Member = (Arc<Pod>, History);

/// A gang whose members extenders are being asked about; none is placed before all answers are there.
pub(super) struct Asking {
    pub gang: Gang,
    pub members: Vec<Arc<str>>,
    pub advice: HashMap<Arc<str>, Advice>,
    /// Those whose answer is open.
    pub open: HashSet<Arc<str>>,
}

#[derive(Default)]
struct Group {
    /// `None`: there is no such PodGroup; `Some(None)`: its pods are placed one by one.
    policy: Option<Option<Gang>>,
    /// In an order, so that the same inputs give the same decisions.
    members: BTreeSet<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Gangs {
    groups: HashMap<Key, Group>,
    by_member: HashMap<Arc<str>, Key>,
    asking: HashMap<Key, Asking>,
    /// The groups of members whose answer is open.
    open: HashMap<Arc<str>, Key>,
}

fn key(pod: &Pod) -> Option<Key> {
    Some((pod.namespace.clone(), pod.group.clone()?))
}

impl Gangs {
    pub fn set(&mut self, namespace: &Arc<str>, name: &Arc<str>, policy: Option<Option<Gang>>) {
        let key = (namespace.clone(), name.clone());
        self.groups.entry(key.clone()).or_default().policy = policy;
        self.forget(&key);
    }

    /// Counts a pod in its group; whether it was not before.
    pub fn join(&mut self, pod: &Pod) -> bool {
        let Some(key) = key(pod) else { return false };
        let joined = self.groups.entry(key.clone()).or_default().members.insert(pod.uid.clone());
        self.by_member.insert(pod.uid.clone(), key);
        joined
    }

    pub fn leave(&mut self, uid: &str) {
        let Some(key) = self.by_member.remove(uid) else { return };
        if let Some(group) = self.groups.get_mut(&key) {
            group.members.remove(uid);
        }
        self.forget(&key);
    }

    fn forget(&mut self, key: &Key) {
        if self.groups.get(key).is_some_and(|group| group.policy.is_none() && group.members.is_empty()) {
            self.groups.remove(key);
        }
    }

    /// The gang of a pod, if it has one.
    pub fn of(&self, pod: &Pod) -> Option<Gang> {
        self.groups.get(&key(pod)?)?.policy?
    }

    /// What is not there yet, so that it is of no use to try: a pod's group, or enough of its pods.
    pub fn lacks(&self, pod: &Pod) -> Option<String> {
        let key = key(pod)?;
        let group = self.groups.get(&key);
        match group.and_then(|group| Some((group.policy?, group.members.len()))) {
            None => Some(format!("waiting for pods's pod group {:?} to appear in scheduling queue", key.1)),
            Some((Some(gang), members)) if members < gang.min_count => {
                Some("waiting for minCount pods from a gang to appear in scheduling queue".to_owned())
            }
            Some(_) => None,
        }
    }

    pub fn ask(&mut self, group: Key, asking: Asking) {
        self.open.extend(asking.open.iter().map(|uid| (uid.clone(), group.clone())));
        self.asking.insert(group, asking);
    }

    pub fn is_asking(&self, group: &Key) -> bool {
        self.asking.contains_key(group)
    }

    /// The group for which an answer about this pod is open.
    pub fn asked_about(&self, uid: &str) -> Option<Key> {
        self.open.get(uid).cloned()
    }

    /// Takes in an answer. Returns the gang when it was the last.
    pub fn answered(&mut self, group: &Key, uid: &str, advice: Advice) -> Option<Asking> {
        let (uid, _) = self.open.remove_entry(uid)?;
        let asking = self.asking.get_mut(group)?;
        asking.open.remove(&uid);
        asking.advice.insert(uid, advice);
        if asking.open.is_empty() { self.asking.remove(group) } else { None }
    }

    pub fn members(&self, namespace: &Arc<str>, name: &Arc<str>) -> Vec<Arc<str>> {
        let group = self.groups.get(&(namespace.clone(), name.clone()));
        group.map(|group| group.members.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Engine {
    /// The group or the number of its pods has changed: its pods enter the queue, or leave it.
    pub(super) fn regate_group(&mut self, namespace: &Arc<str>, name: &Arc<str>, now: Duration) {
        for uid in self.gangs.members(namespace, name) {
            self.regate(&uid, now);
        }
    }

    /// Places all members of a gang that wait, or none of them.
    pub(super) fn decide_together(
        &mut self,
        gang: Gang,
        first: Arc<Pod>,
        history: History,
        now: Duration,
    ) -> Option<Decision> {
        let group = (first.namespace.clone(), first.group.clone().unwrap_or_default());
        if self.gangs.is_asking(&group) {
            // One that came late waits for what becomes of the others.
            let profile = self.profile(&first)?;
            let turn = self.turn(profile, &first);
            self.queue.add_unschedulable(first, turn, history, EXTENDERS, now);
            return None;
        }
        let members = self.gangs.members(&group.0, &group.1);
        let mut waiting = vec![(first, history)];
        for uid in &members {
            if self.queue.gate(uid).is_none()
                && let Some((pod, mut history)) = self.queue.remove(uid)
            {
                history.attempts += 1;
                waiting.push((pod, history));
            }
        }
        // The same order whatever that of the sets is.
        waiting.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        if waiting.iter().any(|(pod, _)| self.consults(pod)) {
            return self.consult_gang(group, gang, waiting, now);
        }
        self.place_together(gang, &group, waiting, &HashMap::new(), now)
    }

    pub(super) fn place_together(
        &mut self,
        gang: Gang,
        group: &Key,
        waiting: Vec<Member>,
        advice: &HashMap<Arc<str>, Advice>,
        now: Duration,
    ) -> Option<Decision> {
        let members = self.gangs.members(&group.0, &group.1);
        let placed = members.iter().filter(|uid| self.world.placed(uid).is_some()).count();
        let (mut reservations, mut unfit) = (Vec::new(), Vec::new());
        for (pod, history) in waiting {
            let Some(profile) = self.profile(&pod) else { continue };
            let how = How { preempt: false, advice: advice.get(&pod.uid) };
            match self.attempt(profile, &pod, history, how, now) {
                Ok(reservation) => reservations.push((profile, reservation, history)),
                Err(why) => unfit.push((profile, pod, history, why)),
            }
        }
        let enough = placed + reservations.len() >= gang.min_count;
        let rejected_by = unfit.iter().fold(0, |bits, (_, _, _, unfit)| bits | unfit.rejected_by);
        let found = placed + reservations.len();
        if enough {
            self.ready.extend(reservations.into_iter().map(|(_, reservation, _)| Decision::Bind(reservation)));
        } else {
            // All is undone before anybody waits again: nothing has changed that could help them.
            let released: Vec<_> = reservations
                .into_iter()
                .filter_map(|(profile, reservation, history)| {
                    let (pod, _, _) = self.release(&reservation.pod.uid)?;
                    Some((profile, pod, history))
                })
                .collect();
            let text =
                format!("{found} of the {} pods that pod group {:?} needs can be placed", gang.min_count, group.1);
            for (profile, pod, history) in released {
                let before_nodes = Some(("GangScheduling".to_owned(), text.clone()));
                let diagnosis = Diagnosis { nodes: self.world.known_nodes(), before_nodes, ..Default::default() };
                let why = Unfit { diagnosis, rejected_by, ..Default::default() };
                let decision = self.unschedulable(profile, pod, history, why, now);
                self.ready.push_back(decision);
            }
        }
        for (profile, pod, history, why) in unfit {
            let decision = self.unschedulable(profile, pod, history, *why, now);
            self.ready.push_back(decision);
        }
        self.ready.pop_front()
    }
}
