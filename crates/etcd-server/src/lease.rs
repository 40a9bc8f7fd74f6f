//! Service Lease: keys that live as long as somebody says so.

use std::{pin::Pin, sync::Arc};

use etcd_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, lease_server::Lease,
};
use futures::{Stream, stream};
use store_api::StoreError;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{auth::Head, codes, shared::Shared};

pub(crate) struct Service(pub Arc<Shared>);

/// The TTL told for a lease that does not exist, when time to live is asked.
const NO_SUCH_LEASE: i64 = -1;

#[async_trait]
impl Lease for Service {
    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Result<Response<LeaseGrantResponse>, Status> {
        let store = self.0.store_for(&request).await?;
        let request = request.into_inner();
        let lease = store.lease_grant(request.id, request.ttl).await.map_err(|e| codes::status(&e))?;
        let header = self.0.header_now().await?;
        Ok(Response::new(LeaseGrantResponse { header, id: lease.id, ttl: lease.ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let store = self.0.store_for(&request).await?;
        let revision = store.lease_revoke(request.into_inner().id).await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(LeaseRevokeResponse { header: self.0.header(revision) }))
    }

    /// Answers each request before it reads the next: the connection's own window is the bound.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (metadata, extensions, requests) = request.into_parts();
        let sender = (metadata, extensions);
        let answers = stream::unfold(Some((self.0.clone(), sender, requests)), |state| async move {
            let (shared, sender, mut requests) = state?;
            match requests.message().await {
                Ok(None) => None,
                Ok(Some(request)) => match keep_alive(&shared, &sender, request.id).await {
                    Ok(response) => Some((Ok(response), Some((shared, sender, requests)))),
                    Err(status) => Some((Err(status), None)),
                },
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let store = self.0.store_for(&request).await?;
        let request = request.into_inner();
        let status = match store.lease_time_to_live(request.id, request.keys).await {
            Ok(status) => status,
            Err(StoreError::LeaseNotFound(id)) => {
                store_api::LeaseStatus { id, ttl: NO_SUCH_LEASE, ..Default::default() }
            }
            Err(error) => return Err(codes::status(&error)),
        };
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: self.0.header_now().await?,
            id: request.id,
            ttl: status.ttl,
            granted_ttl: status.granted_ttl,
            keys: status.keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let store = self.0.store_for(&request).await?;
        let ids = store.leases().await.map_err(|e| codes::status(&e))?;
        let leases = ids.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: self.0.header_now().await?, leases }))
    }
}

/// Renews a lease for whoever opened the stream: asked anew for each request, because users and roles may change
/// meanwhile. A lease that is gone is told by a TTL of 0, not by an error that would end the stream for all others on it.
pub(crate) async fn keep_alive(shared: &Shared, sender: &dyn Head, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    let store = shared.access(sender).await.map_err(|error| codes::status(&error))?;
    let ttl = match store.lease_keep_alive(id).await {
        Ok(lease) => lease.ttl,
        Err(StoreError::LeaseNotFound(_)) => 0,
        Err(error) => return Err(codes::status(&error)),
    };
    Ok(LeaseKeepAliveResponse { header: shared.header_now().await?, id, ttl })
}
