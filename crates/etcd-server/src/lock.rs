//! Service Lock: a lock that the server takes for its client. It is held as long as its key, and the key as long as
//! its lease.

use std::sync::Arc;

use etcd_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock};
use runtime::Tasks;
use store_api::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    line::{self, told},
    shared::Shared,
};

pub(crate) struct Service {
    pub shared: Arc<Shared>,
    pub tasks: Tasks,
}

#[async_trait]
impl Lock for Service {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let store = self.shared.store_for(&request).await?.clone();
        let request = request.into_inner();
        let lease = line::lease(&*store, request.lease).await.map_err(told)?;
        let prefix = line::prefix(&request.name);
        let key = line::key(&prefix, lease);
        let put = PutRequest { key: key.clone(), lease, ..Default::default() };
        let holder = RequestOp::Range(line::oldest(&prefix));
        let enter = TxnRequest {
            compare: vec![line::created_at(&key, 0)],
            success: vec![RequestOp::Put(put), holder.clone()],
            failure: vec![RequestOp::Range(RangeRequest::key(key.clone())), holder],
        };
        let (entered, place) = line::enter(&store, &self.tasks, &key, enter).await.map_err(told)?;
        let oldest = line::created(entered.responses.get(1));
        if oldest.is_none_or(|oldest| oldest == place.created) {
            place.keep();
            return Ok(Response::new(LockResponse { header: self.shared.header(entered.revision), key }));
        }
        line::wait_for_turn(&*store, &prefix, place.created).await.map_err(told)?;
        // The lease may have ended while its key stood in line.
        let own = store.range(RangeRequest::key(key.clone())).await.map_err(told)?;
        place.keep();
        if own.kvs.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(Response::new(LockResponse { header: self.shared.header(own.revision), key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let store = self.shared.store_for(&request).await?;
        let delete = DeleteRangeRequest { key: request.into_inner().key, ..Default::default() };
        let answer = store.delete_range(delete).await.map_err(told)?;
        Ok(Response::new(UnlockResponse { header: self.shared.header(answer.revision) }))
    }
}
