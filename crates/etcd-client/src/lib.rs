//! The store trait over a real etcd's gRPC, so that everything above it runs on an etcd that stands already.
//!
//! ```text
//!   dyn Store ─▶ Client ─▶ one HTTP/2 connection ─▶ the first endpoint that answers
//!                  └─ Watcher: one stream per watch
//! ```
//!
//! Reconnects by itself. Repeats a read whose connection broke, but never a write: it may have happened. A watch that
//! breaks ends with an error, and its owner takes it up again from the revision that it has seen.

mod connect;
mod convert;
mod errors;
mod shards;
mod snapshot;
mod user;
mod watch;

use std::{future::Future, path::PathBuf, time::Duration};

use async_trait::async_trait;
use etcd_proto::etcdserverpb::{
    self as pb, kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    watch_client::WatchClient,
};
use store_api::{self as api, LeaseId, Revision, Store, StoreError};
use tonic::{Response, Status, transport::Channel};

pub use errors::ConnectError;
use errors::store_error;
pub use shards::{shard_move, shards};
pub use snapshot::{SnapshotStream, snapshot};
pub use user::User;

/// Attempts at a read, the first included.
const READ_ATTEMPTS: u32 = 3;
/// The pause before a read is repeated; doubled each time.
const READ_PAUSE: Duration = Duration::from_millis(100);
/// The largest answer that is taken: lists come in pages, but a page of large objects is large.
const MAX_RESPONSE_BYTES: usize = 512 << 20;

/// Where the etcd is, and how to trust it.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port`, `https://host:port` or `unix:///path`, tried in this order.
    pub endpoints: Vec<String>,
    /// The authority that signed the servers' certificates (`--etcd-cafile`). Needed for https.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate (`--etcd-certfile`) and key (`--etcd-keyfile`).
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How long one request may take.
    pub request_timeout: Duration,
}

