//! The store as a member among others: membership, alarms, backups.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use replica::{MemberChange, Members, Request, Response, member_id};
use store_api::{Alarm, Backup, Cluster, Member, MembershipError, Shard, StoreError};
use tokio::sync::oneshot;

use crate::{
    Store,
    inbox::Input,
    moves,
    peers::{Question, Reply},
};

/// A learner may be promoted when it has so much of the leader's log in each group, in percent.
const READY_PERCENT: u64 = 90;

#[async_trait]
impl Cluster for Store {
    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, StoreError> {
        if linearizable {
            self.shared.settle(0).await?;
        }
        Ok(self.membership().0)
    }

    async fn member_add(&self, peer_urls: Vec<String>, learner: bool) -> Result<(Member, Vec<Member>), StoreError> {
        self.refuse_learner()?;
        if peer_urls.is_empty() {
            return Err(MembershipError::BadUrls.into());
        }
        let seconds = self.shared.clock.now().as_second();
        let id = member_id(&peer_urls, &seconds.to_string());
        let member = Member { id, peer_urls, is_learner: learner, ..Default::default() };
        self.may_add(learner)?;
        let members = self.for_group(0).change(MemberChange::Add(member.clone())).await?;
        Ok((member, members))
    }

    async fn member_remove(&self, id: u64) -> Result<Vec<Member>, StoreError> {
        self.refuse_learner()?;
        self.may_remove(id)?;
        self.for_group(0).change(MemberChange::Remove(id)).await
    }

    async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, StoreError> {
        self.refuse_learner()?;
        match self.for_group(0).propose(Request::PeerUrls { member: id, urls: peer_urls }).await? {
            Response::Members(members) => Ok(members),
            other => Err(strange(&other)),
        }
    }

    async fn member_promote(&self, id: u64) -> Result<Vec<Member>, StoreError> {
        self.refuse_learner()?;
        let home = self.for_group(0);
        match home.other_leader()? {
            None => home.promote_here(id).await,
            // Only the leader knows how far the learner is.
            Some(leader) => match self.shared.peers.ask(leader, Question::Promote(id)).await? {
                Reply::Members(members) => Ok(members),
                other => Err(StoreError::Unavailable(format!("the leader answered another question: {other:?}"))),
            },
        }
    }

    async fn move_leader(&self, target: u64) -> Result<(), StoreError> {
        let home = self.for_group(0);
        if home.other_leader()?.is_some() {
            return Err(StoreError::NotLeader);
        }
        if self.membership().0.iter().find(|m| m.id == target).is_none_or(|m| m.is_learner) {
            return Err(MembershipError::BadTransferee.into());
        }
        if target == self.shared.identity.member {
            return Ok(());
        }
        let mut changed = home.group().changed.subscribe();
        self.shared.inbox.push(Input::Transfer(target))?;
        let moved = async {
            while home.group().standing.leader.load(Ordering::Acquire) != target {
                changed.changed().await.map_err(|_| StoreError::Stopped)?;
            }
            Ok(())
        };
        let limit = self.shared.timing.tick * self.shared.timing.election_ticks;
        tokio::time::timeout(limit, moved).await.unwrap_or(Err(StoreError::Timeout))
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        self.shared.settle(0).await?;
        Ok(self.shared.group(0).machine.read().alarms.iter().copied().collect())
    }

    async fn alarm_raise(&self, alarm: Alarm) -> Result<Vec<Alarm>, StoreError> {
        self.alarm(Request::AlarmRaise(alarm)).await
    }

    async fn alarm_disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>, StoreError> {
        self.alarm(Request::AlarmDisarm(alarm)).await
    }

    async fn defragment(&self) -> Result<(), StoreError> {
        runtime::failpoint!(async "defragBeforeCopy");
        // Space is given back as snapshots replace the log: one more of them does what can be done.
        let (metrics, start) = (&self.shared.metrics, self.shared.clock.monotonic());
        metrics.defragmenting.set(1);
        let done = self.snapshot().await;
        metrics.defragmenting.set(0);
        metrics.defrag.observe((self.shared.clock.monotonic() - start).as_secs_f64());
        done
    }

