//! The calls that clients make most, answered in the connection's own task: service KV, Watch, and a lease's keep-alive.
//!
//! ```text
//!   message ─▶ pb request ─▶ convert ─▶ dyn Store ─▶ Reply ─▶ reply: the store's values straight onto the wire
//! ```
//!
//! Everything else goes to the router of tonic's services. Knows the same store and the same words as they do.

pub(crate) mod reply;
pub(crate) mod wire;

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use etcd_proto::etcdserverpb as pb;
use grpc::{Code, Methods, Requests, Sender, Server, Status, Streaming, Unary};
use prost::Message;
use tracing::{Instrument, Span, info_span};

use crate::{codes, convert, lease, metrics, shared::Shared, watch};
use reply::Reply;

/// The paths, in the order in which they are registered.
pub(crate) const PATHS: [&str; 7] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
];

/// What is served on connections: the fast methods here, the rest by `router`.
pub(crate) fn server(
    shared: &Arc<Shared>,
    watch: watch::Service,
    router: axum::Router,
    max_message_bytes: usize,
    metrics: Option<&metrics::Calls>,
) -> Server<Reply> {
    let [range, put, delete_range, txn, compact, watching, keep_alive] = PATHS;
    let leases = shared.clone();
    let methods = Methods::default()
        .unary(range, method(shared, |shared, message| traced(info_span!("etcd/Range"), get(shared, message))))
        .unary(put, method(shared, |shared, message| traced(info_span!("etcd/Put"), self::put(shared, message))))
        .unary(
            delete_range,
            method(shared, |shared, message| traced(info_span!("etcd/DeleteRange"), delete(shared, message))),
        )
        .unary(txn, method(shared, |shared, message| traced(info_span!("etcd/Txn"), self::txn(shared, message))))
        .unary(
            compact,
            method(shared, |shared, message| traced(info_span!("etcd/Compact"), self::compact(shared, message))),
        )
        .streaming(watching, move |_, requests, sender| watch.serve(requests, sender))
        .streaming(keep_alive, move |_, requests, sender| renew(leases.clone(), requests, sender));
    let mut builder = Server::builder(methods).max_message_bytes(max_message_bytes).fallback(router);
    if let Some(metrics) = metrics {
        builder = builder.observer(metrics.observer(&PATHS));
    }
    builder.build()
}

fn method<F: Fn(Arc<Shared>, Bytes) -> Unary<Reply>>(
    shared: &Arc<Shared>,
    answer: F,
) -> impl Fn(grpc::Call, Bytes) -> Unary<Reply> + use<F> {
    let shared = shared.clone();
    move |_, message| answer(shared.clone(), message)
}

/// A span that nobody wants costs nothing here.
fn traced(span: Span, answer: impl Future<Output = Result<Reply, Status>> + Send + 'static) -> Unary<Reply> {
    if span.is_disabled() { Box::pin(answer) } else { Box::pin(answer.instrument(span)) }
}

pub(crate) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}

/// tonic's status as this server tells it.
pub(crate) fn status(status: tonic::Status) -> Status {
    Status::new(Code::from_number(status.code().into()), status.message().to_owned())
}

fn failed(error: store_api::StoreError) -> Status {
    status(codes::status(&error))
}

async fn get(shared: Arc<Shared>, message: Bytes) -> Result<Reply, Status> {
    let request = convert::range_request(decode(message)?).map_err(status)?;
    let response = shared.store.range(request).await.map_err(failed)?;
    Ok(Reply::Range(shared.head(response.revision), response))
}

async fn put(shared: Arc<Shared>, message: Bytes) -> Result<Reply, Status> {
    shared.check_len(message.len()).map_err(status)?;
    let request = convert::put_request(decode(message)?);
    let response = shared.store.put(request).await.map_err(failed)?;
    Ok(Reply::Put(shared.head(response.revision), response))
}

async fn delete(shared: Arc<Shared>, message: Bytes) -> Result<Reply, Status> {
    shared.check_len(message.len()).map_err(status)?;
    let request = convert::delete_request(decode(message)?);
    let response = shared.store.delete_range(request).await.map_err(failed)?;
    Ok(Reply::DeleteRange(shared.head(response.revision), response))
}

async fn txn(shared: Arc<Shared>, message: Bytes) -> Result<Reply, Status> {
    shared.check_len(message.len()).map_err(status)?;
    let request = convert::txn_request(decode(message)?).map_err(status)?;
    let response = shared.store.txn(request).await.map_err(failed)?;
    Ok(Reply::Txn(shared.head(response.revision), response))
}

async fn compact(shared: Arc<Shared>, message: Bytes) -> Result<Reply, Status> {
    let request: pb::CompactionRequest = decode(message)?;
    shared.store.compact(request.revision, request.physical).await.map_err(failed)?;
    let revision = shared.revision().await.map_err(status)?;
    Ok(Reply::Compact(shared.head(revision)))
}

/// Answers each keep-alive before it reads the next: the stream's own window is the bound.
fn renew(shared: Arc<Shared>, mut requests: Requests, sender: Sender) -> Streaming {
    Box::pin(async move {
        while let Some(message) = requests.next().await? {
            let request: pb::LeaseKeepAliveRequest = decode(message)?;
            let answer = lease::keep_alive(&shared, request.id).await.map_err(status)?;
            let told = Bytes::from(answer.encode_to_vec());
            if sender.send(&told).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}
