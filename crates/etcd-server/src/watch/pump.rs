//! Carries one watch's events from the store to the stream's queue.

use std::sync::Arc;

use store_api::{Event, Revision, StoreError, WatchRequest, Watcher};

use super::{
    NO_WATCH,
    control::{Control, Word},
    progress::{Answer, Progress},
    told::{Responses, Told, event_len},
};
use crate::shared::Shared;

pub(super) struct Pump {
    pub shared: Arc<Shared>,
    pub responses: Responses,
    pub progress: Arc<Progress>,
    /// Cancelled by the client's request, and by the pump itself when it ends.
    pub control: Arc<Control>,
    pub id: i64,
    pub fragment: bool,
    pub watcher: Box<dyn Watcher>,
    /// How to take the watch up again; its start follows what was delivered.
    pub request: WatchRequest,
}

/// What a pump works on next.
enum Next {
    Word(Word),
    Told(Result<store_api::WatchResponse, StoreError>),
}

impl Pump {
    pub async fn run(mut self) {
        let ended = self.carry().await;
        self.control.cancel();
        let last = self.request.start_revision.saturating_sub(1);
        let told = self.progress.leave(self.id);
        self.responses.send(Told::canceled(self.shared.head(last), self.id, ended.as_ref())).await;
        if let Some(revision) = told {
            self.send_progress(NO_WATCH, revision).await;
        }
    }

    /// Runs until the client cancels (`None`) or the store ends the watch.
    async fn carry(&mut self) -> Option<StoreError> {
        loop {
            match self.next().await {
                Next::Word(Word::Cancel) => return None,
                Next::Word(Word::Ask) => self.watcher.request_progress(),
                Next::Told(Ok(response)) => self.deliver(response).await,
                Next::Told(Err(StoreError::SlowWatcher)) => match self.shared.store.watch(self.request.clone()).await {
                    Ok(watcher) => {
                        self.watcher = watcher;
                        // A question that was put to the old watcher is put again.
                        self.control.ask();
                    }
                    Err(error) => return Some(error),
                },
                Next::Told(Err(error)) => return Some(error),
            }
        }
    }

    /// A word from the stream goes before what the store has.
    async fn next(&mut self) -> Next {
        let control = &self.control;
        tokio::select! {
            biased;
            word = std::future::poll_fn(|context| control.poll(context)) => Next::Word(word),
            told = self.watcher.next() => Next::Told(told),
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
                    self.control.ask();
                }
                Answer::NotAsked | Answer::NotLast => {}
            }
            return;
        }
        runtime::failpoint!(async "beforeSendWatchResponse");
        let head = self.shared.head(revision);
        if !self.fragment {
            return self.responses.send(Told { events: response.events, ..Told::new(head, self.id) }).await;
        }
        let mut parts = fragments(response.events, self.shared.max_request_bytes).into_iter().peekable();
        while let Some(events) = parts.next() {
            let fragment = parts.peek().is_some();
            self.responses.send(Told { fragment, events, ..Told::new(head, self.id) }).await;
        }
    }

    async fn send_progress(&mut self, id: i64, revision: Revision) {
        self.responses.send(Told::new(self.shared.head(revision), id)).await;
    }
}

/// Splits events into messages of at most `limit` bytes; an event that is larger by itself goes alone.
fn fragments(events: Vec<Arc<Event>>, limit: usize) -> Vec<Vec<Arc<Event>>> {
    let (mut parts, mut part, mut size) = (Vec::new(), Vec::new(), 0usize);
    for event in events {
        let bytes = event_len(&event);
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
    use store_api::{EventKind, KeyValue};

    use super::*;

    #[test]
    fn fragments_keep_order_and_bound() {
        let check = |sizes: &[usize], limit: usize, expected: &[&[usize]]| {
            let value = |n: usize| KeyValue { value: vec![0; n].into(), ..Default::default() };
            let event = |n: &usize| Arc::new(Event { kind: EventKind::Put, kv: value(*n), prev_kv: None });
            let events = sizes.iter().map(event).collect();
            let found: Vec<Vec<usize>> = fragments(events, limit)
                .into_iter()
                .map(|part| part.into_iter().map(|event| event.kv.value.len()).collect())
                .collect();
            assert_eq!(found, expected);
        };
        check(&[10, 20, 30], usize::MAX, &[&[10, 20, 30]]);
        check(&[100, 100, 100], 250, &[&[100, 100], &[100]]);
        check(&[900, 10, 900], 500, &[&[900], &[10], &[900]]);
    }
}
