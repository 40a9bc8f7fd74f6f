//! How many requests are worked on at once: reads and writes have separate bounds, so that neither starves the other,
//! and long-running requests are only counted. Past a bound a request is refused at once with a hint when to retry.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bounds on requests in flight; the defaults are kube-apiserver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimits {
    pub read_only: usize,
    pub mutating: usize,
    /// Watches, follows and streams together.
    pub long_running: usize,
}

impl Default for InFlightLimits {
    fn default() -> Self {
        InFlightLimits { read_only: 400, mutating: 200, long_running: 20_000 }
    }
}

/// Which bound a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    ReadOnly,
    Mutating,
    LongRunning,
}

pub(crate) struct Fairness {
    limits: InFlightLimits,
    counts: [Arc<AtomicUsize>; 3],
}

/// A place among the requests in flight, given back when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] Arc<Taken>);

struct Taken(Arc<AtomicUsize>);

impl Fairness {
    pub fn new(limits: InFlightLimits) -> Self {
        Fairness { limits, counts: Default::default() }
    }

    /// A place, or none when the class is full. An exempt request is counted and always let in.
    pub fn enter(&self, class: Class, exempt: bool) -> Option<Place> {
        let limit = match class {
            Class::ReadOnly => self.limits.read_only,
            Class::Mutating => self.limits.mutating,
            Class::LongRunning => self.limits.long_running,
        };
        let count = &self.counts[class as usize];
        let place = Place(Arc::new(Taken(count.clone())));
        // The place is taken first and given back by its drop, so that two requests never share the last one.
        (count.fetch_add(1, Ordering::AcqRel) < limit || exempt).then_some(place)
    }

    pub fn in_flight(&self, class: Class) -> usize {
        self.counts[class as usize].load(Ordering::Acquire)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_class_refuses_and_a_place_comes_back() {
        let fairness = Fairness::new(InFlightLimits { read_only: 1, mutating: 1, long_running: 1 });
        let place = fairness.enter(Class::ReadOnly, false);
        assert!(place.is_some());
        assert!(fairness.enter(Class::ReadOnly, false).is_none());
        assert!(fairness.enter(Class::Mutating, false).is_some());
        assert!(fairness.enter(Class::ReadOnly, true).is_some());
        drop(place);
        assert_eq!(fairness.in_flight(Class::ReadOnly), 0);
        assert!(fairness.enter(Class::ReadOnly, false).is_some());
    }
}
