//! Pods that wait for a node.
//!
//! ```text
//!   add ──▶ active ──pop──▶ decided ──unschedulable──▶ unschedulable ──event, or 5 min──▶ backoff ──▶ active
//!    └─▶ gated                └──────error──────────────────────────────────────────▶ backoff
//! ```
//!
//! The active queue is in the order of the profile's QueueSort: rank (priority) first, then time of arrival. So that a stream
//! of high ranks starves nobody, every [`FAIR_TURN`]th turn goes to the pod that has waited longest. When the queue is empty,
//! a pod that an event has woken need not sit out its backoff; one whose binding failed does.
//!
//! Pods that were rejected alike are asked about together: an event costs the number of their kinds, not of the pods.
//!
//! Pods that extenders are to be asked about have a lane of their own: when as many are being asked about as may be, that lane
//! is closed, and nobody else waits for it.

mod lane;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::Pod;
use lane::{ActiveKey, Lane, TimeKey};

/// Of so many turns, one goes to the pod that has been active longest, whatever its rank.
const FAIR_TURN: u64 = 64;

/// A pod that is kept out for less is not told why: most of a gang come one right after the other.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// How long pods wait; the defaults are kube-scheduler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// After the first attempt; doubled with each further one.
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// How long a pod stays unschedulable without an event.
    pub max_unschedulable: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Pauses {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_unschedulable: Duration::from_secs(5 * 60),
        }
    }
}

impl Pauses {
    fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(16);
        (self.initial_backoff * (1 << doublings)).min(self.max_backoff)
    }
}

/// What keeps a pod out of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The plugins whose events may open it, one bit each. Without any, only the pod itself or its group does.
    pub plugins: u64,
}

/// When a pod has its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The higher goes first.
    pub rank: i64,
    /// Extenders are asked about it.
    pub consults: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Left for a decision when it is the first in order.
    Active(ActiveKey),
    /// Left at the time of the key; earlier, if `early`, when nothing is active.
    Backoff { key: TimeKey, early: bool },
    /// Left by an event that a plugin which rejected the pod waits for, or after a long time.
    Unschedulable(TimeKey),
    /// Left when what keeps the pod out lets it pass. It has been there since the time of the key.
    Gated(TimeKey),
}

/// Pods that are rejected alike: the same namespace, labels and spec (interned, so their addresses stand for them), rejected
/// by the same plugins.
type Likeness = (Arc<str>, usize, usize, u64);

impl Place {
    /// kube-scheduler's name of the queue.
    fn name(self) -> &'static str {
        match self {
            Place::Active(_) => "active",
            Place::Backoff { .. } => "backoff",
            Place::Unschedulable(_) => "unschedulable",
            Place::Gated(_) => "gated",
        }
    }
}

struct Waiting {
    pod: Arc<Pod>,
    turn: Turn,
    place: Place,
    history: History,
    /// The plugins that rejected it or keep it out, one bit each; 0: there was no node at all, or its group is not complete.
    rejected_by: u64,
    failed_at: Duration,
}

impl Waiting {
    fn is_gated(&self) -> bool {
        matches!(self.place, Place::Gated(_))
    }

    fn likeness(&self) -> Likeness {
        let pod = &self.pod;
        let (labels, spec) = (Arc::as_ptr(&pod.labels).addr(), Arc::as_ptr(&pod.spec).addr());
        (pod.namespace.clone(), labels, spec, self.rejected_by)
    }
}

/// What a pod has been through, kept over its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The attempts that were made, the last one included.
    pub attempts: u32,
    /// When it was first seen waiting.
    pub first_seen: Duration,
    /// No event has brought it to its last attempt, only that it had waited so long.
    pub timed_out: bool,
}