impl Options {
    /// Plain options for these endpoints.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Options {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// A connection to an etcd cluster. Clones share it.
#[derive(Clone)]
pub struct Client {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    timeout: Duration,
}

impl Client {
    /// Checks the options, connects, and asks the server for its status once, so that a wrong address is told here.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let channel = connect::channel(&options)?;
        let client = Client {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES),
            lease: LeaseClient::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES),
            maintenance: MaintenanceClient::new(channel),
            timeout: options.request_timeout,
        };
        match client.status().await {
            Ok(status) => tracing::info!(version = status.version, endpoints = ?options.endpoints, "etcd answers"),
            Err(source) => return Err(ConnectError::Unreachable { endpoints: options.endpoints.join(", "), source }),
        }
        Ok(client)
    }

    /// One attempt at a request, within its time.
    async fn once<T>(
        &self,
        context: errors::Context,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(store_error(&status, context)),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// Repeats a read while the server is away, a bounded number of times.
    async fn read<T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        context: errors::Context,
        mut call: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        let mut pause = READ_PAUSE;
        for _ in 1..READ_ATTEMPTS {
            match self.once(context, call()).await {
                Err(error) if is_away(&error) => tracing::debug!(%error, "etcd read is repeated"),
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.once(context, call()).await
    }
}

/// Whether nobody has answered, or nobody who could.
fn is_away(error: &StoreError) -> bool {
    use StoreError::{LeaderChanged, NoLeader, Timeout, Unavailable};
    matches!(error, Unavailable(_) | NoLeader | LeaderChanged | Timeout)
}

#[async_trait]
impl Store for Client {
    async fn range(&self, request: api::RangeRequest) -> Result<api::RangeResponse, StoreError> {
        let context = errors::Context::revision(request.revision);
        let request = convert::range_request(request);
        let answer = self.read(context, || {
            let (mut kv, request) = (self.kv.clone(), request.clone());
            async move { kv.range(request).await }
        });
        Ok(convert::range_response(answer.await?))
    }

    async fn put(&self, request: api::PutRequest) -> Result<api::PutResponse, StoreError> {
        let context = errors::Context::lease(request.lease);
        let answer = self.once(context, self.kv.clone().put(convert::put_request(request))).await?;
        Ok(convert::put_response(answer))
    }

    async fn delete_range(&self, request: api::DeleteRangeRequest) -> Result<api::DeleteRangeResponse, StoreError> {
        let request = convert::delete_request(request);
        let answer = self.once(errors::Context::default(), self.kv.clone().delete_range(request)).await?;
        Ok(convert::delete_response(answer))
    }

    async fn txn(&self, request: api::TxnRequest) -> Result<api::TxnResponse, StoreError> {
        let request = convert::txn_request(request);
        let answer = self.once(errors::Context::default(), self.kv.clone().txn(request)).await?;
        convert::txn_response(answer)
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, StoreError> {
        let request = pb::CompactionRequest { revision, physical };
        let context = errors::Context::revision(revision);
        let answer = self.once(context, self.kv.clone().compact(request)).await?;
        Ok(convert::revision(answer.header.as_ref()))
    }

    async fn watch(&self, request: api::WatchRequest) -> Result<Box<dyn api::Watcher>, StoreError> {
        let opened = tokio::time::timeout(self.timeout, watch::open(self.watch.clone(), request)).await;
        let opened = opened.map_err(|_| StoreError::Unavailable("watch was not created in time".into()))?;
        Ok(Box::new(opened?))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<api::Lease, StoreError> {
        let request = pb::LeaseGrantRequest { id, ttl };
        let answer = self.once(errors::Context::lease(id), self.lease.clone().lease_grant(request)).await?;
        Ok(api::Lease { id: answer.id, ttl: answer.ttl })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        let request = pb::LeaseRevokeRequest { id };
        let answer = self.once(errors::Context::lease(id), self.lease.clone().lease_revoke(request)).await?;
        Ok(convert::revision(answer.header.as_ref()))
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<api::Lease, StoreError> {
        let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let mut client = self.lease.clone();
        let call = async move {
            let mut answers = client.lease_keep_alive(requests).await?.into_inner();
            let answer = answers.message().await?;
            Ok(Response::new(answer.ok_or_else(|| Status::unavailable("lease stream ended"))?))
        };
        let answer = self.once(errors::Context::lease(id), call).await?;
        // A lease that is gone is told by a TTL of 0.
        if answer.ttl > 0 { Ok(api::Lease { id, ttl: answer.ttl }) } else { Err(StoreError::LeaseNotFound(id)) }
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<api::LeaseStatus, StoreError> {
        let answer = self.read(errors::Context::lease(id), || {
            let mut client = self.lease.clone();
            async move { client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await }
        });
        let answer = answer.await?;
        Ok(api::LeaseStatus { id, ttl: answer.ttl, granted_ttl: answer.granted_ttl, keys: answer.keys })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        let answer = self.read(errors::Context::default(), || {
            let mut client = self.lease.clone();
            async move { client.lease_leases(pb::LeaseLeasesRequest {}).await }
        });
        Ok(answer.await?.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// etcd tells neither its compact revision nor its number of keys: both are 0 here.
    async fn status(&self) -> Result<api::Status, StoreError> {
        let answer = self.read(errors::Context::default(), || {
            let mut client = self.maintenance.clone();
            async move { client.status(pb::StatusRequest {}).await }
        });
        Ok(convert::status(answer.await?))
    }

    async fn hash_kv(&self, revision: Revision) -> Result<api::HashKv, StoreError> {
        let answer = self.read(errors::Context::revision(revision), || {
            let mut client = self.maintenance.clone();
            async move { client.hash_kv(pb::HashKvRequest { revision }).await }
        });
        let answer = answer.await?;
        let revision_now = convert::revision(answer.header.as_ref());
        Ok(api::HashKv {
            hash: answer.hash,
            // A server before 3.6 does not tell; it hashed at the revision asked for.
            hash_revision: match (answer.hash_revision, revision) {
                (0, 0) => revision_now,
                (0, asked) => asked,
                (told, _) => told,
            },
            compact_revision: answer.compact_revision,
            revision: revision_now,
        })
    }
}
