//! A work queue: each key waits at most once, is worked on by one worker at a time, and comes back later when it
//! failed.
//!
//! The state is plain data with time as an argument; [`Queue`] adds the waiting. Bounded by the number of objects, as a
//! key is never there twice.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use runtime::Clock;
use tokio::sync::Notify;

/// The pause after the first failure; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// What waits, what is worked on, and what comes later.
#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// Waiting in `ready`, or to be put there when its worker is done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    later: BinaryHeap<Reverse<(Duration, K)>>,
    /// The earliest moment at which each key of `later` is due; other entries of the heap are outdated.
    due: HashMap<K, Duration>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn new() -> Self {
        State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            later: BinaryHeap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    fn add(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Duration) {
        if self.due.get(&key).is_none_or(|due| at < *due) {
            self.due.insert(key.clone(), at);
            self.later.push(Reverse((at, key)));
        }
    }

    /// The next key that is due, or when there will be one.
    fn take(&mut self, now: Duration) -> Result<K, Option<Duration>> {
        while let Some(Reverse((at, key))) = self.later.peek() {
            let outdated = self.due.get(key) != Some(at);
            if !outdated && *at > now {
                break;
            }
            let key = key.clone();
            self.later.pop();
            if !outdated {
                self.due.remove(&key);
                self.add(key);
            }
        }
        match self.ready.pop_front() {
            Some(key) => {
                self.dirty.remove(&key);
                self.working.insert(key.clone());
                Ok(key)
            }
            None => Err(self.later.peek().map(|Reverse((at, _))| *at)),
        }
    }

    fn done(&mut self, key: &K) {
        self.working.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
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
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue { shared: self.shared.clone() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub fn new(clock: Clock) -> Self {
        Queue { shared: Arc::new(Shared { state: Mutex::new(State::new()), wake: Notify::new(), clock }) }
    }

    /// Asks for work on `key`, soon.
    pub fn add(&self, key: K) {
        self.shared.state.lock().add(key);
        self.shared.wake.notify_one();
    }

    /// Asks for work on `key` after a while; an earlier request stands.
    pub fn add_after(&self, key: K, after: Duration) {
        let at = self.shared.clock.monotonic().saturating_add(after);
        self.shared.state.lock().add_at(key, at);
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
            let taken = self.shared.state.lock().take(now);
            match taken {
                Ok(key) => return key,
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
        self.shared.state.lock().done(key);
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
        state.add("a");
        state.add("a");
        state.add("b");
        assert_eq!(state.take(at(0)), Ok("a"));
        state.add("a");
        assert_eq!(state.take(at(0)), Ok("b"));
        assert_eq!(state.take(at(0)), Err(None));
        state.done(&"a");
        assert_eq!(state.take(at(0)), Ok("a"));
    }

    #[test]
    fn the_earliest_delay_counts() {
        let mut state = State::new();
        state.add_at("a", at(50));
        state.add_at("a", at(20));
        state.add_at("a", at(30));
        assert_eq!(state.take(at(10)), Err(Some(at(20))));
        assert_eq!(state.take(at(20)), Ok("a"));
        state.done(&"a");
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