impl History {
    /// What goes on after an attempt: by what the pod comes back is open again.
    fn attempted(self) -> Self {
        History { timed_out: false, ..self }
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
    /// Pods that are decided at once, and pods that extenders are asked about.
    lanes: [Lane; 2],
    backoff: BTreeMap<TimeKey, Arc<str>>,
    unschedulable: BTreeMap<TimeKey, Arc<str>>,
    /// The unschedulable ones by what an event is asked about.
    alike: HashMap<Likeness, HashSet<Arc<str>>>,
    /// Likewise those that a plugin keeps out.
    gated: HashMap<Likeness, HashSet<Arc<str>>>,
    /// Those kept out that have not been told why.
    untold: BTreeMap<TimeKey, Arc<str>>,
    sequence: u64,
    turns: u64,
    pauses: Pauses,
    incoming: Incoming,
}

/// How many pods have come into a queue, by kube-scheduler's names of the queue and of what brought them.
pub type Incoming = BTreeMap<(&'static str, &'static str), u64>;

/// What brings pods into a queue, where it is no event of the cluster.
mod cause {
    pub const ADDED: &str = "UnschedulablePodAdd";
    pub const UPDATED: &str = "UnschedulablePodUpdate";
    pub const ATTEMPT_FAILED: &str = "ScheduleAttemptFailure";
    pub const BACKOFF_OVER: &str = "BackoffComplete";
    pub const TIMEOUT: &str = "UnschedulableTimeout";
    pub const NUDGED: &str = "ForceActivate";
}

impl Queue {
    pub fn new(pauses: Pauses) -> Self {
        Queue { pauses, ..Default::default() }
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// What keeps it out of the queue.
    pub fn gate(&self, uid: &str) -> Option<Gate> {
        let waiting = self.pods.get(uid).filter(|waiting| waiting.is_gated())?;
        Some(Gate { plugins: waiting.rejected_by })
    }

    /// Pods for which `helps` holds of the plugins that keep them out.
    pub fn gated(&self, helps: impl Fn(&Pod, u64) -> bool) -> Vec<Arc<str>> {
        let helped = |uids: &&HashSet<Arc<str>>| self.sample(uids).is_some_and(|one| helps(&one.pod, one.rejected_by));
        let mut found: Vec<Arc<str>> = self.gated.values().filter(helped).flatten().cloned().collect();
        // In the same order whatever that of the sets is.
        found.sort_unstable();
        found
    }

    fn sample(&self, uids: &HashSet<Arc<str>>) -> Option<&Waiting> {
        uids.iter().next().and_then(|uid| self.pods.get(uid))
    }

    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|waiting| &waiting.pod)
    }

    pub fn pending(&self) -> Pending {
        let active = self.lanes.iter().map(Lane::len).sum();
        let placed = active + self.backoff.len() + self.unschedulable.len();
        Pending {
            active,
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.pods.len() - placed,
        }
    }

    pub fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// How many pods are unschedulable, by the scheduler that they name and the plugins that rejected them, one bit each.
    pub fn unschedulable(&self) -> impl Iterator<Item = (&Arc<Pod>, u64, usize)> {
        let kind = |uids: &HashSet<Arc<str>>| {
            let one = self.pods.get(uids.iter().next()?)?;
            Some((&one.pod, one.rejected_by, uids.len()))
        };
        self.alike.values().filter_map(kind)
    }

    /// A pod that was not known, or whose gates have changed.
    pub fn add(&mut self, pod: Arc<Pod>, turn: Turn, gate: Option<Gate>, now: Duration) {
        let was_gated = self.pods.get(&pod.uid).is_some_and(Waiting::is_gated);
        let history = self.remove(&pod.uid).map(|(_, history)| history);
        // While it was kept out, nobody could place it: its time counts from when it is let in.
        let history = history.filter(|history| !was_gated || history.attempts > 0);
        let history = history.unwrap_or(History { first_seen: now, ..Default::default() });
        let place = match gate {
            Some(_) => Place::Gated((now, self.next())),
            None => self.active_place(turn, now),
        };
        let rejected_by = gate.unwrap_or_default().plugins;
        self.enter(Waiting { pod, turn, place, history, rejected_by, failed_at: now }, cause::ADDED);
    }

    /// A pod that no node takes. `rejected_by` says which plugins' events may help.
    pub fn add_unschedulable(&mut self, pod: Arc<Pod>, turn: Turn, history: History, rejected_by: u64, now: Duration) {
        let (place, history) = (Place::Unschedulable((now, self.next())), history.attempted());
        self.enter(Waiting { pod, turn, place, history, rejected_by, failed_at: now }, cause::ATTEMPT_FAILED);
    }

    /// A pod whose binding failed: it is tried again after its pause.
    pub fn add_failed(&mut self, pod: Arc<Pod>, turn: Turn, history: History, now: Duration) {
        let until = now + self.pauses.backoff(history.attempts);
        let place = Place::Backoff { key: (until, self.next()), early: false };
        let history = history.attempted();
        self.enter(Waiting { pod, turn, place, history, rejected_by: 0, failed_at: now }, cause::ATTEMPT_FAILED);
    }

