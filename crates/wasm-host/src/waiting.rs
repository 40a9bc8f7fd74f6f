//! Pods that a guest has waiting before they are bound: until it lets them go, rejects them, or their time is over. The last is
//! the driver's to notice.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

/// Pods that one guest may have waiting; more are rejected.
const MAX_WAITING: usize = 10_000;
/// What the driver may take to notice that a pod's time is over; then it is forgotten here, if nobody has told before.
const GRACE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Waiting {
    pods: Mutex<HashMap<Arc<str>, Waits>>,
}

struct Waits {
    /// As guests see it.
    pod: Vec<u8>,
    until: Duration,
    /// Where the engine's log of changes was when the guest was asked last.
    asked: u64,
    rejected: bool,
}

/// What is to be done about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It does not wait here.
    Go,
    /// Nothing has changed since the guest was asked.
    Wait,
    /// Something has, so that the guest is to be asked again.
    Ask,
    /// The guest has rejected it while it was asked about another.
    Reject,
}

impl Waiting {
    /// Takes in a pod that waits until a time. Whether there was room.
    pub fn add(&self, uid: Arc<str>, pod: Vec<u8>, until: Duration, asked: u64, now: Duration) -> bool {
        let mut pods = self.pods.lock();
        if pods.len() >= MAX_WAITING {
            pods.retain(|_, waits| waits.until.saturating_add(GRACE) > now);
        }
        let room = pods.len() < MAX_WAITING;
        if room {
            pods.insert(uid, Waits { pod, until, asked, rejected: false });
        }
        room
    }

    /// What is to be done now that the engine's log of changes is at `position`. Whoever is to be asked about counts as asked.
    pub fn next(&self, uid: &str, position: u64) -> Next {
        let mut pods = self.pods.lock();
        match pods.get_mut(uid) {
            None => Next::Go,
            Some(waits) if waits.rejected => Next::Reject,
            Some(waits) if waits.asked == position => Next::Wait,
            Some(waits) => {
                waits.asked = position;
                Next::Ask
            }
        }
    }

    /// The pod waits no more.
    pub fn forget(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }

    /// Whether there was such a pod.
    pub fn reject(&self, uid: &str) -> bool {
        self.pods.lock().get_mut(uid).map(|waits| waits.rejected = true).is_some()
    }

    /// The pod as guests see it.
    pub fn get(&self, uid: &str) -> Option<Vec<u8>> {
        self.pods.lock().get(uid).map(|waits| waits.pod.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;

    #[test]
    fn a_pod_is_asked_about_when_something_has_changed() {
        let waiting = Waiting::default();
        assert_eq!(waiting.next("p", 1), Next::Go);
        assert!(waiting.add("p".into(), b"a pod".to_vec(), T0, 1, T0));
        let steps = [(1, Next::Wait), (2, Next::Ask), (2, Next::Wait), (3, Next::Ask)];
        steps.into_iter().for_each(|(position, expected)| assert_eq!(waiting.next("p", position), expected));
        assert_eq!(waiting.get("p"), Some(b"a pod".to_vec()));
        assert!(waiting.reject("p") && !waiting.reject("q"));
        assert_eq!(waiting.next("p", 3), Next::Reject);
        waiting.forget("p");
        assert_eq!((waiting.next("p", 4), waiting.get("p")), (Next::Go, None));
    }

    #[test]
    fn there_is_room_for_so_many_and_for_more_when_time_is_over() {
        let waiting = Waiting::default();
        let until = Duration::from_secs(10);
        let add = |uid: &str, now: Duration| waiting.add(uid.into(), Vec::new(), until, 0, now);
        for number in 0..MAX_WAITING {
            assert!(add(&number.to_string(), T0));
        }
        assert!(!add("more", until + GRACE - Duration::from_nanos(1)));
        assert!(add("more", until + GRACE));
        assert_eq!(waiting.pods.lock().len(), 1);
    }
}
