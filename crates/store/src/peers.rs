//! What a member asks of the network between members.

use std::time::Duration;

use async_trait::async_trait;
use replica::{GroupId, Message};
use store_api::{HashKv, Lease, LeaseId, LeaseStatus, Member, Revision, StoreError};

/// Carries messages to other members. Messages may be lost; they arrive in order if they arrive.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Sends a message to the member that it names.
    fn send(&self, group: GroupId, message: Message);

    /// Who the others are now.
    fn update(&self, members: Vec<Member>);

    /// How long there has been a connection to another member; none if there is none. A network that cannot tell has
    /// always been connected.
    fn connected_for(&self, _member: u64) -> Option<Duration> {
        Some(Duration::MAX)
    }

    /// Asks another member, the leader usually.
    async fn ask(&self, member: u64, question: Question) -> Result<Reply, StoreError>;
}

/// What one member asks of another, mostly of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    KeepAlive(GroupId, LeaseId),
    TimeToLive(GroupId, LeaseId, bool),
    /// Promote a learner, if it is ready.
    Promote(u64),
    /// Who the members are, and how the keys are divided: asked by one that wants to join.
    Joining,
    /// What a group's keys hash to at a revision.
    Hash(GroupId, Revision),
    /// Of the leader of a group: whether a learner has nearly all of the group's log.
    InSync(GroupId, u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    KeepAlive(Lease),
    TimeToLive(LeaseStatus),
    Members(Vec<Member>),
    /// The members, and how many groups there are.
    Joining(Vec<Member>, GroupId),
    Hash(HashKv),
    InSync(bool),
}

/// There is nobody else.
pub struct Nobody;

#[async_trait]
impl Peers for Nobody {
    fn send(&self, _group: GroupId, _message: Message) {}

    fn update(&self, _members: Vec<Member>) {}

    fn connected_for(&self, _member: u64) -> Option<Duration> {
        None
    }

    async fn ask(&self, _member: u64, _question: Question) -> Result<Reply, StoreError> {
        Err(StoreError::NoLeader)
    }
}
