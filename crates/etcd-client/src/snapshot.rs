//! The database of a running member, over Maintenance.Snapshot.

use std::{future::Future, time::Duration};

use etcd_proto::etcdserverpb::{
    AuthenticateRequest, SnapshotRequest, SnapshotResponse, auth_client::AuthClient,
    maintenance_client::MaintenanceClient,
};
use store_api::StoreError;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use crate::{ConnectError, Options, connect, errors};

/// The header that carries a user's token.
const TOKEN: &str = "token";
/// How long the member may be silent: before the first message it measures, which takes as long as it has data.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// A database on its way, message by message. The last 32 bytes are the SHA-256 of those before them.
pub struct SnapshotStream(Streaming<SnapshotResponse>);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password: String,
}

/// Asks the first endpoint that answers for its database.
pub async fn snapshot(options: &Options, user: Option<&User>) -> Result<SnapshotStream, ConnectError> {
    let channel = connect::channel(options)?;
    let unreachable = |source| ConnectError::Unreachable { endpoints: options.endpoints.join(", "), source };
    let mut request = Request::new(SnapshotRequest {});
    if let Some(User { name, password }) = user {
        let asked = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let mut auth = AuthClient::new(channel.clone());
        let token = within(options.request_timeout, auth.authenticate(asked)).await.map_err(unreachable)?.token;
        let wrong = |_| unreachable(StoreError::InvalidArgument("the token cannot be sent".to_owned()));
        request.metadata_mut().insert(TOKEN, MetadataValue::try_from(token).map_err(wrong)?);
    }
    let mut maintenance = MaintenanceClient::new(channel);
    within(SILENCE_LIMIT, maintenance.snapshot(request)).await.map(SnapshotStream).map_err(unreachable)
}

impl SnapshotStream {
    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<SnapshotResponse>, StoreError> {
        let message = async { self.0.message().await.map(Response::new) };
        within(SILENCE_LIMIT, message).await
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(errors::store_error(&status, errors::Context::default())),
        Err(_) => Err(StoreError::Timeout),
    }
}
