//! Which changes of the membership are refused because the quorum could be lost by them (etcd's
//! `--strict-reconfig-check`). Does not know how a change is made.

use std::time::Duration;

use store_api::{Member, MembershipError, StoreError};

use crate::Store;

/// A member counts as healthy when it has been connected for so long, as in etcd.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

impl Store {
    pub(crate) fn may_add(&self, learner: bool) -> Result<(), StoreError> {
        if !self.shared.strict_reconfig {
            return Ok(());
        }
        let voters = self.voters();
        let started = started(&voters);
        // The second member may be added while it is not there yet.
        let lone = started == 1 && voters.len() == 1;
        if !learner && !lone && !is_quorum(started, voters.len() + 1) {
            return refuse("add", MembershipError::NotEnoughStarted);
        }
        // The new one counts as one that is not there.
        if voters.len() > 1 && !is_quorum(self.healthy(&voters), voters.len() + 1) {
            return refuse("add", MembershipError::Unhealthy);
        }
        Ok(())
    }

    pub(crate) fn may_remove(&self, id: u64) -> Result<(), StoreError> {
        let voters = self.voters();
        let (leaving, staying): (Vec<_>, Vec<_>) = voters.iter().cloned().partition(|voter| voter.id == id);
        if leaving.is_empty() {
            return Ok(());
        }
        // Nobody would be left to take it back, however the flag is set.
        if staying.is_empty() {
            return refuse("remove", MembershipError::NotEnoughStarted);
        }
        if !self.shared.strict_reconfig {
            return Ok(());
        }
        if !is_quorum(started(&staying), staying.len()) {
            return refuse("remove", MembershipError::NotEnoughStarted);
        }
        // One that is down is no part of the quorum that there is.
        if id != self.shared.identity.member && self.shared.peers.connected_for(id).is_none() {
            return Ok(());
        }
        if self.healthy(&voters) - 1 < 1 + (voters.len() - 1) / 2 {
            return refuse("remove", MembershipError::Unhealthy);
        }
        Ok(())
    }

    pub(crate) fn may_promote(&self) -> Result<(), StoreError> {
        let voters = self.voters();
        // The learner has been found to be there.
        if self.shared.strict_reconfig && !is_quorum(started(&voters) + 1, voters.len() + 1) {
            return refuse("promote", MembershipError::NotEnoughStarted);
        }
        Ok(())
    }

    fn voters(&self) -> Vec<Member> {
        self.membership().0.into_iter().filter(|member| !member.is_learner).collect()
    }

    fn healthy(&self, voters: &[Member]) -> usize {
        let connected = |id| self.shared.peers.connected_for(id).is_some_and(|time| time >= HEALTHY_AFTER);
        voters.iter().filter(|voter| voter.id == self.shared.identity.member || connected(voter.id)).count()
    }
}

fn started(voters: &[Member]) -> usize {
    voters.iter().filter(|voter| !voter.name.is_empty()).count()
}

fn is_quorum(count: usize, of: usize) -> bool {
    count > of / 2
}

fn refuse(what: &str, why: MembershipError) -> Result<(), StoreError> {
    let reason = match why {
        MembershipError::Unhealthy => {
            "local member has not been connected to majority peers, reconfigure breaks active quorum"
        }
        _ => "not enough healthy members",
    };
    tracing::warn!(error = %why, "rejecting member {what} request; {reason}");
    Err(why.into())
}
