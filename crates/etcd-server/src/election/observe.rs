//! Follows who leads an election and what the leader says: always the newest, not necessarily everything in between.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use store_api::{Event, EventKind, KeyValue, Revision, Store, StoreError, WatchRequest, Watcher, prefix_end};

use crate::line;

/// A leader's key and value, and the revision at which it was so.
type Leader = (KeyValue, Revision);

pub(super) struct Observer {
    store: Arc<dyn Store>,
    prefix: Bytes,
    /// The leader whose key is watched, if there is one.
    following: Option<Following>,
}

struct Following {
    watcher: Box<dyn Watcher>,
    /// What has arrived and was not handed on yet.
    events: VecDeque<std::sync::Arc<Event>>,
    revision: Revision,
}

impl Observer {
    pub fn new(store: Arc<dyn Store>, prefix: Bytes) -> Self {
        Observer { store, prefix, following: None }
    }

    /// The next leader, or the next word of the same one.
    pub async fn next(&mut self) -> Result<Leader, StoreError> {
        loop {
            let Some(following) = &mut self.following else {
                let (kv, revision) = find(&*self.store, &self.prefix).await?;
                self.following = Some(follow(&*self.store, &kv, revision).await?);
                return Ok((kv, revision));
            };
            match following.next().await {
                Ok(Some(leader)) => return Ok(leader),
                // Gone, or out of sight: whoever leads now is found anew.
                Ok(None) | Err(StoreError::SlowWatcher | StoreError::Compacted { .. }) => self.following = None,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The present leader; without one, the next that stands.
async fn find(store: &dyn Store, prefix: &Bytes) -> Result<Leader, StoreError> {
    loop {
        let answer = store.range(line::oldest(prefix)).await?;
        if let Some(kv) = answer.kvs.into_iter().next() {
            return Ok((kv, answer.revision));
        }
        let (key, range_end) = (prefix.clone(), prefix_end(prefix));
        let start_revision = answer.revision + 1;
        let request = WatchRequest { key, range_end, start_revision, no_delete: true, ..Default::default() };
        match first_put(store, request).await {
            Ok(kv) => {
                let revision = kv.mod_revision;
                return Ok((kv, revision));
            }
            Err(StoreError::SlowWatcher | StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn first_put(store: &dyn Store, request: WatchRequest) -> Result<KeyValue, StoreError> {
    let mut watcher = store.watch(request).await?;
    loop {
        let events = watcher.next().await?.events;
        if let Some(put) = events.into_iter().find(|event| event.kind == EventKind::Put) {
            return Ok(put.kv.clone());
        }
    }
}

async fn follow(store: &dyn Store, leader: &KeyValue, revision: Revision) -> Result<Following, StoreError> {
    let request = WatchRequest { key: leader.key.clone(), start_revision: revision + 1, ..Default::default() };
    Ok(Following { watcher: store.watch(request).await?, events: VecDeque::new(), revision })
}

impl Following {
    /// The leader's next word; `None` when it leads no more.
    async fn next(&mut self) -> Result<Option<Leader>, StoreError> {
        loop {
            match self.events.pop_front() {
                Some(event) if event.kind == EventKind::Delete => return Ok(None),
                Some(event) => return Ok(Some((event.kv.clone(), self.revision))),
                None => {
                    let response = self.watcher.next().await?;
                    self.revision = response.revision;
                    self.events = response.events.into();
                }
            }
        }
    }
}
