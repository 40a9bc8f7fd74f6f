//! Pods that have a node and are not bound yet, because something must come true first: a plugin's permit, or what goes
//! before a binding, such as volumes.

use std::time::Duration;

use sched::{Pod, Reservation, pre_bind::Progress, preempt::Victims};

use super::{Driver, IDLE, Moments};
use crate::{api::Why, metrics::Permit};

/// What a pod waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Permit,
    PreBind,
}

pub(super) struct Awaited {
    reservation: Reservation,
    moments: Moments,
    what: For,
    since: Duration,
    until: Duration,
}

impl Driver {
    pub(super) fn wait_for(&mut self, what: For, limit: Duration, reservation: Reservation, moments: Moments) {
        let since = self.clock.monotonic();
        self.awaited.push(Awaited { reservation, moments, what, since, until: since + limit });
    }

    /// How long until the first of them has waited long enough.
    pub(super) fn patience(&self) -> Duration {
        let deadline = self.awaited.iter().map(|awaited| awaited.until).min();
        deadline.map_or(IDLE, |until| until.saturating_sub(self.clock.monotonic()))
    }

    /// Goes on with those that need not wait any more, and gives up those that wait in vain.
    pub(super) fn look_at_awaited(&mut self) {
        let now = self.clock.monotonic();
        for awaited in std::mem::take(&mut self.awaited) {
            let uid = &awaited.reservation.pod.uid;
            let over = awaited.until <= now;
            let progress = match awaited.what {
                For::Permit => self.engine.permitted(uid),
                For::PreBind => self.engine.pre_bound(uid, over),
            };
            match progress {
                // The pod is gone, and its reservation with it.
                None => {}
                Some(Progress::Done) => self.go_on(awaited, now),
                Some(Progress::Waiting) if !over => self.awaited.push(awaited),
                Some(Progress::Waiting) => {
                    let waited = awaited.until.saturating_sub(awaited.since);
                    self.give_up(awaited, &format!("rejected due to timeout after waiting {waited:?}"), now);
                }
                Some(Progress::Failed(why)) => self.give_up(awaited, &why, now),
            }
        }
    }

    /// Sends those of the victims back that are not bound yet: they need not be deleted to leave the node, and are tried again
    /// after their pause.
    pub(super) fn recall(&mut self, preemptor: &Pod, victims: &mut Victims) {
        let now = self.clock.monotonic();
        let is = |victim: &Pod, awaited: &Awaited| victim.uid == awaited.reservation.pod.uid;
        let is_victim = |awaited: &Awaited| victims.pods.iter().any(|victim| is(victim, awaited));
        let (recalled, others) = std::mem::take(&mut self.awaited).into_iter().partition::<Vec<_>, _>(is_victim);
        self.awaited = others;
        for awaited in recalled {
            victims.pods.retain(|victim| !is(victim, &awaited));
            self.api.recalled(&awaited.reservation.pod, preemptor, &victims.node);
            self.give_up(awaited, "rejected: preempted", now);
        }
    }

    fn go_on(&mut self, awaited: Awaited, now: Duration) {
        let Awaited { reservation, moments, what, since, .. } = awaited;
        match what {
            For::Permit => {
                self.metrics.permit(Permit::Allowed, now.saturating_sub(since));
                self.permitted(reservation, moments);
            }
            For::PreBind => {
                self.metrics.point("PreBind", true, &reservation.pod, now.saturating_sub(moments.decided));
                self.bind(reservation, moments);
            }
        }
    }

    fn give_up(&mut self, awaited: Awaited, why: &str, now: Duration) {
        let pod = &awaited.reservation.pod;
        let (text, why) = match awaited.what {
            For::Permit => {
                self.metrics.permit(Permit::Rejected, now.saturating_sub(awaited.since));
                (format!("pod {:?} {why}", pod.name), Why::Unschedulable)
            }
            For::PreBind => {
                self.metrics.point("PreBind", false, pod, now.saturating_sub(awaited.moments.decided));
                (why.to_owned(), Why::Error)
            }
        };
        self.give_back(awaited.reservation, awaited.moments, Some((why, text)), now);
    }
}
