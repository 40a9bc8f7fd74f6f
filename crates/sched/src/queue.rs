//! Pods that wait for a node.
//!
//! ```text
//!   add ──▶ active ──pop──▶ decided ──unschedulable──▶ unschedulable ──event, or 5 min──▶ backoff ──▶ active
//!    └─▶ gated                └──────error──────────────────────────────────────────▶ backoff
//! ```
//!
//! The active queue is in the order of PrioritySort: priority first, then time of arrival. When it is empty, a pod
//! that an event has woken need not sit out its backoff; one whose binding failed does.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::Pod;

/// kube-scheduler's own: the first pause, the longest one, and how long a pod stays unschedulable without an event.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(5 * 60);

type ActiveKey = (Reverse<i32>, Duration, u64);
type TimeKey = (Duration, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Left for a decision when it is the first in order.
    Active(ActiveKey),
    /// Left at the time of the key; earlier, if `early`, when nothing is active.
    Backoff { key: TimeKey, early: bool },
    /// Left by an event that a plugin which rejected the pod waits for, or after a long time.
    Unschedulable(TimeKey),
    /// Left when the pod's gates are gone.
    Gated,
}

struct Waiting {
    pod: Arc<Pod>,
    place: Place,
    history: History,
    /// The plugins that rejected it, one bit each; 0: there was no node at all.
    rejected_by: u64,
    failed_at: Duration,
}

/// What a pod has been through, kept over its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub attempts: u32,
    pub first_seen: Duration,
}

impl History {
    fn backoff(&self) -> Duration {
        let doublings = self.attempts.saturating_sub(1).min(16);
        (INITIAL_BACKOFF * (1 << doublings)).min(MAX_BACKOFF)
    }
}

/// How many pods wait in each place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<Arc<str>, Waiting>,
    active: BTreeMap<ActiveKey, Arc<str>>,
    backoff: BTreeMap<TimeKey, Arc<str>>,
    /// The part of `backoff` that may be left early.
    early: BTreeMap<TimeKey, Arc<str>>,
    unschedulable: BTreeMap<TimeKey, Arc<str>>,
    sequence: u64,
}

