//! What a candidate knows of the lease, and what it may write. Pure: time comes in.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};

/// A candidate's view of the lease.
pub(super) struct View {
    identity: String,
    lease_duration: Duration,
    /// The lease as it was seen last, and when it was first seen so.
    seen: Option<(LeaseSpec, Duration)>,
}

impl View {
    pub fn new(identity: &str, lease_duration: Duration) -> Self {
        View { identity: identity.to_owned(), lease_duration, seen: None }
    }

    /// Takes in what the API has. The lease's time begins anew only where it has changed.
    pub fn observe(&mut self, spec: &LeaseSpec, now: Duration) {
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
    }

    /// Takes in what this one wrote itself.
    pub fn wrote(&mut self, spec: LeaseSpec, now: Duration) {
        self.seen = Some((spec, now));
    }

    pub fn leads(&self) -> bool {
        self.holder() == self.identity
    }

    fn holder(&self) -> &str {
        self.seen.as_ref().and_then(|(seen, _)| seen.holder_identity.as_deref()).unwrap_or_default()
    }

    /// Whether the lease, as its holder wrote it, has not ended.
    pub fn is_valid(&self, now: Duration) -> bool {
        self.seen.as_ref().is_some_and(|(seen, at)| {
            let seconds = u64::try_from(seen.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
            *at + Duration::from_secs(seconds) > now
        })
    }

    /// Who has the lease and may keep it.
    pub fn held_by_another(&self, now: Duration) -> Option<&str> {
        let holder = self.holder();
        (!holder.is_empty() && !self.leads() && self.is_valid(now)).then_some(holder)
    }

    /// For how long after the lease's end a leader has gone on without renewing.
    pub fn silent_for(&self, now: Duration) -> Duration {
        let Some((_, at)) = self.seen.as_ref().filter(|_| self.leads()) else { return Duration::ZERO };
        now.saturating_sub(*at + self.lease_duration)
    }

    /// The lease that nobody has had before.
    pub fn first(&self, now: Timestamp) -> LeaseSpec {
        let seconds = i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX);
        self.spec(&self.identity, seconds, 0, now)
    }

    /// The lease renewed, or taken over.
    pub fn next(&self, old: &LeaseSpec, now: Timestamp) -> LeaseSpec {
        let transitions = old.lease_transitions.unwrap_or(0);
        let mut next = self.first(now);
        if self.leads() {
            next.acquire_time = old.acquire_time.clone();
            next.lease_transitions = Some(transitions);
        } else {
            next.lease_transitions = Some(transitions.saturating_add(1));
        }
        next
    }

    /// The lease without a holder, so short that a candidate takes it at its next look.
    pub fn released(&self, old: &LeaseSpec, now: Timestamp) -> LeaseSpec {
        self.spec("", 1, old.lease_transitions.unwrap_or(0), now)
    }

    #[expect(clippy::unused_self, reason = "it is one of the view's leases")]
    fn spec(&self, holder: &str, seconds: i32, transitions: i32, now: Timestamp) -> LeaseSpec {
        // The API keeps microseconds; what is finer would look changed when it comes back.
        let now = now.round(jiff::Unit::Microsecond).unwrap_or(now);
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The holder, the transitions, and the seconds of acquiring and renewing.
    fn told(spec: &LeaseSpec) -> (&str, i32, i64, i64) {
        let second = |time: &Option<MicroTime>| time.as_ref().unwrap().0.as_second();
        let holder = spec.holder_identity.as_deref().unwrap();
        (holder, spec.lease_transitions.unwrap(), second(&spec.acquire_time), second(&spec.renew_time))
    }

    #[test]
    fn a_lease_passes_from_one_to_another() {
        let (mut one, mut two) = (View::new("one", LEASE), View::new("two", LEASE));
        let monotonic = Duration::from_secs;
        let mut lease = one.first(at(100));
        assert_eq!(told(&lease), ("one", 0, 100, 100));
        one.wrote(lease.clone(), monotonic(0));
        assert!(one.leads() && one.is_valid(monotonic(14)));
        // The other counts from when it sees the lease, whatever the lease says of time.
        two.observe(&lease, monotonic(50));
        assert_eq!(two.held_by_another(monotonic(64)), Some("one"));
        // One renews: the time begins anew.
        lease = one.next(&lease, at(102));
        assert_eq!(told(&lease), ("one", 0, 100, 102));
        one.wrote(lease.clone(), monotonic(2));
        two.observe(&lease, monotonic(64));
        assert_eq!(two.held_by_another(monotonic(78)), Some("one"));
        two.observe(&lease, monotonic(78));
        assert_eq!(two.held_by_another(monotonic(79)), None);
        lease = two.next(&lease, at(130));
        assert_eq!(told(&lease), ("two", 1, 130, 130));
        two.wrote(lease.clone(), monotonic(79));
        one.observe(&lease, monotonic(30));
        assert!(two.leads() && !one.leads());
        // Two gives it back: one need not wait.
        lease = two.released(&lease, at(131));
        assert_eq!((told(&lease), lease.lease_duration_seconds), (("", 1, 131, 131), Some(1)));
        one.observe(&lease, monotonic(31));
        assert_eq!(one.held_by_another(monotonic(31)), None);
        assert_eq!(told(&one.next(&lease, at(132))), ("one", 2, 132, 132));
    }

    #[test]
    fn a_leader_that_no_longer_renews_is_not_well() {
        let mut view = View::new("one", LEASE);
        assert_eq!(view.silent_for(Duration::from_secs(1000)), Duration::ZERO);
        view.wrote(view.first(at(0)), Duration::from_secs(1));
        assert_eq!(view.silent_for(Duration::from_secs(16)), Duration::ZERO);
        assert_eq!(view.silent_for(Duration::from_secs(26)), Duration::from_secs(10));
    }
}
