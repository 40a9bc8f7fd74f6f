//! Service Watch: one stream of requests and one of responses, with many watches on it.
//!
//! ```text
//!   requests ──▶ Stream::run ──create──▶ Pump (one per watch) ──events──▶ queue ──▶ responses
//!                     └──progress──▶ Progress ──ask──▶ every Pump
//! ```
//!
//! All of a stream's pumps run in the stream's own task: an event that concerns many of them wakes it once. The queue is
//! bounded: a client that does not read stops its pumps, the store cuts the watchers off at its own bound, and each pump
//! takes up again from history once the client reads on. Nothing is lost, nothing grows.

mod control;
mod progress;
mod pump;
mod told;

use std::{collections::HashMap, pin::Pin, sync::Arc};

use etcd_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
    watch_server::Watch,
};
use futures::{
    FutureExt, Stream as FuturesStream,
    future::BoxFuture,
    stream::{self, FuturesUnordered, StreamExt},
};
use runtime::Tasks;
use store_api::{Revision, StoreError, Watcher};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    auth::{self, Head},
    codes, fast,
    shared::Shared,
};
use control::Control;
use progress::Progress;
use pump::Pump;
use told::{Responses, Told};

/// Responses that wait for a connection of tonic's, over all watches of one stream.
const QUEUE: usize = 64;
/// Watches on one stream.
const MAX_WATCHES: usize = 10_000;
/// The id that stands for no watch: in the answer to a request that failed, and in that to a progress request.
const NO_WATCH: i64 = -1;