    /// A pod whose attempt has come to nothing that is its own: it is tried again at once.
    pub fn add_again(&mut self, pod: Arc<Pod>, turn: Turn, history: History, now: Duration) {
        let place = self.active_place(turn, now);
        self.enter(Waiting { pod, turn, place, history, rejected_by: 0, failed_at: now }, cause::ATTEMPT_FAILED);
    }

    pub fn remove(&mut self, uid: &str) -> Option<(Arc<Pod>, History)> {
        let waiting = self.pods.remove(uid)?;
        self.unlink(&waiting);
        Some((waiting.pod, waiting.history))
    }

    /// The pod to decide on now; one that extenders are asked about only if `may_consult`.
    pub fn pop(&mut self, now: Duration, may_consult: bool) -> Option<(Arc<Pod>, History)> {
        self.flush(now);
        self.turns += 1;
        let lanes = || self.open(may_consult);
        let oldest = || lanes().filter_map(Lane::oldest).min_by_key(|(age, _)| *age).map(|(_, uid)| uid);
        let first = || lanes().filter_map(Lane::first).min_by_key(|(key, _)| *key).map(|(_, uid)| uid);
        let earliest = || lanes().filter_map(Lane::earliest).min_by_key(|(key, _)| *key).map(|(_, uid)| uid);
        let active = if self.turns.is_multiple_of(FAIR_TURN) { oldest() } else { first() };
        let uid = active.or_else(earliest)?.clone();
        let (pod, mut history) = self.remove(&uid)?;
        history.attempts += 1;
        Some((pod, history))
    }

    /// A pod that has been kept out for a while and is to be told why. Each comes once, as long as its gate and what it asks for
    /// are the same.
    pub fn pop_untold(&mut self, now: Duration) -> Option<Arc<Pod>> {
        let first = self.untold.first_entry().filter(|first| first.key().0 + TOLD_AFTER <= now)?;
        let uid = first.remove();
        self.pod(&uid).cloned()
    }

    /// What keeps a pod out may be for another reason now: it is told again.
    pub fn tell_again(&mut self, uid: &Arc<str>) {
        if let Some(Waiting { place: Place::Gated(key), .. }) = self.pods.get(uid) {
            self.untold.insert(*key, uid.clone());
        }
    }

    /// When `pop` or `pop_untold` will have something that it does not have now; `None`: not without a change.
    pub fn wake_at(&self, may_consult: bool) -> Option<Duration> {
        if self.open(may_consult).any(|lane| !lane.is_empty()) {
            return Some(Duration::ZERO);
        }
        let backoff = self.backoff.first_key_value().map(|((at, _), _)| *at);
        let unschedulable =
            self.unschedulable.first_key_value().map(|((since, _), _)| *since + self.pauses.max_unschedulable);
        let untold = self.untold.first_key_value().map(|((since, _), _)| *since + TOLD_AFTER);
        backoff.into_iter().chain(unschedulable).chain(untold).min()
    }

    /// Something happened that may help the unschedulable pods for which `helps` holds.
    pub fn wake(&mut self, now: Duration, event: &'static str, helps: impl Fn(&Pod, u64) -> bool) {
        let helped = |uids: &&HashSet<Arc<str>>| self.sample(uids).is_some_and(|one| helps(&one.pod, one.rejected_by));
        let mut woken: Vec<Arc<str>> = self.alike.values().filter(helped).flatten().cloned().collect();
        // In the order in which they were rejected, whatever that of the sets is.
        woken.sort_unstable_by_key(|uid| match self.pods[uid].place {
            Place::Unschedulable(key) => key,
            _ => TimeKey::default(),
        });
        for uid in woken {
            self.retry(&uid, now, event);
        }
    }

    /// The pod itself has changed: whatever rejected it may not do so again, if `helps` holds for what it was.
    pub fn update(&mut self, pod: Arc<Pod>, turn: Turn, now: Duration, helps: impl Fn(&Pod, u64) -> bool) {
        let uid = pod.uid.clone();
        let Some(waiting) = self.pods.remove(&uid) else { return };
        self.unlink(&waiting);
        let helped = helps(&waiting.pod, waiting.rejected_by);
        let place = match waiting.place {
            Place::Active((_, since, _)) if waiting.turn != turn => self.active_place(turn, since),
            place => place,
        };
        self.insert(Waiting { pod, turn, place, ..waiting });
        if helped && matches!(place, Place::Unschedulable(_)) {
            self.retry(&uid, now, cause::UPDATED);
        }
    }

