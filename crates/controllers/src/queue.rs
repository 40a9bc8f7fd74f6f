//! A work queue: each key waits at most once, is worked on by one worker at a time, and comes back later when it
//! failed.
//!
//! The state is plain data with time as an argument; [`Queue`] adds the waiting and the figures. Bounded by the number of
//! objects, as a key is never there twice.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use runtime::Clock;
use tokio::sync::Notify;

use crate::metrics::QueueMetrics;

/// The pause after the first failure; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// What waits, what is worked on, and what comes later.
#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// Waiting in `ready`, or to be put there when its worker is done; since when.
    dirty: HashMap<K, Duration>,
    /// Since when.
    working: HashMap<K, Duration>,
    later: BinaryHeap<Reverse<(Duration, K)>>,
    /// The earliest moment at which each key of `later` is due; other entries of the heap are outdated.
    due: HashMap<K, Duration>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn new() -> Self {
        State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            working: HashMap::new(),
            later: BinaryHeap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Says whether the key is new among those that wait.
    fn add(&mut self, key: K, now: Duration) -> bool {
        if self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), now);
        if !self.working.contains_key(&key) {
            self.ready.push_back(key);
        }
        true
    }

    fn add_at(&mut self, key: K, at: Duration) {
        if self.due.get(&key).is_none_or(|due| at < *due) {
            self.due.insert(key.clone(), at);
            self.later.push(Reverse((at, key)));
        }
    }

    /// Adds the keys whose time has come; says how many of them are new among those that wait.
    fn ripen(&mut self, now: Duration) -> u64 {
        let mut added = 0;
        while let Some(Reverse((at, key))) = self.later.peek() {
            let outdated = self.due.get(key) != Some(at);
            if !outdated && *at > now {
                break;
            }
            let key = key.clone();
            self.later.pop();
            if !outdated {
                self.due.remove(&key);
                added += u64::from(self.add(key, now));
            }
        }
        added
    }

    /// The next key and how long it has waited, or when there will be one.
    fn take(&mut self, now: Duration) -> Result<(K, Duration), Option<Duration>> {
        match self.ready.pop_front() {
            Some(key) => {
                let since = self.dirty.remove(&key).unwrap_or(now);
                self.working.insert(key.clone(), now);
                Ok((key, now.saturating_sub(since)))
            }
            None => Err(self.later.peek().map(|Reverse((at, _))| *at)),
        }
    }

    /// Says how long the key was worked on.
    fn done(&mut self, key: &K, now: Duration) -> Option<Duration> {
        let since = self.working.remove(key);
        if self.dirty.contains_key(key) {
            self.ready.push_back(key.clone());
        }
        since.map(|since| now.saturating_sub(since))
    }

    /// Counts a failure and says how long the key has to wait.
    fn fail(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(*failures)).min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        pause
    }
}

/// A handle on one queue.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    clock: Clock,
    metrics: QueueMetrics,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue { shared: self.shared.clone() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub fn new(clock: Clock, metrics: QueueMetrics) -> Self {
        Queue { shared: Arc::new(Shared { state: Mutex::new(State::new()), wake: Notify::new(), clock, metrics }) }
    }

    /// Asks for work on `key`, soon.
    pub fn add(&self, key: K) {
        let added = self.shared.state.lock().add(key, self.shared.clock.monotonic());
        self.shared.metrics.added(u64::from(added));
        self.shared.wake.notify_one();
    }

    /// Asks for work on `key` after a while; an earlier request stands.
    pub fn add_after(&self, key: K, after: Duration) {
        let at = self.shared.clock.monotonic().saturating_add(after);
        self.shared.state.lock().add_at(key, at);
        self.shared.metrics.retried();
        self.shared.wake.notify_one();
    }

    /// Asks for work on `key` after a pause that doubles with each failure in a row.
    pub fn retry(&self, key: K) {
        let pause = self.shared.state.lock().fail(&key);
        self.add_after(key, pause);
    }

    /// The key has succeeded: its next failure is the first again.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// Waits for a key. It is the caller's until [`Queue::done`]. For one waiting caller at a time.
    pub async fn next(&self) -> K {
        loop {
            let now = self.shared.clock.monotonic();
            let (ripened, taken) = {
                let mut state = self.shared.state.lock();
                (state.ripen(now), state.take(now))
            };
            self.shared.metrics.added(ripened);
            match taken {
                Ok((key, waited)) => {
                    self.shared.metrics.taken(waited);
                    return key;
                }
                Err(None) => self.shared.wake.notified().await,
                Err(Some(at)) => {
                    // Woken early by an addition, or by the timer: either way the state says what is next.
                    let _ = tokio::time::timeout(at.saturating_sub(now), self.shared.wake.notified()).await;
                }
            }
        }
    }

    /// The caller has worked on `key`; if it was added meanwhile, it waits again.
    pub fn done(&self, key: &K) {
        let worked = self.shared.state.lock().done(key, self.shared.clock.monotonic());
        if let Some(worked) = worked {
            self.shared.metrics.worked(worked);
        }
        self.shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_key_waits_once_and_is_worked_on_once() {
        let mut state = State::new();
        assert!(state.add("a", at(0)));
        assert!(!state.add("a", at(1)));
        assert!(state.add("b", at(2)));
        assert_eq!(state.take(at(3)), Ok(("a", at(3))));
        assert!(state.add("a", at(4)));
        assert_eq!(state.take(at(5)), Ok(("b", at(3))));
        assert_eq!(state.take(at(5)), Err(None));
        assert_eq!(state.done(&"a", at(10)), Some(at(7)));
        assert_eq!(state.take(at(11)), Ok(("a", at(7))));
        assert_eq!(state.done(&"never taken", at(11)), None);
    }

    #[test]
    fn the_earliest_delay_counts() {
        let mut state = State::new();
        state.add_at("a", at(50));
        state.add_at("a", at(20));
        state.add_at("a", at(30));
        assert_eq!(state.ripen(at(10)), 0);
        assert_eq!(state.take(at(10)), Err(Some(at(20))));
        assert_eq!(state.ripen(at(20)), 1);
        assert_eq!(state.take(at(25)), Ok(("a", at(5))));
        state.done(&"a", at(25));
        assert_eq!(state.ripen(at(100)), 0);
        assert_eq!(state.take(at(100)), Err(None));
    }

    #[test]
    fn failures_double_the_pause_up_to_a_bound() {
        let mut state = State::new();
        let pauses: Vec<_> = (0..4).map(|_| state.fail(&"a").as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40]);
        for _ in 0..100 {
            assert!(state.fail(&"a") <= BACKOFF_MAX);
        }
        assert_eq!(state.fail(&"a"), BACKOFF_MAX);
        state.failures.remove("a");
        assert_eq!(state.fail(&"a"), BACKOFF_MIN);
    }
}
