//! The database of a running member, over Maintenance.Snapshot.

use std::{future::Future, time::Duration};

use etcd_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse, maintenance_client::MaintenanceClient};
use store_api::StoreError;
use tonic::{Response, Status, Streaming};

use crate::{
    ConnectError, Options, errors,
    user::{Session, User},
};

/// How long the member may be silent: before the first message it measures, which takes as long as it has data.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// A database on its way, message by message. The last 32 bytes are the SHA-256 of those before them.
pub struct SnapshotStream(Streaming<SnapshotResponse>);

/// Asks the first endpoint that answers for its database.
pub async fn snapshot(options: &Options, user: Option<&User>) -> Result<SnapshotStream, ConnectError> {
    let session = Session::open(options, user).await?;
    let mut maintenance = MaintenanceClient::new(session.channel.clone());
    let called = within(SILENCE_LIMIT, maintenance.snapshot(session.request(SnapshotRequest {}))).await;
    called.map(SnapshotStream).map_err(|source| session.failed(source))
}

impl SnapshotStream {
    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<SnapshotResponse>, StoreError> {
        let message = async { self.0.message().await.map(Response::new) };
        within(SILENCE_LIMIT, message).await
    }
}

pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(errors::store_error(&status, errors::Context::default())),
        Err(_) => Err(StoreError::Timeout),
    }
}
