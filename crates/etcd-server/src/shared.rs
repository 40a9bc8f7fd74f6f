//! What all services of one server share: the store, who the member is, and how a response's header is made.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use etcd_proto::etcdserverpb::ResponseHeader;
use prost::Message;
use store_api::{Cluster, Demand, RangeRequest, Revision, Status as StoreStatus, Store, StoreError};
use tonic::{Request, Status};

use crate::{
    Options,
    auth::{Access, Gate, Head},
    codes,
    downgrade::Downgrade,
    leader::Losses,
};

pub(crate) struct Shared {
    pub store: Arc<dyn Store>,
    /// The store as whoever does not say their name may use it.
    pub anybody: Arc<dyn Store>,
    pub cluster: Option<Arc<dyn Cluster>>,
    pub downgrade: Downgrade,
    pub name: String,
    pub client_urls: Vec<String>,
    /// The etcd version whose behaviour is served.
    pub version: String,
    pub max_request_bytes: usize,
    /// Absent before a store that knows no users.
    pub gate: Option<Arc<Gate>>,
    pub losses: Losses,
    cluster_id: u64,
    member_id: u64,
    raft_term: AtomicU64,
}

impl Shared {
    pub async fn start(options: Options) -> Result<Self, StoreError> {
        let status = options.store.status().await?;
        let anybody = options.auth.as_ref().map(|guard| guard.auth.as_caller(None));
        Ok(Shared {
            anybody: anybody.unwrap_or_else(|| options.store.clone()),
            store: options.store,
            cluster: options.cluster,
            downgrade: Downgrade::default(),
            name: options.name,
            client_urls: options.client_urls,
            version: status.version,
            max_request_bytes: options.max_request_bytes,
            gate: options.auth.map(|auth| Arc::new(Gate::new(auth))),
            losses: Losses::default(),
            cluster_id: status.cluster_id,
            member_id: status.member_id,
            raft_term: AtomicU64::new(status.raft_term),
        })
    }

    /// The member's id as etcd writes it.
    pub fn id_text(&self) -> String {
        format!("{:x}", self.member_id)
    }

    /// The store as the sender of a request may use it.
    pub async fn store_for<T>(&self, request: &Request<T>) -> Result<Access<'_>, Status> {
        let head = (request.metadata().as_ref(), request.extensions());
        self.access(&head).await.map_err(|error| codes::status(&error))
    }

    /// As [`Shared::store_for`], for a request with that head, or a stream whose requests share it.
    pub async fn access(&self, head: &dyn Head) -> Result<Access<'_>, StoreError> {
        match &self.gate {
            Some(gate) => gate.access(&self.anybody, head).await,
            None => Ok(Access::Open(&self.anybody)),
        }
    }

    /// Refuses a request that touches no key and that its sender may not make.
    pub async fn demand<T>(&self, request: &Request<T>, demand: Demand) -> Result<(), Status> {
        self.check(request, demand).await.map_err(|error| codes::status(&error))
    }

    /// As [`Shared::demand`] for root, where etcd hands the words of its log on without a code.
    pub async fn demand_admin_bluntly<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.check(request, Demand::Admin).await.map_err(|error| match error {
            StoreError::Auth(error) => Status::unknown(error.to_string()),
            error => codes::status(&error),
        })
    }

    async fn check<T>(&self, request: &Request<T>, demand: Demand) -> Result<(), StoreError> {
        match &self.gate {
            Some(gate) => gate.demand(&(request.metadata().as_ref(), request.extensions()), demand).await,
            None => Ok(()),
        }
    }

    /// The header of an answer as of `revision`.
    pub fn head(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.raft_term.load(Ordering::Relaxed),
        }
    }

    /// As [`Shared::head`], for a generated message's field.
    pub fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(self.head(revision))
    }

    /// The store's own account of itself; keeps the term of later headers up to date.
    pub async fn status(&self) -> Result<StoreStatus, Status> {
        let status = self.store.status().await.map_err(|error| codes::status(&error))?;
        self.raft_term.store(status.raft_term, Ordering::Relaxed);
        Ok(status)
    }

    /// The newest revision, from a read that finds nothing: much cheaper than the whole status.
    pub async fn revision(&self) -> Result<Revision, Status> {
        let nothing = RangeRequest { count_only: true, serializable: true, ..RangeRequest::key(&[0][..]) };
        let answer = self.store.range(nothing).await.map_err(|error| codes::status(&error))?;
        Ok(answer.revision)
    }

    /// A header with the newest revision, for answers that do not come with one of their own.
    pub async fn header_now(&self) -> Result<Option<ResponseHeader>, Status> {
        Ok(self.header(self.revision().await?))
    }

    /// Refuses a write that is larger than the bound.
    pub fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        self.check_len(request.encoded_len())
    }

    /// As [`Shared::check_size`], for a message of so many bytes.
    pub fn check_len(&self, size: usize) -> Result<(), Status> {
        if size > self.max_request_bytes {
            return Err(codes::status(&StoreError::TooLarge { size, limit: self.max_request_bytes }));
        }
        Ok(())
    }
}
