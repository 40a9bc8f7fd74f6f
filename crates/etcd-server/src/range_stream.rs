//! KV's RangeStream, which etcd has since 3.7: one range, read at one revision, in portions that fit into a message.

use std::sync::Arc;

use bytes::Bytes;
use etcd_proto::etcdserverpb as pb;
use futures::{Stream, stream};
use grpc::{Call, Encode, Requests, Sender, Streaming};
use store_api::{Charge, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget, Store};
use tonic::Status;

use crate::{
    codes, convert,
    fast::{self, reply::Portion},
    shared::Shared,
};

/// Keys in the first portion. How large they are is known after it.
const FIRST_PORTION: i64 = 10;

struct Reading {
    shared: Arc<Shared>,
    /// The store as the sender of the request may use it.
    store: Arc<dyn Store>,
    /// What is still to be read.
    request: RangeRequest,
    /// Keys that may still be sent; none: all.
    left: Option<i64>,
    sent: i64,
    /// The store's revision at the first portion; later ones do not see what was written since.
    revision: Revision,
}

/// Sends the portions of a range, each when there is room for it on its way: however long the range, it takes the
/// memory of two portions.
pub(crate) fn send(shared: Arc<Shared>, call: Call, mut requests: Requests, sender: Sender) -> Streaming {
    Box::pin(async move {
        let message = requests.next().await?.ok_or_else(fast::missing)?;
        let store = shared.access(&call).await.map_err(fast::failed)?.clone();
        let request = convert::range_request(fast::decode(message)?).map_err(fast::status)?;
        let mut reading = Reading::new(shared, store, request).map_err(fast::status)?;
        // A portion counts until the next one has found room: until then it may wait to be sent.
        let mut before = Charge::default();
        loop {
            let (portion, last) = reading.portion().await.map_err(fast::status)?;
            if sender.send(&portion).await.is_err() || last {
                break;
            }
            drop(std::mem::replace(&mut before, portion.response.charge));
        }
        Ok(())
    })
}

/// The portions of a range, as generated messages.
pub(crate) fn serve(
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    request: RangeRequest,
) -> Result<impl Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send, Status> {
    let reading = Reading::new(shared, store, request)?;
    Ok(stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.portion().await {
            Ok((Portion { head, response }, last)) => {
                let message = convert::range_response(head.unwrap_or_default(), response);
                let range_response = Some(pb::RangeResponse { header: head, ..message });
                Some((Ok(pb::RangeStreamResponse { range_response }), (!last).then_some(reading)))
            }
            Err(status) => Some((Err(status), None)),
        }
    }))
}

impl Reading {
    fn new(shared: Arc<Shared>, store: Arc<dyn Store>, mut request: RangeRequest) -> Result<Self, Status> {
        let by_key = request.sort_order == SortOrder::Ascend && request.sort_target == SortTarget::Key;
        if request.sort_order != SortOrder::None && !by_key {
            return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
        }
        let filters = [request.min_mod_revision, request.max_mod_revision];
        let filters = filters.into_iter().chain([request.min_create_revision, request.max_create_revision]);
        if filters.into_iter().any(|revision| revision != 0) {
            return Err(Status::unimplemented("RangeStream does not support revision filters"));
        }
        let left = (request.limit != 0).then_some(request.limit);
        let mut reading = Reading { shared, store, left, sent: 0, revision: 0, request: RangeRequest::default() };
        // Sorted by key it is anyway; told to sort, the store would read everything first.
        request.sort_order = SortOrder::None;
        reading.request = request;
        reading.set_limit(FIRST_PORTION);
        Ok(reading)
    }

    /// The next portion, and whether it is the last: only that one has a header, the count and whether there is more.
    async fn portion(&mut self) -> Result<(Portion, bool), Status> {
        let answer = self.store.range(self.request.clone()).await.map_err(|error| codes::status(&error))?;
        if self.revision == 0 {
            self.revision = answer.revision;
        }
        if self.request.revision == 0 {
            self.request.revision = self.revision;
        }
        // The first portion was as new as it was asked to be; the rest is older and needs no leader.
        self.request.serializable = true;
        let keys = i64::try_from(answer.kvs.len()).unwrap_or(i64::MAX);
        let count = self.sent + answer.count;
        let next = answer.kvs.last().map(|kv| Bytes::from([&kv.key[..], &[0]].concat()));
        self.sent += keys;
        self.left = self.left.map(|left| left - keys);
        match next {
            Some(next) if answer.more && self.left != Some(0) => {
                let portion = Portion { head: None, response: RangeResponse { more: false, count: 0, ..answer } };
                self.request.key = next;
                self.set_limit(self.next_limit(portion.encoded_len()));
                Ok((portion, false))
            }
            _ => {
                let head = Some(self.shared.head(self.revision));
                Ok((Portion { head, response: RangeResponse { count, ..answer } }, true))
            }
        }
    }

    /// Twice or half as many keys as before, until a portion is about as large as a request may be.
    fn next_limit(&self, size: usize) -> i64 {
        let wanted = self.shared.max_request_bytes;
        match size {
            small if small < wanted / 2 => self.request.limit.saturating_mul(2),
            large if large > wanted.saturating_mul(2) => self.request.limit / 2,
            _ => self.request.limit,
        }
    }

    fn set_limit(&mut self, limit: i64) {
        let left = self.left.unwrap_or(i64::MAX).max(1);
        self.request.limit = limit.clamp(1, left);
        // Only a portion that may be the last one has to say how many keys come after it.
        self.request.skip_count = self.request.limit < left;
    }
}
