//! What all services of one server share: the store, who the member is, and how a response's header is made.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use etcd_proto::etcdserverpb::ResponseHeader;
use prost::Message;
use store_api::{RangeRequest, Revision, Status as StoreStatus, Store, StoreError};
use tonic::Status;

use crate::{Options, codes};

pub(crate) struct Shared {
    pub store: Arc<dyn Store>,
    pub name: String,
    pub client_urls: Vec<String>,
    pub max_request_bytes: usize,
    cluster_id: u64,
    member_id: u64,
    raft_term: AtomicU64,
}

impl Shared {
    pub async fn start(options: Options) -> Result<Self, StoreError> {
        let status = options.store.status().await?;
        Ok(Shared {
            store: options.store,
            name: options.name,
            client_urls: options.client_urls,
            max_request_bytes: options.max_request_bytes,
            cluster_id: status.cluster_id,
            member_id: status.member_id,
            raft_term: AtomicU64::new(status.raft_term),
        })
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
