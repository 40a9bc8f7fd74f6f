//! Whether the members have the same keys in each group (etcd's `--experimental-initial-corrupt-check` and
//! `--experimental-corrupt-check-time`). A member that cannot be asked, or that is not so far, is passed over.

use std::time::Duration;

use store_api::{Alarm, AlarmKind, Cluster, HashKv, Revision, Store as _, StoreError};

use crate::{
    Store,
    peers::{Question, Reply},
};

/// What a member that is asked has in a group, at the revision that both know.
pub(crate) struct Told {
    pub member: u64,
    pub hash: HashKv,
}

impl Store {
    /// Before a member serves: its keys must be those of every member that answers.
    pub async fn check_against_peers(&self) -> Result<(), StoreError> {
        for group in 0..self.groups() {
            let store = self.for_group(group);
            let own = store.hash_kv(0).await?;
            let told = store.ask_peers(own.hash_revision).await;
            tracing::info!(group, peers = told.len(), revision = own.hash_revision, "compared the keys with peers");
            if let Some(told) = told.iter().find(|told| differs(&own, &told.hash)) {
                return Err(StoreError::Corrupt(format!(
                    "{:x} found data inconsistency with peers: {:x} has the hash {} at revision {}{}, here it is {}",
                    self.shared.identity.member,
                    told.member,
                    told.hash.hash,
                    own.hash_revision,
                    if group == 0 { String::new() } else { format!(" of group {group}") },
                    own.hash
                )));
            }
        }
        Ok(())
    }

    /// Looks each `interval`, at the groups that this member leads, and raises an alarm for a member that has other keys.
    pub async fn check_for_corruption(self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            for group in 0..self.groups() {
                let store = self.for_group(group);
                if !store.group().standing.leads() {
                    continue;
                }
                if let Err(error) = store.check_once().await {
                    tracing::warn!(group, %error, "failed to check hash KV");
                }
            }
        }
    }

    async fn check_once(&self) -> Result<(), StoreError> {
        self.settle().await?;
        let own = self.hash_kv(0).await?;
        for told in self.ask_peers(own.hash_revision).await {
            if !differs(&own, &told.hash) {
                continue;
            }
            let (group, member) = (self.group, format!("{:x}", told.member));
            let (leader, follower) = (own.hash, told.hash.hash);
            tracing::error!(group, member, leader, follower, revision = own.hash_revision, "found hash mismatch");
            self.alarm_raise(Alarm { member: told.member, kind: AlarmKind::Corrupt }).await?;
        }
        Ok(())
    }

    /// What the others say of the handle's group.
    pub(crate) async fn ask_peers(&self, revision: Revision) -> Vec<Told> {
        let mut told = Vec::new();
        for peer in self.membership().0.into_iter().filter(|peer| peer.id != self.shared.identity.member) {
            match self.shared.peers.ask(peer.id, Question::Hash(self.group, revision)).await {
                Ok(Reply::Hash(hash)) => told.push(Told { member: peer.id, hash }),
                Ok(other) => tracing::warn!(?other, "a peer answered another question"),
                Err(error) => tracing::warn!(peer = format!("{:x}", peer.id), %error, "cannot fetch hash from peer"),
            }
        }
        told
    }
}

/// Hashes are comparable where both were compacted to the same revision.
fn differs(own: &HashKv, other: &HashKv) -> bool {
    own.compact_revision == other.compact_revision && own.hash_revision == other.hash_revision && own.hash != other.hash
}
