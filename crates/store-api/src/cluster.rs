//! What etcd's Cluster and Maintenance services ask of a store that is a member of a cluster, beyond its data.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Shard, StoreError};

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    /// Empty until the member has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Empty until the member has started for the first time.
    pub client_urls: Vec<String>,
    /// It receives the log and has no vote.
    pub is_learner: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    NoSpace,
    Corrupt,
}

/// An alarm that stands until somebody disarms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    pub member: u64,
    pub kind: AlarmKind,
}

/// A backup on its way out, portion by portion.
#[async_trait]
pub trait Backup: Send + 'static {
    /// The next portion; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError>;

    /// Bytes still to come, as far as it is known.
    fn remaining(&self) -> u64;
}

/// A member among others. Each change is acknowledged when most members have it on disk.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// The members, in the order of their ids. `linearizable` asks the leader first.
    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, StoreError>;

    /// Adds a member that will listen at `peer_urls`; returns it and all members.
    async fn member_add(&self, peer_urls: Vec<String>, learner: bool) -> Result<(Member, Vec<Member>), StoreError>;

    /// Removes a member; returns those left.
    async fn member_remove(&self, id: u64) -> Result<Vec<Member>, StoreError>;

    /// Changes where a member listens for its peers.
    async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, StoreError>;

    /// Gives a learner that has caught up a vote.
    async fn member_promote(&self, id: u64) -> Result<Vec<Member>, StoreError>;

    /// Hands leadership to another member. Only the leader can.
    async fn move_leader(&self, target: u64) -> Result<(), StoreError>;

    /// The alarms that stand.
    async fn alarms(&self) -> Result<Vec<Alarm>, StoreError>;

    /// Raises an alarm; returns those raised by this call.
    async fn alarm_raise(&self, alarm: Alarm) -> Result<Vec<Alarm>, StoreError>;

    /// Takes an alarm back; member 0 stands for all. Returns those taken back.
    async fn alarm_disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>, StoreError>;

    /// Gives unused disk space back, as far as that does not happen by itself.
    async fn defragment(&self) -> Result<(), StoreError>;

    /// The shards, in the order of their prefixes.
    async fn shards(&self) -> Result<Vec<Shard>, StoreError>;

    /// Has the keys of a prefix kept by a group from now on; returns when they are there. Afterwards their
    /// `mod_revision` is a new one, and a watch on them has to begin anew.
    async fn shard_move(&self, prefix: Bytes, group: u32) -> Result<Vec<Shard>, StoreError>;

    /// The whole store as a file that `etcdutl snapshot restore` reads.
    async fn backup(&self) -> Result<Box<dyn Backup>, StoreError>;
}
