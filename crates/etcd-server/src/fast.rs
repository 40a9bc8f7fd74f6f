//! The calls that clients make most, answered in the connection's own task: service KV, Watch, and a lease's keep-alive.
//!
//! ```text
//!   message ─▶ pb request ─▶ auth: who asks? ─▶ convert ─▶ dyn Store ─▶ Reply ─▶ reply: the store's values straight onto the wire
//! ```
//!
//! Everything else goes to the router of tonic's services. Knows the same store and the same words as they do.

pub(crate) mod reply;
pub(crate) mod wire;

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use etcd_proto::etcdserverpb as pb;
use grpc::{Call, Code, KeepAlive, Methods, Requests, Sender, Server, Status, Streaming, Unary};
use prost::Message;
use tracing::{Instrument, Span, info_span};

use crate::{codes, convert, leader, lease, metrics, range_stream, shared::Shared, watch};
use reply::Reply;

/// The paths, in the order in which they are registered.
pub(crate) const PATHS: [&str; 8] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.KV/RangeStream",
];

/// What a client may do to a connection.
pub(crate) struct Limits {
    pub max_message_bytes: usize,
    pub max_streams: u32,
    pub keep_alive: KeepAlive,
}

/// What is served on connections: the fast methods here, the rest by `router`.
pub(crate) fn server(
    shared: &Arc<Shared>,
    watch: watch::Service,
    router: axum::Router,
    limits: Limits,
    metrics: Option<&metrics::Calls>,
) -> Server<Reply> {
    let [range, put, delete_range, txn, compact, watching, keep_alive, range_stream] = PATHS;
    let (leases, ranges) = (shared.clone(), shared.clone());
    let methods = Methods::default()
        .unary(range, method(shared, || info_span!("etcd/Range"), get))
        .unary(put, method(shared, || info_span!("etcd/Put"), self::put))
        .unary(delete_range, method(shared, || info_span!("etcd/DeleteRange"), delete))
        .unary(txn, method(shared, || info_span!("etcd/Txn"), self::txn))
        .unary(compact, method(shared, || info_span!("etcd/Compact"), self::compact))
        .streaming(watching, move |call, requests, sender| watch.serve(call, requests, sender))
        .streaming(keep_alive, move |call, requests, sender| renew(leases.clone(), call, requests, sender))
        .streaming(range_stream, move |call, requests, sender| {
            range_stream::send(ranges.clone(), call, requests, sender)
        });
    let mut builder = Server::builder(methods)
        .max_message_bytes(limits.max_message_bytes)
        .max_streams(limits.max_streams)
        .keep_alive(limits.keep_alive)
        .fallback(router);
    if let Some(metrics) = metrics {
        builder = builder.observer(metrics.observer(&PATHS));
    }
    builder.build()
}

/// A handler of one message, in a span of its own; one that nobody wants costs nothing here.
fn method<F: Future<Output = Result<Reply, Status>> + Send + 'static>(
    shared: &Arc<Shared>,
    span: fn() -> Span,
    answer: fn(Arc<Shared>, Call, Bytes) -> F,
) -> impl Fn(Call, Bytes) -> Unary<Reply> + use<F> {
    let shared = shared.clone();
    move |call, message| {
        let span = span();
        if !span.is_disabled() {
            let parent = call.metadata("traceparent").and_then(|parent| std::str::from_utf8(parent).ok());
            telemetry::set_parent(&span, parent);
        }
        let answer = answered(shared.clone(), call, message, answer);
        if span.is_disabled() { Box::pin(answer) } else { Box::pin(answer.instrument(span)) }
    }
}

/// An answer, or the refusal of a caller who wants a leader where there is none.
async fn answered<F: Future<Output = Result<Reply, Status>>>(
    shared: Arc<Shared>,
    call: Call,
    message: Bytes,
    answer: fn(Arc<Shared>, Call, Bytes) -> F,
) -> Result<Reply, Status> {
    if leader::wanted(&call) {
        shared.require_leader().await.map_err(status)?;
    }
    answer(shared, call, message).await
}

pub(crate) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}

/// tonic's status as this server tells it.
pub(crate) fn status(status: tonic::Status) -> Status {
    Status::new(Code::from_number(status.code().into()), status.message().to_owned())
}

pub(crate) fn failed(error: store_api::StoreError) -> Status {
    status(codes::status(&error))
}

/// A call with one request ended without it.
pub(crate) fn missing() -> Status {
    Status::new(Code::Internal, "the request's message is missing or not whole")
}

async fn get(shared: Arc<Shared>, call: Call, message: Bytes) -> Result<Reply, Status> {
    let request = decode(message)?;
    let store = shared.access(&call).await.map_err(failed)?;
    let response = store.range(convert::range_request(request).map_err(status)?).await.map_err(failed)?;
    Ok(Reply::Range(shared.head(response.revision), response))
}

async fn put(shared: Arc<Shared>, call: Call, message: Bytes) -> Result<Reply, Status> {
    shared.check_len(message.len()).map_err(status)?;
    let request = decode(message)?;
    let store = shared.access(&call).await.map_err(failed)?;
    let response = store.put(convert::put_request(request)).await.map_err(failed)?;
    Ok(Reply::Put(shared.head(response.revision), response))
}

async fn delete(shared: Arc<Shared>, call: Call, message: Bytes) -> Result<Reply, Status> {
    shared.check_len(message.len()).map_err(status)?;
    let request = decode(message)?;
    let store = shared.access(&call).await.map_err(failed)?;
    let response = store.delete_range(convert::delete_request(request)).await.map_err(failed)?;
    Ok(Reply::DeleteRange(shared.head(response.revision), response))
}

async fn txn(shared: Arc<Shared>, call: Call, message: Bytes) -> Result<Reply, Status> {
    shared.check_len(message.len()).map_err(status)?;
    let request = decode(message)?;
    let store = shared.access(&call).await.map_err(failed)?;
    let response = store.txn(convert::txn_request(request).map_err(status)?).await.map_err(failed)?;
    Ok(Reply::Txn(shared.head(response.revision), response))
}

async fn compact(shared: Arc<Shared>, call: Call, message: Bytes) -> Result<Reply, Status> {
    let request: pb::CompactionRequest = decode(message)?;
    let store = shared.access(&call).await.map_err(failed)?;
    store.compact(request.revision, request.physical).await.map_err(failed)?;
    let revision = shared.revision().await.map_err(status)?;
    Ok(Reply::Compact(shared.head(revision)))
}

/// Answers each keep-alive before it reads the next: the stream's own window is the bound.
fn renew(shared: Arc<Shared>, call: Call, mut requests: Requests, sender: Sender) -> Streaming {
    Box::pin(async move {
        let mut loss = shared.lost_leader(&call).await.map_err(status)?;
        loop {
            let next = tokio::select! {
                biased;
                next = requests.next() => next?,
                lost = loss.happened() => return Err(status(lost)),
            };
            let Some(message) = next else { break };
            let request: pb::LeaseKeepAliveRequest = decode(message)?;
            let answer = lease::keep_alive(&shared, &call, request.id).await.map_err(status)?;
            let told = Bytes::from(answer.encode_to_vec());
            if sender.send(&told).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}
