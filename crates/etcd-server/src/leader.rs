//! Callers that would rather fail than wait where there is no leader (the metadata `hasleader`, which clientv3 sends for
//! `WithRequireLeader`): a call is refused at once, a stream ends once the leader has been away for a while.
//!
//! Knows no election: it asks the store whether there is a leader, and only while somebody wants to know.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::Request, middleware};
use runtime::Tasks;
use store_api::StoreError;
use tokio::sync::watch;
use tonic::Status;

use crate::{auth::Head, codes, shared::Shared};

/// The metadata and its one value.
pub(crate) const KEY: &str = "hasleader";
const WANTED: &[u8] = b"true";
/// Looks without a leader after which streams end, as etcd has it: an election may take more than one.
const MISSES: u32 = 3;

/// Tells streams that the leader is lost.
pub(crate) struct Losses(watch::Sender<()>);

impl Default for Losses {
    fn default() -> Self {
        Losses(watch::Sender::new(()))
    }
}

/// Whether the caller of this head wants a leader.
pub(crate) fn wanted(head: &dyn Head) -> bool {
    head.metadata(KEY) == Some(WANTED)
}

impl Shared {
    /// Refuses where no leader is known.
    pub async fn require_leader(&self) -> Result<(), Status> {
        match self.store.has_leader().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(codes::status(&StoreError::NoLeader)),
            Err(error) => Err(codes::status(&error)),
        }
    }

    /// For a stream: refuses where no leader is known to a caller who wants one, and tells it later that it was lost.
    pub async fn lost_leader(&self, head: &dyn Head) -> Result<Loss, Status> {
        if !wanted(head) {
            return Ok(Loss(None));
        }
        let losses = self.losses.0.subscribe();
        self.require_leader().await?;
        Ok(Loss(Some(losses)))
    }
}

/// What one stream waits for beside its work.
pub(crate) struct Loss(Option<watch::Receiver<()>>);

impl Loss {
    /// Gives the words that the stream ends with; never, where its caller did not ask for a leader.
    pub async fn happened(&mut self) -> Status {
        // Whoever tells of losses is shared by all that can be asked: it outlives this.
        if let Some(losses) = &mut self.0
            && losses.changed().await.is_ok()
        {
            return codes::status(&StoreError::NoLeader);
        }
        std::future::pending().await
    }
}

/// The guard of calls that go through a router.
pub(crate) fn guard(router: Router, shared: Arc<Shared>) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
        let shared = shared.clone();
        async move {
            if wanted(&(request.headers(), request.extensions()))
                && let Err(status) = shared.require_leader().await
            {
                return status.into_http();
            }
            next.run(request).await
        }
    }))
}

/// Looks for the leader each `interval` (etcd's: the election timeout) until the group stops.
pub(crate) fn spawn(shared: Arc<Shared>, interval: Duration, tasks: &Tasks) {
    tasks.spawn("leader", async move {
        let mut misses = 0;
        loop {
            tokio::time::sleep(interval).await;
            if shared.losses.0.receiver_count() == 0 {
                misses = 0;
                continue;
            }
            let present = shared.store.has_leader().await.unwrap_or(false);
            misses = if present { 0 } else { misses + 1 };
            if misses > MISSES {
                shared.losses.0.send_replace(());
            }
        }
    });
}
