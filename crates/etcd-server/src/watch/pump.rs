//! Carries one watch's events from the store to the stream's queue.

use std::sync::Arc;

use etcd_proto::{etcdserverpb::WatchResponse, mvccpb};
use prost::Message;
use runtime::CancellationToken;
use store_api::{Revision, StoreError, WatchRequest, Watcher};
use tokio::sync::Notify;

use super::{
    NO_WATCH, Responses, canceled,
    progress::{Answer, Progress},
};
use crate::{convert, shared::Shared};

pub(super) struct Pump {
    pub shared: Arc<Shared>,
    pub responses: Responses,
    pub progress: Arc<Progress>,
    /// Told when the client wants to know how far this watch is.
    pub ask: Arc<Notify>,
    /// Cancelled by the client's request, and by the pump itself when it ends.
    pub cancel: CancellationToken,
    pub id: i64,
    pub fragment: bool,
    pub watcher: Box<dyn Watcher>,
    /// How to take the watch up again; its start follows what was delivered.
    pub request: WatchRequest,
}

impl Pump {
    pub async fn run(mut self) {
        let ended = self.carry().await;
        self.cancel.cancel();
        let last = self.request.start_revision.saturating_sub(1);
        let told = self.progress.leave(self.id);
        self.send(canceled(&self.shared, self.id, last, ended.as_ref())).await;
        if let Some(revision) = told {
            self.send_progress(NO_WATCH, revision).await;
        }
    }

    /// Runs until the client cancels (`None`) or the store ends the watch.
    async fn carry(&mut self) -> Option<StoreError> {
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                () = self.ask.notified() => self.watcher.request_progress(),
                next = self.watcher.next() => match next {
                    Ok(response) => self.deliver(response).await,
                    Err(StoreError::SlowWatcher) => match self.shared.store.watch(self.request.clone()).await {
                        Ok(watcher) => {
                            self.watcher = watcher;
                            // A question that was put to the old watcher is put again.
                            self.ask.notify_one();
                        }
                        Err(error) => return Some(error),
                    },
                    Err(error) => return Some(error),
                },
            }
        }
    }

    async fn deliver(&mut self, response: store_api::WatchResponse) {
        let revision = response.revision;
        self.request.start_revision = self.request.start_revision.max(revision + 1);
        if response.events.is_empty() {
            match self.progress.answered(self.id, revision) {
                Answer::Last(all) => self.send_progress(NO_WATCH, all).await,
                Answer::NotAsked if self.request.progress_notify => self.send_progress(self.id, revision).await,
                Answer::TooEarly => {
                    tokio::task::yield_now().await;
                    self.ask.notify_one();
                }
                Answer::NotAsked | Answer::NotLast => {}
            }
            return;
        }
        let events: Vec<_> = response.events.into_iter().map(Arc::unwrap_or_clone).map(convert::event).collect();
        let limit = if self.fragment { self.shared.max_request_bytes } else { usize::MAX };
        let mut parts = fragments(events, limit).into_iter().peekable();
        while let Some(events) = parts.next() {
            self.send(WatchResponse {
                header: self.shared.header(revision),
                watch_id: self.id,
                fragment: parts.peek().is_some(),
                events,
                ..Default::default()
            })
            .await;
        }
    }

    async fn send_progress(&mut self, watch_id: i64, revision: Revision) {
        self.send(WatchResponse { header: self.shared.header(revision), watch_id, ..Default::default() }).await;
    }

    async fn send(&mut self, response: WatchResponse) {
        // The receiver is gone only together with the client, and then this task is stopped.
        let _ = self.responses.send(Ok(response)).await;
    }
}

/// Splits events into messages of at most `limit` bytes; an event that is larger by itself goes alone.
fn fragments(events: Vec<mvccpb::Event>, limit: usize) -> Vec<Vec<mvccpb::Event>> {
    let (mut parts, mut part, mut size) = (Vec::new(), Vec::new(), 0usize);
    for event in events {
        let bytes = if limit == usize::MAX { 0 } else { event.encoded_len() };
        if !part.is_empty() && size.saturating_add(bytes) > limit {
            parts.push(std::mem::take(&mut part));
            size = 0;
        }
        size += bytes;
        part.push(event);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_keep_order_and_bound() {
        let check = |sizes: &[usize], limit: usize, expected: &[&[usize]]| {
            let value = |n: usize| mvccpb::KeyValue { value: vec![0; n].into(), ..Default::default() };
            let events = sizes.iter().map(|n| mvccpb::Event { kv: Some(value(*n)), ..Default::default() }).collect();
            let found: Vec<Vec<usize>> = fragments(events, limit)
                .into_iter()
                .map(|part| part.into_iter().map(|e| e.kv.unwrap().value.len()).collect())
                .collect();
            assert_eq!(found, expected);
        };
        check(&[10, 20, 30], usize::MAX, &[&[10, 20, 30]]);
        check(&[100, 100, 100], 250, &[&[100, 100], &[100]]);
        check(&[900, 10, 900], 500, &[&[900], &[10], &[900]]);
    }
}
