//! Service Watch: one stream of requests and one of responses, with many watches on it.
//!
//! ```text
//!   requests ──▶ Stream::run ──create──▶ Pump (one per watch) ──events──▶ queue ──▶ responses
//!                     └──progress──▶ Progress ──ask──▶ every Pump
//! ```
//!
//! The queue is bounded: a client that does not read stops its pumps, the store cuts the watchers off at its own
//! bound, and each pump takes up again from history once the client reads on. Nothing is lost, nothing grows.

mod progress;
mod pump;

use std::{collections::HashMap, sync::Arc};

use etcd_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
    watch_server::Watch,
};
use futures::{Stream as FuturesStream, stream};
use runtime::{CancellationToken, Tasks};
use std::pin::Pin;
use store_api::{Revision, StoreError, Watcher};
use tokio::sync::mpsc;
use tonic::{Extensions, Request, Response, Status, Streaming, async_trait, metadata::MetadataMap};

use crate::{
    auth::{self, Access},
    codes,
    shared::Shared,
};
use progress::Progress;
use pump::Pump;

/// Responses that wait for the connection, over all watches of one stream.
const QUEUE: usize = 64;
/// Watches on one stream.
const MAX_WATCHES: usize = 10_000;
/// The id that stands for no watch: in the answer to a request that failed, and in that to a progress request.
const NO_WATCH: i64 = -1;

type Responses = mpsc::Sender<Result<WatchResponse, Status>>;

pub(crate) struct Service {
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl Service {
    pub fn new(shared: Arc<Shared>, tasks: Tasks) -> Self {
        Service { shared, tasks }
    }
}

#[async_trait]
impl Watch for Service {
    type WatchStream = Pin<Box<dyn FuturesStream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, queue) = mpsc::channel(QUEUE);
        let server_stop = self.tasks.stopping();
        let tasks = self.tasks.child("stream");
        let (metadata, extensions, requests) = request.into_parts();
        let stream = Stream {
            shared: self.shared.clone(),
            sender: (metadata, extensions),
            tasks: tasks.clone(),
            responses,
            progress: Arc::new(Progress::default()),
            watches: HashMap::new(),
            next_id: 0,
        };
        tasks.spawn("requests", stream.run(requests));
        let state = Some((queue, StopOnDrop(tasks), server_stop));
        let out = stream::unfold(state, |state| async move {
            let (mut queue, guard, server_stop) = state?;
            match queue.recv().await {
                Some(response) => Some((response, Some((queue, guard, server_stop)))),
                None if server_stop.is_cancelled() => Some((Err(codes::stopped()), None)),
                None => None,
            }
        });
        Ok(Response::new(Box::pin(out)))
    }
}

