//! Consensus on the order of a log: TiKV's Raft engine behind one small trait, so that nobody else sees its types'
//! habits, its randomness or its storage callbacks.
//!
//! ```text
//!   tick, step(message), propose ──▶ Consensus ──ready()──▶ Ready { send now · write · then send · committed }
//!                                       ▲                        │ the driver writes and syncs
//!                                       └──────persisted()───────┘
//! ```
//!
//! Knows no clock (ticks are told, and the time where a lease needs it), no disk (what must be written is handed out), no socket, and draws no chance of its
//! own: election timeouts come from a seed. The engine's crate depends on `rand`; what it draws is replaced before it
//! is used (see [`Raft`]), so that the same inputs give the same outputs.

mod lease;
mod log;
mod raft_group;
mod ready;

pub use lease::LeaseReads;
pub use log::{Base, Log};
pub use raft_group::{Options, Raft, Restored};
pub use ready::{Persisted, Ready};

pub use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState,
    Message, MessageType, SnapshotMetadata,
};

use std::time::Duration;

use bytes::Bytes;
use protobuf2::Message as _;

/// What a member is in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Follower,
    /// Asks whether it would be elected, without raising the term.
    PreCandidate,
    Candidate,
    Leader,
}

/// An input that consensus did not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// There is no leader, or leadership is being handed over: try again a little later.
    #[error("there is no leader now")]
    NoLeader,
    /// The message is from nobody in the group, or makes no sense here.
    #[error("the message does not belong here: {0}")]
    Misfit(String),
}

/// How far a peer is, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: u64,
    /// The last entry known to be on its disk.
    pub matched: u64,
    pub learner: bool,
    /// It was heard of within the last election timeout.
    pub active: bool,
    /// It is being sent a snapshot.
    pub snapshot: bool,
}

/// Where a group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub role: Role,
    pub term: u64,
    /// 0: none is known.
    pub leader: u64,
    pub commit: u64,
    pub last: u64,
    pub applied: u64,
    /// On the leader only.
    pub peers: Vec<Peer>,
}

/// One group's consensus. `now` is the time of this member's own clock, which never goes back, read when the input is
/// given; only lease reads need it.
pub trait Consensus: Send {
    /// Time goes on by one tick.
    fn tick(&mut self, now: Duration);

    /// A message from a peer.
    fn step(&mut self, message: Message, now: Duration) -> Result<(), Dropped>;

    /// Puts an entry to the log; a follower passes it to the leader.
    fn propose(&mut self, data: Bytes) -> Result<(), Dropped>;

    /// Whether more will be proposed within this turn: then what is committed until then needs no messages of its own to
    /// be told, for those with the next entries tell it.
    fn expect_more(&mut self, more: bool);

    /// Puts a change of membership to the log.
    fn propose_change(&mut self, change: &ConfChangeV2, context: Bytes) -> Result<(), Dropped>;

    /// Asks for the index at which a linearizable read may be served; it comes with [`Ready::reads`]. A leader with a lease
    /// asks nobody.
    fn read_index(&mut self, context: u64, now: Duration);

    /// Hands leadership over.
    fn transfer(&mut self, to: u64);

    /// Stands for election now.
    fn campaign(&mut self);

    /// A peer could not be reached.
    fn unreachable(&mut self, peer: u64);

    /// A snapshot reached a peer, or did not.
    fn snapshot_sent(&mut self, peer: u64, ok: bool);

    /// What has to be done; `None` when there is nothing. After it, [`Consensus::persisted`] before anything else.
    fn ready(&mut self) -> Option<Ready>;

    /// The last [`Ready`]'s entries, hard state and snapshot are on disk.
    fn persisted(&mut self) -> Persisted;

    /// A committed change of membership takes effect. Returns the membership after it.
    fn apply_change(&mut self, change: &ConfChangeV2) -> ConfState;

    /// Entries up to `index` are applied.
    fn applied(&mut self, index: u64);

    /// The state as of `base` can be sent to a peer that is too far behind for the log.
    fn snapshot_available(&mut self, base: Base);

    /// A peer needs a snapshot and there was none; asked once.
    fn snapshot_wanted(&mut self) -> bool;

    /// Forgets entries up to `index`, which no peer will be sent any more.
    fn compact(&mut self, index: u64);

    fn status(&self) -> Status;

    /// The membership in force.
    fn conf_state(&self) -> ConfState;

    /// What must be written again when an old part of the log on disk goes away.
    fn hard_state(&self) -> HardState;
}

/// A message as bytes, for the network.
pub fn encode_message(message: &Message) -> Vec<u8> {
    message.write_to_bytes().expect("a message in memory has no missing fields")
}

/// A message from the network.
pub fn decode_message(bytes: &Bytes) -> Result<Message, Dropped> {
    let mut input = protobuf2::CodedInputStream::from_carllerche_bytes(bytes);
    let mut message = Message::default();
    message.merge_from(&mut input).map_err(|e| Dropped::Misfit(e.to_string()))?;
    Ok(message)
}

/// A change of membership as bytes.
pub fn encode_change(change: &ConfChangeV2) -> Vec<u8> {
    change.write_to_bytes().expect("a change in memory has no missing fields")
}

/// The change that a committed entry holds; `None` if the entry holds none.
pub fn change_of(entry: &Entry) -> Option<ConfChangeV2> {
    match entry.get_entry_type() {
        EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data).ok(),
        // The older form is never proposed.
        EntryType::EntryNormal | EntryType::EntryConfChange => None,
    }
}

/// A membership as bytes.
pub fn encode_conf_state(conf: &ConfState) -> Vec<u8> {
    conf.write_to_bytes().expect("a membership in memory has no missing fields")
}

/// A membership from bytes.
pub fn decode_conf_state(bytes: &[u8]) -> Result<ConfState, Dropped> {
    ConfState::parse_from_bytes(bytes).map_err(|e| Dropped::Misfit(e.to_string()))
}
