//! KV's RangeStream, which etcd has since 3.7: one range, read at one revision, in portions that fit into a message.

use std::sync::Arc;

use bytes::Bytes;
use etcd_proto::etcdserverpb::{RangeResponse, RangeStreamResponse};
use futures::{Stream, stream};
use prost::Message;
use store_api::{RangeRequest, Revision, SortOrder, SortTarget, Store};
use tonic::Status;

use crate::{codes, convert, shared::Shared};

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

/// The portions of a range.
pub(crate) fn serve(
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    mut request: RangeRequest,
) -> Result<impl Stream<Item = Result<RangeStreamResponse, Status>> + Send, Status> {
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
    request.limit = FIRST_PORTION.min(left.unwrap_or(FIRST_PORTION));
    let reading = Reading { shared, store, request, left, sent: 0, revision: 0 };
    Ok(stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.portion().await {
            Ok((portion, last)) => {
                let response = RangeStreamResponse { range_response: Some(portion) };
                Some((Ok(response), (!last).then_some(reading)))
            }
            Err(status) => Some((Err(status), None)),
        }
    }))
}

impl Reading {
    /// The next portion, and whether it is the last: only that one has a header, the count and whether there is more.
    async fn portion(&mut self) -> Result<(RangeResponse, bool), Status> {
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
        let (count, more) = (self.sent + answer.count, answer.more);
        let next = answer.kvs.last().map(|kv| Bytes::from([&kv.key[..], &[0]].concat()));
        self.sent += keys;
        self.left = self.left.map(|left| left - keys);
        let kvs = answer.kvs.into_iter().map(convert::key_value).collect();
        let portion = RangeResponse { kvs, ..Default::default() };
        match next {
            Some(next) if more && self.left != Some(0) => {
                self.request.key = next;
                self.request.limit = self.next_limit(portion.encoded_len());
                Ok((portion, false))
            }
            _ => Ok((RangeResponse { header: self.shared.header(self.revision), count, more, ..portion }, true)),
        }
    }

    /// Twice or half as many keys as before, until a portion is about as large as a request may be.
    fn next_limit(&self, size: usize) -> i64 {
        let wanted = self.shared.max_request_bytes;
        let limit = match size {
            small if small < wanted / 2 => self.request.limit.saturating_mul(2),
            large if large > wanted.saturating_mul(2) => self.request.limit / 2,
            _ => self.request.limit,
        };
        limit.clamp(1, self.left.unwrap_or(i64::MAX).max(1))
    }
}
