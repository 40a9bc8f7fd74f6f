//! Keeps the content up: lists the prefix, then watches it, and begins again where either is cut.
//!
//! The only one that changes the content.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use store_api::{RangeRequest, Revision, StoreError, WatchRequest, WatchResponse};

use crate::{
    CacheError,
    cache::{Progress, Shared},
    content::Content,
    subscription::Update,
};

/// Keys that are listed at once.
const PAGE: i64 = 1000;
/// Pauses before the store is asked again after it has failed.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Follower(Arc<Shared>);

/// How one attempt ended.
enum Cut {
    /// The store failed; what was seen stays true.
    Retry(StoreError),
    /// Events that were not seen are gone: only a list helps.
    Relist,
    /// Nothing helps.
    End(CacheError),
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { .. } => Cut::Relist,
            StoreError::Stopped | StoreError::Corrupt(_) | StoreError::InvalidArgument(_) => {
                Cut::End(CacheError::Refused(error))
            }
            error => Cut::Retry(error),
        }
    }
}

impl From<CacheError> for Cut {
    fn from(error: CacheError) -> Self {
        Cut::End(error)
    }
}

impl Follower {
    pub fn new(shared: Arc<Shared>) -> Self {
        Follower(shared)
    }

    /// Follows until it cannot go on; returns why.
    pub async fn run(&self) -> CacheError {
        let mut pause = FIRST_PAUSE;
        let mut listed = false;
        loop {
            let attempt = if listed { self.watch(&mut pause).await } else { self.list().await };
            match attempt {
                Ok(()) => (listed, pause) = (true, FIRST_PAUSE),
                Err(Cut::Relist) => listed = false,
                Err(Cut::End(error)) => return error,
                Err(Cut::Retry(error)) => {
                    tracing::debug!(%error, ?pause, "the store is asked again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// Tells everyone that nothing comes any more, and lets go of the content.
    pub fn end(&self, error: CacheError) {
        tracing::debug!(%error, "the cache ends");
        self.0.progress.send_replace(Progress::Ended(error));
        *self.0.content.write() = Content::default();
        *self.0.updates.lock() = None;
    }

    /// Reads the prefix at one revision, page by page, and replaces the content.
    async fn list(&self) -> Result<(), Cut> {
        let shared = &self.0;
        let mut content = Content::default();
        let mut next = shared.start.clone();
        loop {
            let request = RangeRequest {
                key: next,
                range_end: shared.end.clone(),
                limit: PAGE,
                revision: content.revision,
                ..Default::default()
            };
            let answer = shared.options.store.range(request).await?;
            if content.revision == 0 {
                content.revision = answer.revision;
            }
            let last = answer.kvs.last().map(|kv| kv.key.clone());
            answer.kvs.into_iter().try_for_each(|kv| content.insert(kv, &shared.options.limits))?;
            match last {
                Some(last) if answer.more => next = after(&last),
                _ => break,
            }
        }
        let (had, found) = (shared.content.read().revision, content.revision);
        if found < had {
            return Err(CacheError::WentBack { had, found }.into());
        }
        *shared.content.write() = content;
        self.tell(found, Update::Listed { revision: found });
        Ok(())
    }

    /// Takes in events after what is held, until the watch is cut.
    async fn watch(&self, pause: &mut Duration) -> Result<(), Cut> {
        let shared = &self.0;
        let seen = shared.content.read().revision;
        let request = WatchRequest {
            key: shared.start.clone(),
            range_end: shared.end.clone(),
            start_revision: seen + 1,
            progress_notify: true,
            ..Default::default()
        };
        let mut watcher = shared.options.store.watch(request).await?;
        loop {
            tokio::select! {
                response = watcher.next() => {
                    self.take(response?)?;
                    *pause = FIRST_PAUSE;
                }
                () = shared.asked.notified() => watcher.request_progress(),
            }
        }
    }

    fn take(&self, response: WatchResponse) -> Result<(), Cut> {
        let shared = &self.0;
        let WatchResponse { revision, events } = response;
        // While etcd catches up, each of its responses names the store's newest revision and not that of its own last
        // event: only progress, which has no events, says that all events are there.
        let revision = events.last().map_or(revision, |event| event.kv.mod_revision);
        {
            let mut content = shared.content.write();
            if revision <= content.revision {
                return Ok(());
            }
            content.apply(&events, &shared.options.limits)?;
            content.revision = revision;
        }
        if events.is_empty() {
            shared.progress.send_replace(Progress::At(revision));
        } else {
            self.tell(revision, Update::Events { revision, events: events.into() });
        }
        Ok(())
    }

    fn tell(&self, revision: Revision, update: Update) {
        self.0.progress.send_replace(Progress::At(revision));
        if let Some(updates) = &*self.0.updates.lock() {
            // Nobody has to listen.
            let _ = updates.send(update);
        }
    }
}

/// The first key after another.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