    async fn shards(&self) -> Result<Vec<Shard>, StoreError> {
        self.shared.settle(0).await?;
        Ok(self.shared.group(0).machine.read().shards.list())
    }

    async fn shard_move(&self, prefix: Bytes, group: u32) -> Result<Vec<Shard>, StoreError> {
        self.refuse_learner()?;
        moves::shard_move(self, prefix, group).await
    }

    async fn backup(&self) -> Result<Box<dyn Backup>, StoreError> {
        Ok(Box::new(crate::backup::begin(self).await?))
    }
}

impl Store {
    /// Tells the cluster this member's name and where clients reach it.
    pub async fn publish(&self, name: &str, client_urls: Vec<String>) -> Result<(), StoreError> {
        let (member, name) = (self.shared.identity.member, name.to_owned());
        self.for_group(0).propose(Request::Attributes { member, name, client_urls }).await.map(|_| ())
    }

    /// Promotes a learner, on the leader of group 0.
    pub(crate) async fn promote_here(&self, id: u64) -> Result<Vec<Member>, StoreError> {
        let members = Members::new(self.membership().0);
        members.check(&MemberChange::Promote(id))?;
        for group in 0..self.groups() {
            if !self.for_group(group).is_in_sync(id).await? {
                return Err(MembershipError::LearnerNotReady.into());
            }
        }
        self.may_promote()?;
        let promoted = self.change(MemberChange::Promote(id)).await;
        self.shared.metrics.promotions.inc_by(i64::from(promoted.is_ok()));
        promoted
    }

    /// Whether a learner has nearly all of the group's log, as the group's leader knows it.
    async fn is_in_sync(&self, id: u64) -> Result<bool, StoreError> {
        let Some(leader) = self.other_leader()? else { return self.has_in_sync(id).await };
        match self.shared.peers.ask(leader, Question::InSync(self.group, id)).await? {
            Reply::InSync(in_sync) => Ok(in_sync),
            other => Err(StoreError::Unavailable(format!("the leader answered another question: {other:?}"))),
        }
    }

    /// As [`Store::is_in_sync`], on that leader.
    pub(crate) async fn has_in_sync(&self, id: u64) -> Result<bool, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.inbox.push(Input::Progress(self.group, sender))?;
        let status = receiver.await.map_err(|_| StoreError::Stopped)?;
        let in_sync = |peer: &consensus::Peer| peer.matched * 100 >= status.last * READY_PERCENT;
        // A group that has not followed group 0 yet does not know it at all.
        Ok(status.peers.iter().find(|peer| peer.id == id).is_some_and(in_sync))
    }

    /// Changes the members of the handle's group.
    pub(crate) async fn change(&self, change: MemberChange) -> Result<Vec<Member>, StoreError> {
        Members::new(self.group().machine.read().members.list()).check(&change)?;
        let (sender, receiver) = oneshot::channel();
        self.shared.inbox.push(Input::Change(self.group, change, sender))?;
        match receiver.await.map_err(|_| StoreError::Stopped)?? {
            Response::Members(members) => Ok(members),
            other => Err(strange(&other)),
        }
    }

    async fn alarm(&self, request: Request) -> Result<Vec<Alarm>, StoreError> {
        match self.for_group(0).propose(request).await? {
            Response::Alarms(alarms) => Ok(alarms),
            other => Err(strange(&other)),
        }
    }

    /// A learner serves neither writes nor what must be up to date.
    pub(crate) fn refuse_learner(&self) -> Result<(), StoreError> {
        if self.group().standing.learner.load(Ordering::Acquire) { Err(StoreError::Learner) } else { Ok(()) }
    }
}

fn strange(response: &Response) -> StoreError {
    StoreError::Unavailable(format!("the state machine answered another request: {response:?}"))
}
