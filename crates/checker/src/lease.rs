//! A lease that is kept alive lives, and one that is not goes with its keys:
//! - it does not end before its time to live has passed since the last renewal that was acknowledged. The server counts
//!   from when it handles the renewal, which is after the client asked; so the client's own clock is on the safe side;
//! - it ends when it was revoked, or when its time to live has passed since the last attempt to renew it, plus the run's
//!   bound for an election and the new leader's full time to live. After that no key has it any more;
//! - after its end nothing is attached to it and nothing renews it.
//!
//! Only ends that removed keys are visible, and only those are judged as too early. A lease's number is used once in a
//! history.

use std::collections::BTreeMap;

use crate::{
    Cause, Finding, History, Timeline,
    evidence::FirstSeen,
    history::{Answer, Micros, Operation, Outcome, Request, Revision, Settings},
    report::Findings,
};

pub(crate) fn check(history: &History, timeline: &Timeline, all: &mut Vec<Finding>) {
    let mut findings = Findings::new("lease", all);
    let first_seen = FirstSeen::gather(history);
    let leases = gather(history, &first_seen);
    let mut ends: BTreeMap<i64, (Revision, Option<Micros>)> = BTreeMap::new();
    for change in &timeline.changes {
        let Cause::LeaseEnd(lease) = change.cause else { continue };
        let seen = first_seen.of(change.revision);
        ends.entry(lease).or_insert((change.revision, seen));
        if let (Some(lived), Some(seen)) = (leases.get(&lease), seen) {
            early(lease, lived, change.revision, seen, &history.settings, &mut findings);
        }
    }
    after_end(history, &ends, &mut findings);
    late(history, &leases, &mut findings);
}

/// What was done with one lease.
#[derive(Default)]
struct Lived<'a> {
    ttl: Micros,
    /// Grant and renewals, and whether they were acknowledged as alive.
    renewals: Vec<(&'a Operation, bool)>,
    revokes: Vec<&'a Operation>,
}

fn gather<'a>(history: &'a History, first_seen: &FirstSeen) -> BTreeMap<i64, Lived<'a>> {
    let mut leases: BTreeMap<i64, Lived<'a>> = BTreeMap::new();
    for operation in &history.operations {
        let alive = match operation.response().map(|response| &response.answer) {
            Some(Answer::Lease { ttl }) => *ttl,
            _ => 0,
        };
        let revision = operation.response().map_or(0, |response| response.revision);
        let counts = history.settings.stale_renewals_count || !first_seen.is_old(revision, operation.invoked);
        match operation.request {
            Request::LeaseGrant { lease, ttl } => {
                let lived = leases.entry(lease).or_default();
                lived.ttl = u64::try_from(ttl.max(alive)).unwrap_or(0) * 1_000_000;
                lived.renewals.push((operation, alive > 0));
            }
            Request::LeaseKeepAlive { lease } => {
                leases.entry(lease).or_default().renewals.push((operation, alive > 0 && counts));
            }
            Request::LeaseRevoke { lease } => leases.entry(lease).or_default().revokes.push(operation),
            _ => {}
        }
    }
    leases
}

fn early(
    lease: i64,
    lived: &Lived<'_>,
    revision: Revision,
    seen: Micros,
    settings: &Settings,
    findings: &mut Findings<'_>,
) {
    let may_revoke = |o: &Operation| o.invoked <= seen && !matches!(o.outcome, Outcome::Refused(_));
    if lived.revokes.iter().any(|operation| may_revoke(operation)) {
        return;
    }
    let renewed = lived.renewals.iter().filter(|(_, alive)| *alive).map(|(operation, _)| *operation);
    let Some(latest) = renewed.max_by_key(|operation| operation.invoked) else { return };
    let earliest = latest.invoked + lived.ttl;
    if seen + settings.lease_early < earliest {
        let short = (earliest - seen) / 1000;
        let ends = seen as f64 / 1000.0;
        let message = format!(
            "lease {lease} ended {short} ms early, at revision {revision} (seen at {ends:.3} ms), after {latest}"
        );
        findings.add(vec![latest.id], message);
    }
}

/// Nothing is attached to an ended lease, and nothing renews it.
fn after_end(history: &History, ends: &BTreeMap<i64, (Revision, Option<Micros>)>, findings: &mut Findings<'_>) {
    for operation in &history.operations {
        let Some(response) = operation.response() else { continue };
        let attached = operation.puts().into_iter().filter(|_| response.answer.writes()).map(|put| put.lease);
        for lease in attached.filter(|lease| *lease != 0) {
            if let Some((end, _)) = ends.get(&lease)
                && *end < response.revision
                && succeeded(&response.answer)
            {
                findings.add(vec![operation.id], format!("{operation}: lease {lease} had ended at revision {end}"));
            }
        }
        if let (Request::LeaseKeepAlive { lease }, Answer::Lease { ttl: 1.. }) = (&operation.request, &response.answer)
            && let Some((end, Some(seen))) = ends.get(lease)
            && *seen < operation.invoked
            && (history.settings.stale_renewals_count || response.revision >= *end)
        {
            findings.add(vec![operation.id], format!("{operation}, but it had ended at revision {end}"));
        }
    }
}

/// A transaction's other branch was not run; a put always is.
fn succeeded(answer: &Answer) -> bool {
    !matches!(answer, Answer::Txn { succeeded: false, .. })
}

/// No key has a lease that must be gone.
fn late(history: &History, leases: &BTreeMap<i64, Lived<'_>>, findings: &mut Findings<'_>) {
    let gone: BTreeMap<i64, Micros> =
        leases.iter().map(|(lease, lived)| (*lease, lived.gone(history.settings.lease_late))).collect();
    for operation in history.operations.iter().filter(|operation| !operation.is_serializable()) {
        let (Request::Range(range), Some(response)) = (&operation.request, operation.response()) else { continue };
        if range.revision > 0 {
            continue;
        }
        for kv in response.answer.kvs().into_iter().filter(|kv| kv.lease != 0) {
            if let Some(gone) = gone.get(&kv.lease)
                && *gone < operation.invoked
            {
                let at = *gone as f64 / 1000.0;
                let message = format!("{operation} shows lease {}, which must have ended by {at:.3} ms", kv.lease);
                findings.add(vec![operation.id], message);
            }
        }
    }
}

impl Lived<'_> {
    /// When it must have ended at the latest.
    fn gone(&self, late: Micros) -> Micros {
        let revoked = self.revokes.iter().filter(|operation| operation.response().is_some());
        let revoked = revoked.map(|operation| operation.returned).min().unwrap_or(Micros::MAX);
        // An attempt without an answer may have arrived until the client gave up.
        let tried = self.renewals.iter().map(|(operation, _)| operation.returned).max();
        revoked.min(tried.map_or(Micros::MAX, |tried| tried + self.ttl + late))
    }
}
