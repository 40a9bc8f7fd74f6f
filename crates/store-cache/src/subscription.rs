//! What happens to the content, told to whoever listens.

use std::sync::Arc;

use store_api::{Event, Revision};
use tokio::sync::broadcast;

/// Updates that a listener may leave unread; past it, it is told that it has missed some.
pub(crate) const UPDATES: usize = 1024;

/// A change of the content, told after reads see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The events of whole revisions, in order; with them the content is that of the revision.
    Events { revision: Revision, events: Arc<[Arc<Event>]> },
    /// The prefix was listed anew, since events in between are lost to compaction: read it again.
    Listed { revision: Revision },
}

/// Why no update comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The listener was too slow. Read the content, and go on with those updates that are newer than it.
    #[error("{missed} updates were missed")]
    Missed { missed: u64 },
    /// The cache has ended; any read says why.
    #[error("the cache has ended")]
    Ended,
}

/// Listens to a cache. Made before a read, it misses nothing that the read does not show.
#[derive(Debug)]
pub struct Subscription(pub(crate) broadcast::Receiver<Update>);

impl Subscription {
    /// The next update. Cancel safe.
    pub async fn next(&mut self) -> Result<Update, SubscriptionError> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => SubscriptionError::Missed { missed },
            broadcast::error::RecvError::Closed => SubscriptionError::Ended,
        })
    }
}