impl Queue {
    pub fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|waiting| &waiting.pod)
    }

    pub fn pending(&self) -> Pending {
        let placed = self.active.len() + self.backoff.len() + self.unschedulable.len();
        Pending {
            active: self.active.len(),
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.pods.len() - placed,
        }
    }

    /// A pod that was not known, or whose gates have changed.
    pub fn add(&mut self, pod: Arc<Pod>, gated: bool, now: Duration) {
        let history = self.remove(&pod.uid).map_or(History { attempts: 0, first_seen: now }, |(_, history)| history);
        let place = if gated { Place::Gated } else { self.active_place(&pod, now) };
        self.insert(Waiting { pod, place, history, rejected_by: 0, failed_at: now });
    }

    /// A pod that no node takes. `rejected_by` says which plugins' events may help.
    pub fn add_unschedulable(&mut self, pod: Arc<Pod>, history: History, rejected_by: u64, now: Duration) {
        let place = Place::Unschedulable((now, self.next()));
        self.insert(Waiting { pod, place, history, rejected_by, failed_at: now });
    }

    /// A pod whose binding failed: it is tried again after its pause.
    pub fn add_failed(&mut self, pod: Arc<Pod>, history: History, now: Duration) {
        let place = Place::Backoff { key: (now + history.backoff(), self.next()), early: false };
        self.insert(Waiting { pod, place, history, rejected_by: 0, failed_at: now });
    }

    pub fn remove(&mut self, uid: &str) -> Option<(Arc<Pod>, History)> {
        let waiting = self.pods.remove(uid)?;
        self.unlink(waiting.place);
        Some((waiting.pod, waiting.history))
    }

    /// The pod to decide on now.
    pub fn pop(&mut self, now: Duration) -> Option<(Arc<Pod>, History)> {
        self.flush(now);
        let first = self.active.first_key_value().map(|(_, uid)| uid);
        let uid = first.or_else(|| self.early.first_key_value().map(|(_, uid)| uid))?.clone();
        let (pod, mut history) = self.remove(&uid)?;
        history.attempts += 1;
        Some((pod, history))
    }

    /// When `pop` will have something that it does not have now; `None`: not without a change.
    pub fn wake_at(&self) -> Option<Duration> {
        if !self.active.is_empty() || !self.early.is_empty() {
            return Some(Duration::ZERO);
        }
        let backoff = self.backoff.first_key_value().map(|((at, _), _)| *at);
        let unschedulable = self.unschedulable.first_key_value().map(|((since, _), _)| *since + MAX_UNSCHEDULABLE);
        backoff.into_iter().chain(unschedulable).min()
    }

    /// Something happened that may help the unschedulable pods for which `helps` holds.
    pub fn wake(&mut self, now: Duration, helps: impl Fn(&Pod, u64) -> bool) {
        let woken: Vec<Arc<str>> = self
            .unschedulable
            .values()
            .filter(|uid| self.pods.get(*uid).is_some_and(|waiting| helps(&waiting.pod, waiting.rejected_by)))
            .cloned()
            .collect();
        for uid in woken {
            self.retry(&uid, now);
        }
    }

    /// The pod itself has changed: whatever rejected it may not do so again.
    pub fn update(&mut self, pod: Arc<Pod>, now: Duration) {
        let uid = pod.uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else { return };
        let priority_changed = waiting.pod.priority != pod.priority;
        waiting.pod = pod;
        match waiting.place {
            Place::Unschedulable(_) => self.retry(&uid, now),
            Place::Active((_, since, _)) if priority_changed => {
                let Some(waiting) = self.pods.remove(&uid) else { return };
                self.unlink(waiting.place);
                let place = self.active_place(&waiting.pod, since);
                self.insert(Waiting { place, ..waiting });
            }
            _ => {}
        }
    }

    /// Moves what has waited long enough.
    fn flush(&mut self, now: Duration) {
        while let Some((_, uid)) = self.backoff.first_key_value().filter(|((at, _), _)| *at <= now) {
            let uid = uid.clone();
            self.activate(&uid, now);
        }
        while let Some((_, uid)) =
            self.unschedulable.first_key_value().filter(|((since, _), _)| *since + MAX_UNSCHEDULABLE <= now)
        {
            let uid = uid.clone();
            self.retry(&uid, now);
        }
    }

    /// From unschedulable to backoff, or straight to active when the pause is over.
    fn retry(&mut self, uid: &Arc<str>, now: Duration) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let until = waiting.failed_at + waiting.history.backoff();
        if until <= now {
            return self.activate(uid, now);
        }
        let place = Place::Backoff { key: (until, self.next()), early: true };
        self.relocate(uid, place);
    }

    fn activate(&mut self, uid: &Arc<str>, now: Duration) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let place = self.active_place(&waiting.pod.clone(), now);
        self.relocate(uid, place);
    }

    fn relocate(&mut self, uid: &Arc<str>, place: Place) {
        if let Some(waiting) = self.pods.remove(uid) {
            self.unlink(waiting.place);
            self.insert(Waiting { place, ..waiting });
        }
    }

    fn active_place(&mut self, pod: &Pod, since: Duration) -> Place {
        Place::Active((Reverse(pod.priority), since, self.next()))
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn insert(&mut self, waiting: Waiting) {
        let uid = waiting.pod.uid.clone();
        match waiting.place {
            Place::Active(key) => {
                self.active.insert(key, uid.clone());
            }
            Place::Backoff { key, early } => {
                self.backoff.insert(key, uid.clone());
                if early {
                    self.early.insert(key, uid.clone());
                }
            }
            Place::Unschedulable(key) => {
                self.unschedulable.insert(key, uid.clone());
            }
            Place::Gated => {}
        }
        self.pods.insert(uid, waiting);
    }

    fn unlink(&mut self, place: Place) {
        match place {
            Place::Active(key) => {
                self.active.remove(&key);
            }
            Place::Backoff { key, .. } => {
                self.backoff.remove(&key);
                self.early.remove(&key);
            }
            Place::Unschedulable(key) => {
                self.unschedulable.remove(&key);
            }
            Place::Gated => {}
        }
    }
}