    /// The pod has changed in what neither its rank nor any plugin looks at.
    pub fn refresh(&mut self, pod: Arc<Pod>) {
        if let Some(waiting) = self.pods.get_mut(&pod.uid) {
            waiting.pod = pod;
        }
    }

    /// The pod is worth a try, whatever has rejected it.
    pub fn nudge(&mut self, uid: &Arc<str>, now: Duration) {
        if self.pods.get(uid).is_some_and(|waiting| matches!(waiting.place, Place::Unschedulable(_))) {
            self.retry(uid, now, cause::NUDGED);
        }
    }

    /// Moves what has waited long enough.
    fn flush(&mut self, now: Duration) {
        while let Some((_, uid)) = self.backoff.first_key_value().filter(|((at, _), _)| *at <= now) {
            let uid = uid.clone();
            self.activate(&uid, now, cause::BACKOFF_OVER);
        }
        while let Some((_, uid)) =
            self.unschedulable.first_key_value().filter(|((since, _), _)| *since + self.pauses.max_unschedulable <= now)
        {
            let uid = uid.clone();
            if let Some(waiting) = self.pods.get_mut(&uid) {
                waiting.history.timed_out = true;
            }
            self.retry(&uid, now, cause::TIMEOUT);
        }
    }

    /// From unschedulable to backoff, or straight to active when the pause is over.
    fn retry(&mut self, uid: &Arc<str>, now: Duration, cause: &'static str) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let until = waiting.failed_at + self.pauses.backoff(waiting.history.attempts);
        if until <= now {
            return self.activate(uid, now, cause);
        }
        let place = Place::Backoff { key: (until, self.next()), early: true };
        self.relocate(uid, place, cause);
    }

    fn activate(&mut self, uid: &Arc<str>, now: Duration, cause: &'static str) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let turn = waiting.turn;
        let place = self.active_place(turn, now);
        self.relocate(uid, place, cause);
    }

    fn relocate(&mut self, uid: &Arc<str>, place: Place, cause: &'static str) {
        if let Some(waiting) = self.pods.remove(uid) {
            self.unlink(&waiting);
            self.enter(Waiting { place, ..waiting }, cause);
        }
    }

    fn active_place(&mut self, turn: Turn, since: Duration) -> Place {
        Place::Active((Reverse(turn.rank), since, self.next()))
    }

    fn open(&self, may_consult: bool) -> impl Iterator<Item = &Lane> {
        self.lanes[..1 + usize::from(may_consult)].iter()
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Into a queue that it was not in.
    fn enter(&mut self, waiting: Waiting, cause: &'static str) {
        *self.incoming.entry((waiting.place.name(), cause)).or_default() += 1;
        self.insert(waiting);
    }

    fn insert(&mut self, waiting: Waiting) {
        let (uid, lane) = (waiting.pod.uid.clone(), usize::from(waiting.turn.consults));
        match waiting.place {
            Place::Active(key) => {
                self.lanes[lane].insert(key, uid.clone());
            }
            Place::Backoff { key, early } => {
                self.backoff.insert(key, uid.clone());
                if early {
                    self.lanes[lane].insert_early(key, uid.clone());
                }
            }
            Place::Unschedulable(key) => {
                self.unschedulable.insert(key, uid.clone());
                self.alike.entry(waiting.likeness()).or_default().insert(uid.clone());
            }
            Place::Gated(key) => {
                self.untold.insert(key, uid.clone());
                if waiting.rejected_by != 0 {
                    self.gated.entry(waiting.likeness()).or_default().insert(uid.clone());
                }
            }
        }
        self.pods.insert(uid, waiting);
    }

    fn unlink(&mut self, waiting: &Waiting) {
        let lane = usize::from(waiting.turn.consults);
        match waiting.place {
            Place::Active(key) => {
                self.lanes[lane].remove(&key);
            }
            Place::Backoff { key, .. } => {
                self.backoff.remove(&key);
                self.lanes[lane].remove_early(&key);
            }
            Place::Unschedulable(key) => {
                self.unschedulable.remove(&key);
                remove_alike(&mut self.alike, waiting);
            }
            Place::Gated(key) => {
                self.untold.remove(&key);
                remove_alike(&mut self.gated, waiting);
            }
        }
    }
}

fn remove_alike(alike: &mut HashMap<Likeness, HashSet<Arc<str>>>, waiting: &Waiting) {
    let likeness = waiting.likeness();
    if let Some(uids) = alike.get_mut(&likeness) {
        uids.remove(&waiting.pod.uid);
        if uids.is_empty() {
            alike.remove(&likeness);
        }
    }
}
