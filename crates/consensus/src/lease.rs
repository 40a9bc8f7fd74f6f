//! The leader's lease: until when it may answer reads without asking anybody, because enough members have promised to
//! elect nobody else before that.
//!
//! ```text
//!   leader   ──heartbeat, sent at s──▶ follower: keeps to this leader for an election timeout from now on
//!            ◀──the same s, promised──
//!   s of the slowest of the quickest majority + an election timeout − what clocks may differ = the lease's end
//! ```
//!
//! It is Raft's own (dissertation, §6.4.1), with two differences. A lease counts from when a round was sent, never from
//! when its answer came: the heartbeat carries the leader's time there and back. And an answer counts only with its
//! sender's promise: a member that makes none, because it runs without lease reads, still answers heartbeats.
//!
//! Knows no clock and no message but the few bytes that it adds to a heartbeat's context. Times are of one clock that
//! never goes back; those of different members are never compared.

use std::{collections::BTreeMap, time::Duration};

/// The part of an election timeout by which a lease is shorter. A leader whose clock is slow by up to 5 percent is still
/// done before a follower whose clock is fast by as much; clocks that are kept by NTP differ by a tenth of a percent.
const DRIFT_PART: u32 = 10;

/// What a heartbeat carries behind its own context: the leader's time in nanoseconds, and whether its answer promises.
const TAIL: usize = 9;
const ASKED: u8 = 0;
const PROMISED: u8 = 1;

/// How lease reads are kept safe; the same on all members, as the election timeout is.
#[derive(Clone, Copy, Debug)]
pub struct LeaseReads {
    pub election_timeout: Duration,
    /// The time at this member's start. What it had promised before it has forgotten: it keeps to it as if it had promised
    /// in that moment.
    pub started: Duration,
}

/// One member's part in a group's leases, as a follower and as a leader.
#[derive(Debug)]
pub(crate) struct Lease {
    election_timeout: Duration,
    /// When it promised last.
    promised: Duration,
    /// The term that this member leads or led last.
    term: u64,
    /// Rounds count that were sent after this; none do where it is absent.
    after: Option<Duration>,
    /// When the last round was sent to which each member has promised.
    answered: BTreeMap<u64, Duration>,
}

impl Lease {
    pub fn new(options: LeaseReads) -> Self {
        let LeaseReads { election_timeout, started } = options;
        Lease { election_timeout, promised: started, term: 0, after: None, answered: BTreeMap::new() }
    }

    /// A follower has heard a leader who counts on it.
    pub fn promise(&mut self, now: Duration) {
        self.promised = self.promised.max(now);
    }

    /// Whether this member may neither vote nor stand.
    pub fn is_promised(&self, now: Duration) -> bool {
        now < self.promised.saturating_add(self.election_timeout)
    }

    /// This member leads in `term`. A term begins without a lease, and has none again once it was given up.
    pub fn leads(&mut self, term: u64, now: Duration) {
        if self.term != term {
            self.term = term;
            self.begin(now);
        }
    }