/// Ends a stream's tasks when the client goes away.
struct StopOnDrop(Tasks);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The state of one stream, owned by the task that reads its requests.
struct Stream {
    shared: Arc<Shared>,
    /// Who opened the stream; asked anew for each watch, because users and roles may change meanwhile.
    sender: (MetadataMap, Extensions),
    tasks: Tasks,
    responses: Responses,
    progress: Arc<Progress>,
    /// The watches created and not cancelled by the client; one that ended by itself is swept at the bound.
    watches: HashMap<i64, CancellationToken>,
    next_id: i64,
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        loop {
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                // The client has no more requests; its watches go on until it closes the stream.
                Ok(None) => return,
                Err(status) => {
                    let _ = self.responses.send(Err(status)).await;
                    return;
                }
            };
            let served = match request.request_union {
                Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
                Some(RequestUnion::CancelRequest(cancel)) => {
                    // The pump itself confirms, after the last event it has sent.
                    if let Some(token) = self.watches.remove(&cancel.watch_id) {
                        token.cancel();
                    }
                    Ok(())
                }
                Some(RequestUnion::ProgressRequest(_)) => {
                    self.shared.revision().await.map(|revision| self.progress.request(revision))
                }
                // As etcd: a request that holds nothing is passed over.
                None => Ok(()),
            };
            if let Err(status) = served {
                let _ = self.responses.send(Err(status)).await;
                return;
            }
        }
    }

    async fn create(&mut self, create: WatchCreateRequest) -> Result<(), Status> {
        let revision = self.shared.revision().await?;
        let request = watch_request(&create, revision);
        let created = match self.open(request.clone()).await {
            Err(StoreError::Auth(error)) => {
                self.refuse(revision, auth::cancel_reason(error)).await;
                return Ok(());
            }
            created => created,
        };
        let id = match self.admit(&create) {
            Ok(id) => id,
            Err(reason) => {
                self.refuse(revision, reason).await;
                return Ok(());
            }
        };
        let created_response =
            WatchResponse { header: self.shared.header(revision), watch_id: id, created: true, ..Default::default() };
        self.send(created_response).await;
        match created {
            Ok(watcher) => self.start(id, watcher, request, create.fragment),
            Err(error) => self.send(canceled(&self.shared, id, revision, Some(&error))).await,
        }
        Ok(())
    }

    /// Asks the store for a watch, as the one who opened the stream.
    async fn open(&self, request: store_api::WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        let (metadata, extensions) = &self.sender;
        let access = match &self.shared.gate {
            Some(gate) => gate.access(&self.shared.anybody, metadata.as_ref(), extensions).await?,
            None => Access::Open(&self.shared.anybody),
        };
        access.watch(request).await
    }

    /// Tells that there is no new watch, and why.
    async fn refuse(&self, revision: Revision, cancel_reason: String) {
        let (header, watch_id) = (self.shared.header(revision), NO_WATCH);
        let response =
            WatchResponse { header, watch_id, created: true, canceled: true, cancel_reason, ..Default::default() };
        self.send(response).await;
    }

    /// The id of a new watch, or why there is none.
    fn admit(&mut self, create: &WatchCreateRequest) -> Result<i64, String> {
        let end = &create.range_end[..];
        if !end.is_empty() && end != [0] && create.key[..] >= *end {
            return Err("mvcc: watcher range is empty".into());
        }
        if self.watches.len() >= MAX_WATCHES {
            self.watches.retain(|_, token| !token.is_cancelled());
        }
        if self.watches.len() >= MAX_WATCHES {
            return Err(codes::status(&StoreError::TooManyRequests).message().to_owned());
        }
        let live =
            |watches: &HashMap<i64, CancellationToken>, id| watches.get(&id).is_some_and(|token| !token.is_cancelled());
        if create.watch_id != 0 {
            if live(&self.watches, create.watch_id) {
                return Err("mvcc: duplicate watch ID provided on the WatchStream".into());
            }
            return Ok(create.watch_id);
        }
        while live(&self.watches, self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        Ok(id)
    }

    fn start(&mut self, id: i64, watcher: Box<dyn Watcher>, request: store_api::WatchRequest, fragment: bool) {
        let cancel = CancellationToken::new();
        let pump = Pump {
            shared: self.shared.clone(),
            responses: self.responses.clone(),
            ask: self.progress.join(id),
            progress: self.progress.clone(),
            cancel: cancel.clone(),
            id,
            fragment,
            watcher,
            request,
        };
        self.watches.insert(id, cancel);
        self.tasks.spawn("watch", pump.run());
    }

    async fn send(&self, response: WatchResponse) {
        // The receiver is gone only together with the client, and then this task is stopped.
        let _ = self.responses.send(Ok(response)).await;
    }
}

/// The store's request for a wire request. `now` is the revision told in the created response: a watch from "now on"
/// begins exactly after it, so that a client can resume from what it was told.
fn watch_request(create: &WatchCreateRequest, now: Revision) -> store_api::WatchRequest {
    let has = |filter: FilterType| create.filters.contains(&i32::from(filter));
    store_api::WatchRequest {
        no_put: has(FilterType::Noput),
        no_delete: has(FilterType::Nodelete),
        // Without a key the range begins at the smallest one.
        key: if create.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { create.key.clone() },
        range_end: create.range_end.clone(),
        start_revision: if create.start_revision == 0 { now + 1 } else { create.start_revision },
        prev_kv: create.prev_kv,
        progress_notify: create.progress_notify,
    }
}

/// The response that ends a watch: by the client's wish, or by an error.
fn canceled(shared: &Shared, id: i64, revision: Revision, error: Option<&StoreError>) -> WatchResponse {
    let mut response =
        WatchResponse { header: shared.header(revision), watch_id: id, canceled: true, ..Default::default() };
    match error {
        None => {}
        // The revision says it all; clients look for it first.
        Some(StoreError::Compacted { compacted, .. }) => response.compact_revision = *compacted,
        Some(error) => response.cancel_reason = codes::status(error).message().to_owned(),
    }
    response
}
