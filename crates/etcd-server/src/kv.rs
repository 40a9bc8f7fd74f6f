//! Service KV: reads, writes, transactions, compaction.

use std::{pin::Pin, sync::Arc};

use etcd_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse, kv_server::Kv,
};
use futures::Stream;
use tonic::{Request, Response, Status, async_trait};

use crate::{codes, convert, range_stream, shared::Shared};

pub(crate) struct Service(pub Arc<Shared>);

#[async_trait]
impl Kv for Service {
    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

    #[tracing::instrument(level = "info", name = "etcd/Range", skip_all)]
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let store = self.0.store_for(&request).await?;
        let request = convert::range_request(request.into_inner())?;
        let response = store.range(request).await.map_err(|e| codes::status(&e))?;
        let charge = response.charge.clone();
        let mut answer = Response::new(convert::range_response(self.0.head(response.revision), response));
        // The answer's head is there until its last byte is sent.
        answer.extensions_mut().insert(charge);
        Ok(answer)
    }

    #[tracing::instrument(level = "info", name = "etcd/RangeStream", skip_all)]
    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        let store = self.0.store_for(&request).await?.clone();
        let request = convert::range_request(request.into_inner())?;
        Ok(Response::new(Box::pin(range_stream::serve(self.0.clone(), store, request)?)))
    }

    #[tracing::instrument(level = "info", name = "etcd/Put", skip_all)]
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.0.check_size(request.get_ref())?;
        let store = self.0.store_for(&request).await?;
        let request = convert::put_request(request.into_inner());
        let response = store.put(request).await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(convert::put_response(self.0.head(response.revision), response)))
    }

    #[tracing::instrument(level = "info", name = "etcd/DeleteRange", skip_all)]
    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.0.check_size(request.get_ref())?;
        let store = self.0.store_for(&request).await?;
        let request = convert::delete_request(request.into_inner());
        let response = store.delete_range(request).await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(convert::delete_response(self.0.head(response.revision), response)))
    }

    #[tracing::instrument(level = "info", name = "etcd/Txn", skip_all)]
    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.0.check_size(request.get_ref())?;
        let store = self.0.store_for(&request).await?;
        let request = convert::txn_request(request.into_inner())?;
        let response = store.txn(request).await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(convert::txn_response(self.0.head(response.revision), response)))
    }

    #[tracing::instrument(level = "info", name = "etcd/Compact", skip_all)]
    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        let store = self.0.store_for(&request).await?;
        let request = request.into_inner();
        let compacted = store.compact(request.revision, request.physical).await;
        compacted.map_err(|e| codes::status(&e))?;
        Ok(Response::new(CompactionResponse { header: self.0.header_now().await? }))
    }
}