#[derive(Clone)]
pub(crate) struct Service {
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl Service {
    pub fn new(shared: Arc<Shared>, tasks: Tasks) -> Self {
        Service { shared, tasks }
    }

    /// Serves a stream of a fast connection, in the connection's task.
    pub fn serve(&self, call: grpc::Call, requests: grpc::Requests, sender: grpc::Sender) -> grpc::Streaming {
        let (shared, head) = (self.shared.clone(), call.clone());
        let stream = Stream::new(self.shared.clone(), Box::new(call), Responses::Fast(sender));
        // In a set, so that it is looked at when it was woken, and not for every event of every stream.
        let mut stop = FuturesUnordered::from_iter([self.tasks.stopping().cancelled_owned()]);
        Box::pin(async move {
            let mut loss = shared.lost_leader(&head).await.map_err(fast::status)?;
            let mut lost = FuturesUnordered::from_iter([loss.happened()]);
            tokio::select! {
                biased;
                Some(()) = stop.next() => Err(fast::status(codes::stopped())),
                Some(status) = lost.next() => Err(fast::status(status)),
                ended = stream.run(Requests::Fast(requests)) => ended.map_err(fast::status),
            }
        })
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
        let sender = Box::new((metadata, extensions));
        let stream = Stream::new(self.shared.clone(), sender, Responses::Tonic(responses.clone()));
        let requests = Requests::Tonic(requests);
        tasks.spawn("requests", async move {
            if let Err(status) = stream.run(requests).await {
                // The receiver is gone only together with the client.
                let _ = responses.send(Err(status)).await;
            }
        });
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

/// Where a stream's requests come from.
enum Requests {
    Fast(grpc::Requests),
    Tonic(Streaming<WatchRequest>),
}

impl Requests {
    /// The next request; `None` once there are no more. Cancel safe.
    async fn next(&mut self) -> Result<Option<WatchRequest>, Status> {
        match self {
            Requests::Tonic(requests) => requests.message().await,
            Requests::Fast(requests) => match requests.next().await.map_err(told::tonic_status)? {
                Some(message) => fast::decode(message).map(Some).map_err(told::tonic_status),
                None => Ok(None),
            },
        }
    }
}

/// The state of one stream, owned by the task that reads its requests.
struct Stream {
    shared: Arc<Shared>,
    /// Who opened the stream; asked anew for each watch, because users and roles may change meanwhile.
    sender: Box<dyn Head>,
    responses: Responses,
    progress: Arc<Progress>,
    /// The watches created and not cancelled by the client; one that ended by itself is swept at the bound.
    watches: HashMap<i64, Arc<Control>>,
    next_id: i64,
    pumps: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Stream {
    fn new(shared: Arc<Shared>, sender: Box<dyn Head>, responses: Responses) -> Self {
        let (progress, watches) = (Arc::new(Progress::default()), HashMap::new());
        Stream { shared, sender, responses, progress, watches, next_id: 0, pumps: FuturesUnordered::new() }
    }

    /// Runs until the client breaks off or a request cannot be served; the future is dropped when the client is gone.
    async fn run(mut self, mut requests: Requests) -> Result<(), Status> {
        loop {
            let request = tokio::select! {
                biased;
                Some(()) = self.pumps.next() => continue,
                request = requests.next() => request?,
            };
            match request {
                Some(request) => self.serve(request).await?,
                None => break,
            }
        }
        // The client has no more requests; its watches go on until it closes the stream.
        loop {
            match self.pumps.next().await {
                Some(()) => {}
                None => std::future::pending().await,
            }
        }
    }

    async fn serve(&mut self, request: WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await?,
            Some(RequestUnion::CancelRequest(cancel)) => {
                // The pump itself confirms, after the last event it has sent.
                if let Some(control) = self.watches.remove(&cancel.watch_id) {
                    control.cancel();
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.progress.request(self.shared.revision().await?),
            // As etcd: a request that holds nothing is passed over.
            None => {}
        }
        Ok(())
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
        self.send(Told { created: true, ..self.told(revision, id) }).await;
        match created {
            Ok(watcher) => self.start(id, watcher, request, create.fragment),
            Err(error) => self.send(Told::canceled(self.shared.head(revision), id, Some(&error))).await,
        }
        Ok(())
    }

    /// Asks the store for a watch, as the one who opened the stream.
    async fn open(&mut self, request: store_api::WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        self.shared.access(&*self.sender).await?.watch(request).await
    }

    /// Tells that there is no new watch, and why.
    async fn refuse(&mut self, revision: Revision, reason: String) {
        self.send(Told { created: true, canceled: true, reason, ..self.told(revision, NO_WATCH) }).await;
    }

    fn told(&self, revision: Revision, id: i64) -> Told {
        Told::new(self.shared.head(revision), id)
    }

    /// The id of a new watch, or why there is none.
    fn admit(&mut self, create: &WatchCreateRequest) -> Result<i64, String> {
        let end = &create.range_end[..];
        if !end.is_empty() && end != [0] && create.key[..] >= *end {
            return Err("mvcc: watcher range is empty".into());
        }
        if self.watches.len() >= MAX_WATCHES {
            self.watches.retain(|_, control| !control.is_cancelled());
        }
        if self.watches.len() >= MAX_WATCHES {
            return Err(codes::status(&StoreError::TooManyRequests).message().to_owned());
        }
        let live =
            |watches: &HashMap<i64, Arc<Control>>, id| watches.get(&id).is_some_and(|control| !control.is_cancelled());
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
        let control = Arc::new(Control::default());
        self.progress.join(id, control.clone());
        let pump = Pump {
            shared: self.shared.clone(),
            responses: self.responses.clone(),
            progress: self.progress.clone(),
            control: control.clone(),
            id,
            fragment,
            watcher,
            request,
        };
        self.watches.insert(id, control);
        self.pumps.push(pump.run().boxed());
    }

    async fn send(&mut self, told: Told) {
        self.responses.send(told).await;
    }
}

/// The store's request for a wire request. `now` is the revision told in the created response: a watch from "now on"
/// begins exactly after it, so that a client can resume from what it was told.
fn watch_request(create: &WatchCreateRequest, now: Revision) -> store_api::WatchRequest {
    let has = |filter: FilterType| create.filters.contains(&i32::from(filter));
    store_api::WatchRequest {
        no_put: has(FilterType::Noput),
        no_delete: has(FilterType::Nodelete),
        // Without a key the range begins at the smallest one; what is watched for long does not hold a read buffer.
        key: bytes::Bytes::copy_from_slice(if create.key.is_empty() { &[0] } else { &create.key }),
        range_end: bytes::Bytes::copy_from_slice(&create.range_end),
        start_revision: if create.start_revision == 0 { now + 1 } else { create.start_revision },
        prev_kv: create.prev_kv,
        progress_notify: create.progress_notify,
    }
}
