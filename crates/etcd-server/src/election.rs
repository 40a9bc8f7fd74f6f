//! Service Election: the oldest candidate leads, until its key or its lease is gone.

mod observe;

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use etcd_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse, election_server::Election,
};
use futures::{Stream, stream};
use runtime::Tasks;
use store_api::{PutRequest, RangeRequest, RequestOp, ResponseOp, Revision, Store, TxnRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    convert,
    line::{self, Place, told},
    shared::Shared,
};
use observe::Observer;

pub(crate) struct Service {
    pub shared: Arc<Shared>,
    pub tasks: Tasks,
}

#[async_trait]
impl Election for Service {
    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        let store = self.shared.store_for(&request).await?.clone();
        let request = request.into_inner();
        let lease = line::lease(&*store, request.lease).await.map_err(told)?;
        let prefix = line::prefix(&request.name);
        let candidate = Candidate { key: line::key(&prefix, lease), lease, value: request.value };
        let (place, revision) = candidate.stand(&store, &self.tasks).await?;
        let created = place.created;
        let waited = line::wait_for_turn(&*store, &prefix, created).await;
        // As in etcd: only a client that goes away gives its candidacy up. One that is told an error may ask again.
        place.keep();
        waited.map_err(told)?;
        let leader = LeaderKey { name: request.name, key: candidate.key, rev: created, lease };
        Ok(Response::new(CampaignResponse { header: self.shared.header(revision), leader: Some(leader) }))
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        let store = self.shared.store_for(&request).await?;
        let request = request.into_inner();
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let candidate = Candidate { key: leader.key, lease: leader.lease, value: request.value };
        let revision = candidate.proclaim(&**store, leader.rev).await?;
        Ok(Response::new(ProclaimResponse { header: self.shared.header(revision) }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let store = self.shared.store_for(&request).await?;
        let oldest = line::oldest(&line::prefix(&request.into_inner().name));
        let answer = store.range(oldest).await.map_err(told)?;
        let kv = answer.kvs.into_iter().next().ok_or_else(|| Status::unknown("election: no leader"))?;
        let header = self.shared.header(answer.revision);
        Ok(Response::new(LeaderResponse { header, kv: Some(convert::key_value(kv)) }))
    }

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let store = self.shared.store_for(&request).await?.clone();
        let observer = Observer::new(store, line::prefix(&request.into_inner().name));
        let leaders = stream::unfold(Some((self.shared.clone(), observer)), |state| async move {
            let (shared, mut observer) = state?;
            match observer.next().await {
                Ok((kv, revision)) => {
                    let header = shared.header(revision);
                    let response = LeaderResponse { header, kv: Some(convert::key_value(kv)) };
                    Some((Ok(response), Some((shared, observer))))
                }
                Err(error) => Some((Err(told(error)), None)),
            }
        });
        Ok(Response::new(Box::pin(leaders)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let store = self.shared.store_for(&request).await?;
        let leader = request.into_inner().leader.ok_or_else(no_leader_key)?;
        let revision = line::leave(&**store, &leader.key, leader.rev).await.map_err(told)?;
        Ok(Response::new(ResignResponse { header: self.shared.header(revision) }))
    }
}

/// What one of the line has to say.
struct Candidate {
    key: Bytes,
    lease: i64,
    value: Bytes,
}

impl Candidate {
    /// Stands in line, or goes on standing there with a new value. Returns the revision at which it was asked, too.
    async fn stand(&self, store: &Arc<dyn Store>, tasks: &Tasks) -> Result<(Place, Revision), Status> {
        let enter = TxnRequest {
            compare: vec![line::created_at(&self.key, 0)],
            success: vec![self.put()],
            failure: vec![RequestOp::Range(RangeRequest::key(self.key.clone()))],
        };
        let (entered, place) = line::enter(store, tasks, &self.key, enter).await.map_err(told)?;
        let standing = match entered.responses.first() {
            Some(ResponseOp::Range(range)) => range.kvs.first(),
            _ => None,
        };
        if standing.is_none_or(|standing| standing.value == self.value) {
            return Ok((place, entered.revision));
        }
        match self.proclaim(&**store, place.created).await {
            Ok(_) => Ok((place, entered.revision)),
            Err(error) => {
                place.keep();
                Err(error)
            }
        }
    }

    /// Changes the value, if the key is still the one made at `created`.
    async fn proclaim(&self, store: &dyn Store, created: Revision) -> Result<Revision, Status> {
        let compare = vec![line::created_at(&self.key, created)];
        let request = TxnRequest { compare, success: vec![self.put()], failure: Vec::new() };
        let answer = store.txn(request).await.map_err(told)?;
        if answer.succeeded { Ok(answer.revision) } else { Err(Status::unknown("election: not leader")) }
    }

    fn put(&self) -> RequestOp {
        let (key, value) = (self.key.clone(), self.value.clone());
        RequestOp::Put(PutRequest { key, value, lease: self.lease, ..Default::default() })
    }
}

fn no_leader_key() -> Status {
    Status::unknown(r#""leader" field must be provided"#)
}
