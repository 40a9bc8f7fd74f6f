//! The network between the members of a store: Raft's messages, snapshots and questions over TCP, with TLS where peers
//! are reached by https.
//!
//! ```text
//!   store ─send─▶ queue per peer ─▶ link task ─▶ one connection, many messages per write ─▶ door of the other store
//!          snapshot ─▶ a connection of its own, portion by portion, acknowledged at the end
//!          question ─▶ a connection of its own, answered at once
//! ```
//!
//! Knows nothing of what messages say. A message may be lost: Raft sends again. Every queue and every frame is bounded;
//! a peer that does not read, or is not there, costs its own queue and nothing else.

mod frame;
mod link;
mod listen;
mod metrics;
mod network;
mod wire;

pub use network::{Handle, Joining, Network, Options, Stream};

/// Why a peer cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no peer URL of member {0:x} can be used")]
    NoAddress(u64),
    #[error("the peer speaks something else: {0}")]
    Protocol(&'static str),
    #[error("the peer refuses: {0}")]
    Refused(String),
    #[error("no answer in time")]
    Late,
}
