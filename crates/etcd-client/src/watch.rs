//! One watch on one gRPC stream.

use std::sync::Arc;

use async_trait::async_trait;
use etcd_proto::etcdserverpb::{
    self as pb, WatchProgressRequest, watch_client::WatchClient, watch_request::RequestUnion,
};
use store_api::{self as api, Revision, StoreError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::MetadataValue, transport::Channel};

use crate::{
    convert,
    errors::{Context, store_error},
};

/// Requests on their way to the server: the creation, and questions for progress, of which one waiting is enough.
const QUEUE: usize = 2;

pub(crate) struct Watcher {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    start: Revision,
}

/// Creates the watch and waits for the server's word that it stands.
pub(crate) async fn open(mut client: WatchClient<Channel>, request: api::WatchRequest) -> Result<Watcher, StoreError> {
    let start = request.start_revision;
    let context = Context::revision(start);
    let (requests, queue) = mpsc::channel(QUEUE);
    // The queue has room for it: nothing else was sent.
    let _ = requests.try_send(convert::watch_request(request));
    let mut call = Request::new(ReceiverStream::new(queue));
    // A member that has lost its leader would be silent for ever; asked so, it ends the stream.
    call.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let responses = client.watch(call).await.map_err(|status| store_error(&status, context))?.into_inner();
    let mut watcher = Watcher { requests, responses, start };
    let created = watcher.message().await?;
    if !created.created {
        return Err(StoreError::Unavailable("etcd began a watch without saying that it stands".into()));
    }
    Ok(watcher)
}

impl Watcher {
    /// The next message that does not end the watch.
    async fn message(&mut self) -> Result<pb::WatchResponse, StoreError> {
        let context = Context::revision(self.start);
        let message = self.responses.message().await.map_err(|status| store_error(&status, context))?;
        let message = message.ok_or_else(|| StoreError::Unavailable("etcd ended the watch's stream".into()))?;
        match message {
            pb::WatchResponse { compact_revision, .. } if compact_revision != 0 => {
                Err(StoreError::Compacted { requested: self.start, compacted: compact_revision })
            }
            pb::WatchResponse { canceled: true, cancel_reason, .. } => {
                Err(store_error(&tonic::Status::cancelled(cancel_reason), context))
            }
            message => Ok(message),
        }
    }
}

#[async_trait]
impl api::Watcher for Watcher {
    async fn next(&mut self) -> Result<api::WatchResponse, StoreError> {
        let message = self.message().await?;
        Ok(api::WatchResponse {
            revision: convert::revision(message.header.as_ref()),
            events: message.events.into_iter().map(convert::event).map(Arc::new).collect(),
        })
    }

    fn request_progress(&self) {
        let request = pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
        // A full queue holds the same question already.
        let _ = self.requests.try_send(request);
    }
}