    /// The members have changed: those who count now have to promise anew.
    pub fn members_changed(&mut self, now: Duration) {
        if self.after.is_some() {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Duration) {
        self.after = Some(now);
        self.answered.clear();
    }

    /// Leadership goes to somebody else, maybe at once and past all promises.
    pub fn give_up(&mut self) {
        self.after = None;
    }

    /// A member has promised, in this leader's term, in answer to the round that was sent at `sent`.
    pub fn answered(&mut self, member: u64, sent: Duration) {
        let last = self.answered.entry(member).or_default();
        *last = (*last).max(sent);
    }

    /// Until when nobody else can be elected: of members that are `voters`, or during a change of both these and the
    /// `outgoing` ones. `me` always answers.
    pub fn until(&self, me: u64, voters: &[u64], outgoing: &[u64]) -> Option<Duration> {
        let after = self.after.filter(|_| voters.contains(&me))?;
        let sent = self.quorum(me, voters).min(self.quorum(me, outgoing));
        let held = self.election_timeout - self.election_timeout / DRIFT_PART;
        (sent > after).then(|| sent.saturating_add(held))
    }

    /// The newest round that a majority has answered.
    fn quorum(&self, me: u64, voters: &[u64]) -> Duration {
        let answered =
            |id: &u64| if *id == me { Duration::MAX } else { self.answered.get(id).copied().unwrap_or_default() };
        let mut rounds: Vec<Duration> = voters.iter().map(answered).collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        // Of no voters: there is no such half.
        rounds.get(rounds.len() / 2).copied().unwrap_or(Duration::MAX)
    }
}

/// A heartbeat's context with the time at which it is sent.
pub(crate) fn tag(context: &[u8], sent: Duration) -> Vec<u8> {
    let nanos = u64::try_from(sent.as_nanos()).expect("no clock has run for centuries");
    let mut tagged = Vec::with_capacity(context.len() + TAIL);
    tagged.extend_from_slice(context);
    tagged.extend_from_slice(&nanos.to_le_bytes());
    tagged.push(ASKED);
    tagged
}

/// The context of the answer that promises; `None` where the leader does not ask for it.
pub(crate) fn promise(context: &[u8]) -> Option<Vec<u8>> {
    let mut answer = is_tagged(context).then(|| context.to_vec())?;
    *answer.last_mut()? = PROMISED;
    Some(answer)
}

/// A heartbeat's own context, and when it was sent if its answer promises.
pub(crate) fn untag(context: &[u8]) -> (&[u8], Option<Duration>) {
    let Some((own, [nanos @ .., promised])) = context.split_last_chunk::<TAIL>() else { return (context, None) };
    if !is_tagged(context) {
        return (context, None);
    }
    let nanos = u64::from_le_bytes(*nanos);
    (own, (*promised == PROMISED).then(|| Duration::from_nanos(nanos)))
}

/// Contexts of questions have eight bytes, those of other heartbeats none; the tail makes them longer.
fn is_tagged(context: &[u8]) -> bool {
    matches!(context.len().checked_sub(TAIL), Some(0 | 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1000);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn lease() -> Lease {
        let mut lease = Lease::new(LeaseReads { election_timeout: TIMEOUT, started: ms(0) });
        lease.leads(5, ms(100));
        lease
    }

    /// Member 1 leads; others have promised to rounds sent at these times. Until when its lease is.
    #[track_caller]
    fn check(voters: &[u64], outgoing: &[u64], answers: &[(u64, u64)], expected: Option<u64>) {
        let mut lease = lease();
        answers.iter().for_each(|(member, sent)| lease.answered(*member, ms(*sent)));
        assert_eq!(lease.until(1, voters, outgoing), expected.map(ms));
    }

    #[test]
    fn a_lease_is_as_long_as_the_slowest_of_the_quickest_majority_says() {
        check(&[1, 2, 3], &[], &[], None);
        check(&[1, 2, 3], &[], &[(2, 200)], Some(1100));
        check(&[1, 2, 3], &[], &[(2, 200), (3, 300)], Some(1200));
        check(&[1, 2, 3], &[], &[(3, 300), (2, 200), (3, 250)], Some(1200));
        check(&[1, 2, 3], &[], &[(4, 300)], None);
        check(&[1, 2], &[], &[(2, 200)], Some(1100));
        check(&[1, 2, 3, 4, 5], &[], &[(2, 400)], None);
        check(&[1, 2, 3, 4, 5], &[], &[(2, 400), (3, 300), (4, 200)], Some(1200));
        check(&[1, 2, 3, 4], &[], &[(2, 400), (3, 300), (4, 200)], Some(1200));
    }

    #[test]
    fn while_members_change_both_halves_have_to_promise() {
        check(&[1, 2, 3], &[1, 4, 5], &[(2, 300), (3, 300)], None);
        check(&[1, 2, 3], &[1, 4, 5], &[(2, 300), (4, 200)], Some(1100));
        check(&[2, 3], &[1, 2, 3], &[(2, 300), (3, 300)], None);
    }

    #[test]
    fn a_round_before_the_term_or_before_the_members_changed_does_not_count() {
        check(&[1, 2, 3], &[], &[(2, 100)], None);
        let mut lease = lease();
        lease.answered(2, ms(200));
        lease.members_changed(ms(300));
        assert_eq!(lease.until(1, &[1, 2, 3], &[]), None);
        lease.answered(2, ms(300));
        assert_eq!(lease.until(1, &[1, 2, 3], &[]), None, "it may have been sent before");
        lease.answered(2, ms(301));
        assert_eq!(lease.until(1, &[1, 2, 3], &[]), Some(ms(1201)));
    }

    #[test]
    fn a_lease_that_was_given_up_does_not_come_back_in_its_term() {
        let mut lease = lease();
        lease.answered(2, ms(200));
        lease.give_up();
        lease.answered(2, ms(300));
        lease.members_changed(ms(400));
        lease.answered(2, ms(500));
        lease.leads(5, ms(600));
        assert_eq!(lease.until(1, &[1, 2, 3], &[]), None);
        lease.leads(6, ms(700));
        lease.answered(2, ms(800));
        assert_eq!(lease.until(1, &[1, 2, 3], &[]), Some(ms(1700)));
    }

    #[test]
    fn a_promise_lasts_for_an_election_timeout_and_a_start_is_one() {
        let mut lease = Lease::new(LeaseReads { election_timeout: TIMEOUT, started: ms(50) });
        assert!(lease.is_promised(ms(1049)) && !lease.is_promised(ms(1050)));
        lease.promise(ms(2000));
        lease.promise(ms(1500));
        assert!(lease.is_promised(ms(2999)) && !lease.is_promised(ms(3000)));
    }

    #[test]
    fn a_context_comes_back_as_it_was() {
        for context in [&b""[..], b"8 bytes."] {
            let tagged = tag(context, ms(7));
            assert_eq!(untag(&tagged), (context, None), "nobody has promised");
            assert_eq!(untag(&promise(&tagged).unwrap()), (context, Some(ms(7))));
            assert_eq!((untag(context), promise(context)), ((context, None), None));
        }
    }

    proptest! {
        /// Whatever was answered and whenever, on clocks that are wrong by up to 5 percent: at every moment of the lease
        /// each majority has a member, the leader counted, that keeps its promise still.
        #[test]
        fn no_majority_is_free_to_elect_while_a_lease_lasts(
            voters in 1_u64..=7,
            answers in prop::collection::vec((2_u64..=8, 101_u64..3000, prop_oneof![Just(0), 0_u64..2000]), 0..12),
            rates in prop::collection::vec(prop_oneof![Just(950), 951_u64..1050, Just(1050)], 8),
        ) {
            // Real time in microseconds, to a member's own.
            let clock = |member: u64, real: u64| Duration::from_micros(real * rates[member as usize - 1] / 1000);
            let voters: Vec<u64> = (1..=voters).collect();
            let mut leader = Lease::new(LeaseReads { election_timeout: TIMEOUT, started: ms(0) });
            leader.leads(1, ms(0));
            let mut followers: BTreeMap<u64, Lease> = BTreeMap::new();
            for (member, sent, way) in answers {
                let (sent, heard) = (sent * 1000, (sent + way) * 1000);
                let new = || Lease { promised: Duration::ZERO, election_timeout: TIMEOUT, term: 0, after: None, answered: BTreeMap::new() };
                followers.entry(member).or_insert_with(new).promise(clock(member, heard));
                leader.answered(member, clock(1, sent));
            }
            if let Some(until) = leader.until(1, &voters, &[]).filter(|until| *until < Duration::MAX) {
                // The last moment at which the leader's own clock is before the end, in real time.
                let last = u64::try_from(until.as_micros()).unwrap() * 1000 / rates[0] - 1;
                let keeps = |id: &&u64| **id == 1 || followers.get(id).is_some_and(|f| f.is_promised(clock(**id, last)));
                let kept = voters.iter().filter(keeps).count();
                prop_assert!(kept > voters.len() / 2, "{kept} of {voters:?} keep to it until {until:?}");
            }
        }
    }
}
